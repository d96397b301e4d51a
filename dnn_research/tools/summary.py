"""Prints a network as a table: every layer with its shapes, parameters, multiply-adds and receptive field.

    python -m dnn_research.tools.summary --config configs/resnet152.py [--config.model.depth=50 ...]
        [--markdown | --json] [--fold]

Counts follow the papers: parameters are what is trained (no running statistics); multiply-adds are those of convolution
and fully connected kernels for one image, padding included, without biases, normalization, pooling and activations.
They are counted from the traced network, and compared with the program that training runs. The receptive field is the
theoretical one: the pixels of the image that one output unit depends on, padding included; 'all' from the first layer
on that sees the whole image by construction, a global pool or a fully connected layer. The activation memory is that
of the layers' outputs for one image in float32, 4 bytes a number; functions between the layers (ReLU, sums,
concatenations) have no line.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import flax.linen as nn

from dnn_research import data, models, recipe
from dnn_research.arguments import Parser, answer, config_overrides
from dnn_research.errors import UserError, construct
from dnn_research.models import tracing
from dnn_research.models.initialization import Operation, trace

BYTES = 4

HEADER = (
    *("layer", "operation", "kernel", "stride", "padding", "groups", "channels", "output"),
    *("parameters", "multiply-adds", "receptive field", "activation bytes"),
)
# The columns of numbers, and those of them that have totals.
NUMBERS = HEADER[8:]
TOTALS = ("parameters", "multiply-adds", "activation bytes")


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer. Shapes are those of one example, (H, W, C) or (C,).

    `connected` is the part of a convolution's kernel that exists: `macs` counts that, the program runs all of it.
    `receptive_field` is (vertical, horizontal) in pixels; None: the layer sees no image, or it cannot be told.
    """

    layer: str
    operation: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    params: int
    macs: int
    connected: Fraction
    receptive_field: tuple[int, int] | Literal["all"] | None
    activation_bytes: int


def count(model: nn.Module, image_shape: Sequence[int]) -> list[Row]:
    """A network's layers in the order in which they run, however it runs them.

    Args:
        model: the network.
        image_shape: (H, W, C).

    Raises:
        UserError: the network cannot take such images.
    """
    traced = trace(model, image_shape)
    params: dict[str, int] = {}
    for leaf in traced.leaves:
        collection, *layer = leaf.path[:-1]
        if collection == "params":
            params["/".join(layer)] = params.get("/".join(layer), 0) + math.prod(leaf.shape)
    found, nobodys = tracing.outputs(traced.program, images=1)
    if nobodys:
        raise RuntimeError(f"{nobodys:,} multiply-adds belong to no layer: a layer has not noted its operation")
    outputs = dict(zip(traced.followed, found, strict=True))
    untold = tracing.Output((tracing.UNKNOWN, tracing.UNKNOWN), 0)
    return [
        _row(operation, params.get(operation.name, 0), outputs.get(operation.name, untold))
        for operation in traced.operations
    ]


def _row(operation: Operation, params: int, output: tracing.Output) -> Row:
    macs = output.macs if operation.macs is None else operation.macs
    return Row(
        operation.name,
        operation.kind,
        operation.kernel,
        operation.strides,
        operation.padding,
        operation.groups,
        operation.in_shape,
        operation.out_shape,
        params,
        macs,
        Fraction(macs, output.macs) if output.macs else Fraction(1),
        _receptive_field(output.field),
        BYTES * math.prod(operation.out_shape),
    )


def _receptive_field(field: tuple[float, float]) -> tuple[int, int] | Literal["all"] | None:
    if tracing.ALL in field:
        return "all"
    vertical, horizontal = field
    return None if math.isnan(vertical) or math.isnan(horizontal) else (int(vertical), int(horizontal))


def macs_of_training(model: nn.Module, image_shape: Sequence[int]) -> int:
    """The multiply-adds of the forward pass for one image as training runs it.

    Beside a layer's own count (`Row.macs`) they include the connections that do not exist (`Row.connected`).
    """
    return tracing.forward_multiply_adds(model, image_shape, train=True)


def folded(rows: Sequence[Row]) -> list[Row]:
    """As the papers' tables have it: a normalization is part of its convolution, whose output counts once."""
    lines: list[Row] = []
    for row in rows:
        if row.operation in ("batch norm", "instance norm"):
            *lines, before = lines
            row = dataclasses.replace(
                before, operation=f"{before.operation} + {row.operation}", params=before.params + row.params
            )
        lines.append(row)
    return lines


def table(rows: Sequence[Row]) -> str:
    """The rows as text, with totals."""
    lines = [HEADER, *map(_cells, rows), _totals(rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))

    def text(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for name, cell, width in zip(HEADER, cells, widths, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    header, *body, total = map(text, lines)
    return "\n".join([header, rule, *body, rule, total])


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown, with totals."""
    alignment = ["---:" if name in NUMBERS else "---" for name in HEADER]
    total = [f"**{cell}**" if cell else "" for cell in _totals(rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEADER, alignment, *map(_cells, rows), total])


def _cells(row: Row) -> tuple[str, ...]:
    """A row in the order of `HEADER`."""
    missing = f", {row.connected} of the connections" if row.connected != 1 else ""
    if row.receptive_field is None or row.receptive_field == "all":
        sees = row.receptive_field or ""
    else:
        sees = _times(row.receptive_field)
    return (
        row.layer,
        row.operation + missing,
        _times(row.kernel),
        _times(row.strides),
        _padding(row.padding),
        str(row.groups),
        f"{row.in_shape[-1]} -> {row.out_shape[-1]}",
        _times(row.out_shape[:-1]) or "1x1",
        f"{row.params:,}",
        f"{row.macs:,}",
        sees,
        f"{row.activation_bytes:,}",
    )


def _sums(rows: Sequence[Row]) -> tuple[int, int, int]:
    """Parameters, multiply-adds, activation bytes."""
    return (
        sum(row.params for row in rows),
        sum(row.macs for row in rows),
        sum(row.activation_bytes for row in rows),
    )


def _totals(rows: Sequence[Row]) -> tuple[str, ...]:
    sums = dict(zip(TOTALS, _sums(rows), strict=True))
    return ("total", *(f"{sums[name]:,}" if name in sums else "" for name in HEADER[1:]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = Parser(
        prog="python -m dnn_research.tools.summary",
        description="Prints a network as a table: shapes, parameters, multiply-adds and receptive field by layer.",
        epilog="Any field of the config can be changed: --config.model.depth=50",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:WORD,...]", help="such as configs/resnet152.py")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="prints one JSON object instead")
    form.add_argument("--markdown", action="store_true", help="prints the table in Markdown")
    parser.add_argument("--fold", action="store_true", help="one line for a convolution and its normalization")
    known, rest = parser.parse_known_args(arguments)

    def command() -> None:
        config = recipe.load(known.config, config_overrides(rest)).config
        print(_report(config.to_dict(), known))

    return answer(command, debug=known.debug)


def _report(config: dict[str, Any], arguments: argparse.Namespace) -> str:
    fields = dict(config["model"])
    if "num_classes" in fields and fields["num_classes"] is None:
        fields |= _num_classes(config["data"])
    size, channels = config["data"]["image_size"], config["data"]["channels"]
    model = models.create(**fields)
    image_shape = models.input_shape(model, (size, size, channels))
    rows = count(model, image_shape)
    runs, counted = macs_of_training(model, image_shape), sum(row.macs / row.connected for row in rows)
    if runs != counted:
        raise RuntimeError(f"the layers have {counted} multiply-adds, but training runs {runs}")
    if arguments.fold:
        rows = folded(rows)
    if not arguments.json:
        return markdown(rows) if arguments.markdown else table(rows)
    layers = [{**dataclasses.asdict(row), "connected": float(row.connected)} for row in rows]
    params, macs, activation_bytes = _sums(rows)
    return json.dumps({"params": params, "macs": macs, "activation_bytes": activation_bytes, "layers": layers})


def _num_classes(section: dict[str, Any]) -> dict[str, int]:
    """The data set's number of classes as an argument; the config's own where the data set cannot be opened."""
    try:
        return {"num_classes": construct(data.create, "config.data", section).num_classes}
    except UserError:
        source, classes = section["source"], section["synthetic_classes"]
        print(
            f"note: {source} cannot be opened here; counting with config.data.synthetic_classes, {classes}",
            file=sys.stderr,
        )
        return {"num_classes": classes}


def _times(numbers: Sequence[int]) -> str:
    return "x".join(str(number) for number in numbers)


def _padding(pairs: Sequence[tuple[int, int]]) -> str:
    """'1' for 1 on each side, '0,1' for a pair that both axes share, '3,3 2,3' for anything else."""
    if len({number for pair in pairs for number in pair}) == 1:
        return str(pairs[0][0])
    return " ".join(f"{before},{after}" for before, after in dict.fromkeys(pairs))


if __name__ == "__main__":
    sys.exit(main())
