"""Evaluates a run's network, or an ensemble of several runs', under one protocol or several.

    python -m dnn_research.tools.evaluate --workdir runs/vgg16 --protocols "single_crop,ten_crop,dense(scales=(384,))"
    python -m dnn_research.tools.evaluate --workdir runs/vgg16 --workdir runs/vgg19 --protocols dense --json
    python -m dnn_research.tools.evaluate --workdir runs/quickstart --classes --confusion confusion.png

Beside each protocol stands how many points it alone is worth against the run's own, and what it costs. An ensemble's
softmax outputs are averaged. Without --protocols the run's own is taken.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnn_research import process
from dnn_research.arguments import Parser, answer, check_figure
from dnn_research.errors import UserError

# Above so many classes a confusion matrix of every batch would take longer to fetch than the network takes.
CONFUSION_CLASSES = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    known = _parser().parse_args(arguments)
    process.use_compilation_cache()
    return answer(lambda: _run(known), debug=known.debug)


def _run(known: argparse.Namespace) -> None:
    if known.confusion:
        check_figure("--confusion", known.confusion, (".csv",))
    if known.confusion and known.confusion.exists() and not known.overwrite:
        raise UserError(f"{known.confusion} is there already; give another file, or --overwrite")
    # Here, not above: the compilation cache must be chosen before jax is imported.
    from dnn_research.data import protocols
    from dnn_research.tools.evaluating.members import evaluate, open_member, own_protocol

    given = {"dir": known.data_dir, "source": known.source, "eval_split": known.split}
    changes = {key: value for key, value in given.items() if value is not None}
    members = [open_member(run, known.checkpoint, ema=known.ema, changes=changes) for run in known.workdir]
    first, own = members[0], own_protocol(members[0])
    wanted = [own]
    if known.protocols:
        size = first.config["data"]["image_size"]
        wanted = protocols.parse(known.protocols, image_size=size, defaults=protocols.parameters(first.config))
        if own.description not in [protocol.description for protocol in wanted]:
            wanted = [own, *wanted]
    count = bool(known.classes or known.confusion)
    if count and first.classes > CONFUSION_CLASSES:
        raise UserError(f"classes are counted up to {CONFUSION_CLASSES:,}; this network has {first.classes:,}")
    batch_size = first.config["eval"]["batch_size"] if known.batch_size is None else known.batch_size
    rows = evaluate(members, wanted, batch_size, classes=count)
    _show(known, rows, members)


def _show(known: argparse.Namespace, rows: Sequence[Any], members: Sequence[Any]) -> None:
    from dnn_research import confusion
    from dnn_research.tools.evaluating import report

    last, named = rows[-1], members[0].dataset.class_names
    matrix = last.outcome.confusion
    if known.json:
        results = report.as_results(rows, members)
        for row, result in zip(rows, results, strict=True):
            if row.outcome.confusion is not None:
                result["classes"] = confusion.per_class(row.outcome.confusion, named)
        print(json.dumps(results, indent=1))
    else:
        print(report.as_table(rows, members))
    if matrix is not None and known.confusion:
        known.confusion.parent.mkdir(parents=True, exist_ok=True)
        if known.confusion.suffix.lower() == ".csv":
            known.confusion.write_text(confusion.as_csv(matrix, named))
        else:
            title = f"{last.under}\n{members[0].task.sentence(last.outcome.values)}"
            confusion.draw(matrix, named, title=title).savefig(known.confusion, dpi=110)
        print(f"wrote {known.confusion}, of {last.name}", file=sys.stderr)
    if not known.json:
        if matrix is not None and known.classes:
            print(f"\nclasses, by {last.name}:\n{confusion.table(matrix, named)}")
        print(members[0].task.sentence(last.outcome.values))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dnn_research.tools.evaluate", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--workdir", type=Path, required=True, action="append", help="of a run; several times for an ensemble"
    )
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best, or a step")
    parser.add_argument("--ema", action="store_true", help="the moving average of the parameters")
    parser.add_argument(
        "--protocols",
        help="such as 'single_crop,ten_crop(resize=288),dense(scales=(256,384))'; also original, googlenet_crops, "
        "vgg_crops, dense_and_crops; sizes that have no default are the recipe's; the run's own is always there",
    )
    parser.add_argument(
        "--batch_size", type=int, help="images of the network's size at a time; the recipe's if not given"
    )
    parser.add_argument("--source", help="another data set, as data.source")
    parser.add_argument("--split", help="another split, as data.eval_split")
    parser.add_argument("--data_dir", help="where prepared data sets are, as data.dir")
    parser.add_argument("--classes", action="store_true", help="accuracy of each class, under the last protocol")
    parser.add_argument("--confusion", type=Path, metavar="FILE", help="confusion matrix: .png, .svg, .pdf or .csv")
    parser.add_argument("--overwrite", action="store_true", help="replace that file if it is there")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    process.prepare()
    sys.exit(main())
