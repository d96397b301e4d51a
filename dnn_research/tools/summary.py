"""Prints a network as a table: every layer with its shapes, parameters and multiply-adds.

    python -m dnn_research.tools.summary --config configs/resnet152.py [--config.model.depth=50 ...] [--json]

Counts follow the papers: parameters are what is trained (no running statistics); multiply-adds are those of convolution
and fully connected kernels for one image, padding included, without biases, normalization, pooling and activations.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from dnn_research import data, models, recipe
from dnn_research.errors import UserError, construct
from dnn_research.models.initialization import trace


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer. Shapes are those of one example, (H, W, C) or (C,)."""

    layer: str
    operation: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    params: int
    macs: int
    groups: int


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
    return [
        Row(
            operation.name,
            operation.kind,
            operation.kernel,
            operation.strides,
            operation.padding,
            operation.in_shape,
            operation.out_shape,
            params.get(operation.name, 0),
            operation.macs,
            operation.groups,
        )
        for operation in traced.operations
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as text, with totals."""
    header = ("layer", "operation", "kernel", "stride", "padding", "channels", "output", "parameters", "multiply-adds")
    cells = [
        (
            row.layer,
            row.operation,
            _times(row.kernel),
            _times(row.strides),
            _padding(row.padding),
            f"{row.in_shape[-1]} -> {row.out_shape[-1]}",
            _times(row.out_shape[:-1]) or "1x1",
            f"{row.params:,}",
            f"{row.macs:,}",
        )
        for row in rows
    ]
    total = ("total", *[""] * 6, f"{sum(row.params for row in rows):,}", f"{sum(row.macs for row in rows):,}")
    widths = [max(len(line[column]) for line in (header, *cells, total)) for column in range(len(header))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if column >= len(header) - 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), rule, *map(line, cells), rule, line(total)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dnn_research.tools.summary",
        description="Prints a network as a table: every layer with its shapes, parameters and multiply-adds.",
        epilog="Any field of the config can be changed: --config.model.depth=50",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:WORD,...]", help="such as configs/resnet152.py")
    parser.add_argument("--json", action="store_true", help="prints one JSON object instead")
    parser.add_argument("--debug", action="store_true", help="shows the traceback of an error")
    known, rest = parser.parse_known_args(arguments)
    strange = [argument for argument in rest if not argument.startswith("--config.")]
    if strange:
        parser.exit(1, f"error: unknown argument {strange[0]}\n")
    try:
        config = recipe.load(known.config, [override.removeprefix("--") for override in rest]).config
        print(_report(config.to_dict(), as_json=known.json), flush=True)
    except UserError as error:
        if known.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; the interpreter must not try to write the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _report(config: dict[str, Any], *, as_json: bool) -> str:
    fields = dict(config["model"])
    if fields.get("num_classes") is None:
        fields.pop("num_classes", None)
        fields |= _num_classes(config["data"])
    size, channels = config["data"]["image_size"], config["data"]["channels"]
    rows = count(models.create(**fields), (size, size, channels))
    if not as_json:
        return table(rows)
    return json.dumps(
        {
            "params": sum(row.params for row in rows),
            "macs": sum(row.macs for row in rows),
            "layers": [dataclasses.asdict(row) for row in rows],
        }
    )


def _num_classes(section: dict[str, Any]) -> dict[str, int]:
    """The data set's number of classes as an argument; none where the data set cannot be opened, for the default."""
    try:
        return {"num_classes": construct(data.create, "config.data", section).num_classes}
    except UserError:
        source = section["source"]
        print(f"note: {source} cannot be opened here; counting with the network's usual classes", file=sys.stderr)
        return {}


def _times(numbers: Sequence[int]) -> str:
    return "x".join(str(number) for number in numbers)


def _padding(pairs: Sequence[tuple[int, int]]) -> str:
    """'1' for 1 on each side, '0,1' for a pair that both axes share, '3,3 2,3' for anything else."""
    if len({number for pair in pairs for number in pair}) == 1:
        return str(pairs[0][0])
    return " ".join(f"{before},{after}" for before, after in dict.fromkeys(pairs))


if __name__ == "__main__":
    sys.exit(main())
