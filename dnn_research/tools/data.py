"""Prepares, verifies and shows data sets.

    python -m dnn_research.tools.data prepare cifar10 cifar-10-python.tar.gz [--data_dir DIR]
    python -m dnn_research.tools.data verify --config configs/resnet110_cifar10.py
    python -m dnn_research.tools.data show --config configs/resnet50.py [--augmented] --output grid.png

`prepare` makes of the publishers' archives (files, or a folder that holds them) what TensorFlow Datasets makes of them,
without TensorFlow; then `tfds:cifar10` works. `verify` reads every example of a recipe's splits; its exit status is 1
when something is wrong. `show` draws some images of each class, as they are or as the recipe augments them. Fields of
the config can be changed: --config.data.source=...
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dnn_research import data, recipe
from dnn_research.arguments import CaughtParser, answer, check_figure, config_overrides
from dnn_research.data.tfds_source import root_directory
from dnn_research.errors import UserError, check_seed, choose, construct
from dnn_research.tools.examining import pictures, verification
from dnn_research.tools.preparing import PREPARATIONS, writing


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments

    def command() -> int:
        known, rest = _parser().parse_known_args(words)
        given = config_overrides(rest, allowed=known.command != "prepare")
        match known.command:
            case "prepare":
                return _prepare(known)
            case "verify":
                return _verify(known, _dataset(known.config, given))
            case _:
                return _show(known, _dataset(known.config, given))

    return answer(command, debug="--debug" in words)


def _prepare(known: argparse.Namespace) -> int:
    preparation = choose(PREPARATIONS, known.name, "data set")
    root = root_directory(known.data_dir)
    directory, counts = writing.prepare(known.name, preparation, known.archives, root=root, partial=known.partial)
    print(f"wrote {directory}: {', '.join(f'{split} {count:,}' for split, count in counts.items())} examples")
    where = f" with --config.data.dir={root}" if known.data_dir else ""
    print(f"its name is tfds:{known.name}{where}")
    return 0


def _verify(known: argparse.Namespace, dataset: data.Dataset) -> int:
    findings = verification.verify(dataset, threads=max(1, dataset.num_workers))
    print(verification.table(findings))
    problems = findings.problems()
    print("\n".join(problems) if problems else "nothing is wrong")
    return 1 if problems else 0


def _show(known: argparse.Namespace, dataset: data.Dataset) -> int:
    if known.output.exists() and not known.overwrite:
        raise UserError(f"{known.output} is there already; give another --output, or --overwrite")
    check_figure("--output", known.output)
    check_seed(known.seed, "--seed")
    for option in ("classes", "per_class"):
        if getattr(known, option) < 1:
            raise UserError(f"--{option} is {getattr(known, option)}: give 1 or more")
    names = dataset.class_names or ("pictures",)
    labels = range(min(known.classes, len(names)))
    examples = pictures.augmented if known.augmented else pictures.originals
    found = pictures.by_class(examples(dataset, known.seed), labels, known.per_class)
    how = f"as {known.config} augments it" if known.augmented else dataset.version
    figure = pictures.draw(found, names, f"{dataset.name}, {dataset.train_split}, {how}")
    known.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(known.output, dpi=110)
    except ValueError as error:
        raise UserError(f"{known.output} cannot be written: {error}") from error
    print(f"wrote {known.output}")
    return 0


def _dataset(config: str, given: Sequence[str]) -> data.Dataset:
    chosen = recipe.load(config, given).config.to_dict()
    return construct(data.create, "config.data", chosen["data"])


def _parser() -> argparse.ArgumentParser:
    parser = CaughtParser(
        prog="python -m dnn_research.tools.data", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)

    prepare = commands.add_parser("prepare", allow_abbrev=False, help="of the publishers' archives")
    prepare.add_argument("name", help=", ".join(PREPARATIONS))
    prepare.add_argument("archives", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    prepare.add_argument("--data_dir", help="where data sets are; default: $TFDS_DATA_DIR, or ~/tensorflow_datasets")
    prepare.add_argument("--partial", action="store_true", help="archives with fewer examples than were published")

    verify = commands.add_parser("verify", allow_abbrev=False, help="reads every example")
    show = commands.add_parser("show", allow_abbrev=False, help="draws some images of each class")
    for command in (verify, show):
        command.add_argument("--config", required=True, metavar="FILE[:WORD,...]", help="a recipe")
    show.add_argument("--augmented", action="store_true", help="as the recipe augments them")
    show.add_argument("--classes", type=int, default=10, metavar="N", help="so many rows at most (default 10)")
    show.add_argument("--per_class", type=int, default=8, metavar="N", help="images in a row (default 8)")
    show.add_argument("--seed", type=int, default=0, help="of the choice, and of augmentation")
    show.add_argument("--output", type=Path, required=True, help="the picture, .png, .svg or .pdf")
    show.add_argument("--overwrite", action="store_true", help="replace the picture if it is there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
