"""Which classes are taken for which: per-class accuracy and the confusion matrix, as tables and as a picture.

A confusion matrix holds counts of examples: rows are the true classes, columns what they were taken for.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

# Up to so many classes, the cells of the picture show their numbers.
NUMBERED = 25


def names_of(classes: int, named: Sequence[str]) -> list[str]:
    """A name for each of the network's classes, which may be more than the data set's names."""
    return [*named[:classes], *(f"class {number}" for number in range(len(named), classes))]


def per_class(matrix: np.ndarray, named: Sequence[str]) -> list[dict[str, Any]]:
    """For each class `name`, `examples`, `right`, `accuracy` (0..1) and `taken_for`, the wrong class it was most often
    taken for. Accuracy is None without examples, `taken_for` without errors.
    """
    names = names_of(len(matrix), named)
    rows = []
    for number, counts in enumerate(matrix):
        wrong = counts.copy()
        wrong[number] = 0
        examples, right = int(counts.sum()), int(counts[number])
        rows.append(
            {
                "name": names[number],
                "examples": examples,
                "right": right,
                "accuracy": right / examples if examples else None,
                "taken_for": names[int(wrong.argmax())] if wrong.any() else None,
            }
        )
    return rows


def table(matrix: np.ndarray, named: Sequence[str]) -> str:
    """`per_class` as a Markdown table, the least accurate class first."""
    rows = [row for row in per_class(matrix, named) if row["examples"]]
    lines = ["| class | examples | right | accuracy | most often taken for |", "|---|---:|---:|---:|---|"]
    for row in sorted(rows, key=lambda row: row["accuracy"]):
        lines.append(
            f"| {row['name']} | {row['examples']:,} | {row['right']:,} | {100 * row['accuracy']:.2f} % | "
            f"{row['taken_for'] or ''} |"
        )
    return "\n".join(lines)


def as_csv(matrix: np.ndarray, named: Sequence[str]) -> str:
    """The matrix with the names of the classes: a row for each true class, a column for each that it was taken for."""
    names = names_of(len(matrix), named)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true class", *names])
    writer.writerows([name, *map(int, counts)] for name, counts in zip(names, matrix, strict=True))
    return text.getvalue()


def draw(matrix: np.ndarray, named: Sequence[str], *, title: str) -> Any:
    """A matplotlib figure: shares of each true class, beside each class its accuracy."""
    # Imported here because most of what imports this module draws nothing, and it takes half a second.
    from matplotlib.figure import Figure

    classes = len(matrix)
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name in names_of(classes, named)]
    examples = matrix.sum(axis=1)
    shares = matrix / np.maximum(examples, 1)[:, None]
    side = min(22.0, 4.0 + 0.38 * classes)
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    size = 8 if classes <= NUMBERED else max(3.5, 8 - classes / 25)
    accuracies = [
        f"{name}  {100 * share:.1f} %" if count else name
        for name, share, count in zip(names, shares.diagonal(), examples, strict=True)
    ]
    # A name with dollars is no mathematics.
    axes.set_xticks(range(classes), names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(classes), accuracies, fontsize=size, parse_math=False)
    axes.set(xlabel="taken for", ylabel="true class, and its accuracy")
    axes.set_title(title, fontsize=9, wrap=True, parse_math=False)
    figure.colorbar(shown, ax=axes, label="share of the true class [%]", fraction=0.04)
    if classes <= NUMBERED:
        for row, column in zip(*matrix.nonzero(), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def picture(matrix: np.ndarray, named: Sequence[str], *, title: str) -> np.ndarray:
    """`draw` as uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(draw(matrix, named, title=title))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
