"""The networks of the papers layer by layer, as data: `tables/*.md`.

Parameters count weights, biases, and the scale and offset of a normalization that follows; multiply-adds are those of
kernels for one image.
"""

import dataclasses
import re
from fractions import Fraction
from pathlib import Path

TABLES = Path(__file__).parent / "tables"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table; `kernel`, `stride` and `padding` are None where the line has none."""

    layer: str
    op: str
    kernel: int | None
    stride: Fraction | None
    padding: int | None
    groups: int
    in_channels: int
    out_channels: int
    height: int
    width: int
    params: int
    macs: int


def rows(name: str) -> list[Row]:
    """The lines of `tables/<name>.md`, without its total."""
    return [_row(cells) for cells in _cells(name) if "total" not in cells[0]]


def totals(name: str) -> tuple[int, int]:
    """(parameters, multiply-adds) that the table ends with; the lines add up to them."""
    (total,) = [cells for cells in _cells(name) if "total" in cells[0]]
    params, macs = (_number(cell) for cell in total[-2:])
    assert (params, macs) == (sum(row.params for row in rows(name)), sum(row.macs for row in rows(name)))
    return params, macs


def _cells(name: str) -> list[list[str]]:
    lines = (TABLES / f"{name}.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.startswith("|")]
    return [cells for cells in table if cells[0] != "layer" and not set(cells[0]) <= set("-: ")]


def _row(cells: list[str]) -> Row:
    layer, op, geometry, groups, channels, size, params, macs = cells
    kernel, stride, padding = geometry.split(" / ") if geometry else (None, None, None)
    in_channels, out_channels = (int(n) for n in channels.split("->"))
    height, width = (int(n) for n in size.split("x"))
    return Row(
        layer, op, kernel and int(kernel), stride and Fraction(stride), padding and int(padding), int(groups or 1),
        in_channels, out_channels, height, width, _number(params), _number(macs),
    )  # fmt: skip


def _number(cell: str) -> int:
    return int(re.sub(r"[*,]", "", cell))
