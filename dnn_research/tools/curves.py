"""Draws the training curves of several runs into one picture.

python -m dnn_research.tools.curves runs/residual-plain-20 runs/residual-residual-20 --output curves.png
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.figure

from dnn_research import record
from dnn_research.arguments import Parser, answer, check_figure
from dnn_research.data import conditions
from dnn_research.errors import UserError

PANELS = {
    ("train", "loss"): "training loss",
    ("train", "top1_accuracy"): "training top-1 error [%]",
    ("eval", "top1_accuracy"): "evaluation top-1 error [%]",
}


def read(workdir: Path) -> list[dict]:
    """The lines of a run's metrics.jsonl.

    Raises:
        UserError: there is no such file, it is empty, or a line of it is none of metrics.
    """
    lines = record.read_metrics(workdir)
    if not lines:
        raise UserError(f"{workdir / 'metrics.jsonl'} is empty: nothing was recorded yet")
    return lines


def labels(workdirs: Sequence[Path]) -> list[str]:
    """The ends of the paths, as short as tells them apart."""
    absolute = [workdir.absolute() for workdir in workdirs]
    depth = 1
    while len({path.parts[-depth:] for path in absolute}) < len(set(absolute)):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in absolute]


def draw(workdirs: Sequence[Path]) -> matplotlib.figure.Figure:
    """One panel each for training loss, training error and evaluation error against steps, one line a run.

    Where the runs were evaluated under unlike conditions, the last panel says so.
    """
    figure = matplotlib.figure.Figure(figsize=(5 * len(PANELS), 4.2), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    evaluated = []
    for number, (workdir, label) in enumerate(zip(workdirs, labels(workdirs), strict=True)):
        lines = read(workdir)
        evaluated += [line for line in lines if line["split"] == "eval"]
        for axis, (split, key) in zip(axes, PANELS, strict=True):
            # Not every task measures accuracy.
            points = [(line["step"], line[key]) for line in lines if line["split"] == split and key in line]
            steps, values = zip(*points, strict=True) if points else ((), ())
            if key == "top1_accuracy":
                values = [100 * (1 - value) for value in values]
            # Matplotlib hides labels that begin with an underscore, and sets what is between dollars as mathematics.
            shown = f"./{label}" if label.startswith("_") else label
            axis.plot(
                steps,
                values,
                label=shown.replace("$", r"\$"),
                color=f"C{number}",
                marker="." if split == "eval" else None,
            )
    for axis, title in zip(axes, PANELS.values(), strict=True):
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    unlike = conditions.unlike(evaluated)
    axes[-1].legend(title=f"NOT COMPARABLE: {', '.join(unlike)} differ" if unlike else None)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = Parser(prog="python -m dnn_research.tools.curves", description=__doc__.splitlines()[0])
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="work directory of a run")
    parser.add_argument("--output", type=Path, required=True, help="the picture, .png, .svg or .pdf")
    parser.add_argument("--overwrite", action="store_true", help="replace the picture if it is there")
    known = parser.parse_args(arguments)

    def command() -> None:
        try:
            if known.output.exists() and not known.overwrite:
                raise UserError(f"{known.output} is there already; give another --output, or --overwrite")
            check_figure("--output", known.output)
            figure = draw(known.workdirs)
            known.output.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(known.output, dpi=110)
        except (OSError, ValueError) as error:
            raise UserError(f"{known.output} cannot be written: {error}") from error
        print(f"wrote {known.output}")

    return answer(command, debug=known.debug)


if __name__ == "__main__":
    sys.exit(main())
