"""Counts what the devices exchange in a train step, from the compiled program.

    JAX_NUM_CPU_DEVICES=2 python -m dnn_research.tools.collectives --config configs/alexnet.py
        [--compare model.towers=1,2] [--config.batch_size=128 ...] [--json]

Every collective of the compiled step with its number of values, the devices that take part, and the bytes that one
device sends if the devices pass their data around in a ring: 2 (n - 1) / n of the data for an all-reduce, (n - 1) / n
of the whole for an all-gather or a reduce-scatter. How a back end really moves the data is its own affair.
"""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

import jax

from dnn_research.arguments import Parser, answer, config_overrides
from dnn_research.errors import UserError
from dnn_research.tools.compiling import step
from dnn_research.tools.compiling.program import Program

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_ARRAY = re.compile(r"([a-z]+)(\d+)\[([\d,]*)\]")
_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a compiled step.

    Attributes:
        kind: of `KINDS`.
        bytes: of its result on one device.
        devices: how many take part in each exchange.
        sent: bytes that one device sends, in a ring.
        where: what the program calls it.
    """

    kind: str
    bytes: int
    devices: int
    sent: int
    where: str


def count(program: str, device_count: int) -> list[Collective]:
    """The collectives of a compiled program as text (HLO) in which more than one device takes part."""
    found = []
    for computation, instruction, times in Program(program).instructions():
        kind = instruction.operation.removesuffix("-start")
        devices = _group_size(instruction.rest, device_count)
        if kind not in KINDS or devices == 1:
            continue
        size = _size(instruction.type)
        if instruction.operation in ("all-gather-start", "collective-permute-start"):  # (operands, results)
            size -= sum(_size(computation[name].type) for name in instruction.operands)
        name = _NAME.search(instruction.rest)
        sent = _sent(kind, size, devices)
        found += [Collective(kind, size, devices, sent, name[1] if name else "")] * times
    return found


def of_train_step(config: str, overrides: Sequence[str]) -> list[Collective]:
    """The collectives of the train step that a recipe runs, compiled for the devices that are here."""
    return count(step.of_recipe(config, overrides).lower().compile().as_text(), jax.device_count())


def table(found: Sequence[Collective]) -> str:
    """One line a kind, and the total."""
    kinds = [kind for kind in KINDS if any(c.kind == kind for c in found)]
    lines = [f"{'collective':<20}{'number':>8}{'result, MB':>14}{'sent by a device, MB':>24}"]
    for kind in [*kinds, "total"]:
        those = [c for c in found if kind in (c.kind, "total")]
        size, sent = sum(c.bytes for c in those) / 1e6, sum(c.sent for c in those) / 1e6
        lines.append(f"{kind:<20}{len(those):>8}{size:>14,.3f}{sent:>24,.3f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = Parser(
        prog="python -m dnn_research.tools.collectives", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--config", required=True, metavar="FILE[:WORD,...]")
    parser.add_argument("--compare", metavar="KEY=VALUE,VALUE", help="count for each of these values of a field")
    parser.add_argument("--json", action="store_true", help="prints one JSON object instead")
    known, rest = parser.parse_known_args(arguments)

    def command() -> None:
        given = config_overrides(rest)
        key, equals, values = (known.compare or "").partition("=")
        if known.compare and not equals:
            raise UserError(f"--compare {known.compare} lacks its values; write it as --compare KEY=VALUE,VALUE")
        changes = {f"{key}={value}": [f"{key}={value}"] for value in values.split(",")} if equals else {"as it is": []}
        found = {name: of_train_step(known.config, [*given, *change]) for name, change in changes.items()}
        if known.json:
            as_data: dict[str, Any] = {name: [dataclasses.asdict(c) for c in those] for name, those in found.items()}
            print(json.dumps({"devices": jax.device_count(), **as_data}))
            return
        print(f"{known.config}, {jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}")
        for name, those in found.items():
            print(f"\n{name}\n{table(those)}")

    return answer(command, debug=known.debug)


def _size(type_: str) -> int:
    """Bytes of an array or of several, without what a tile is filled up with."""
    return sum(
        int(bits) // 8 * math.prod(int(n) for n in shape.split(",") if n) for _, bits, shape in _ARRAY.findall(type_)
    )


def _group_size(line: str, device_count: int) -> int:
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line)
    if listed:
        return len(listed[1].split(","))
    iota = re.search(r"replica_groups=\[\d+,(\d+)\]<=", line)
    return int(iota[1]) if iota else device_count


def _sent(kind: str, size: int, devices: int) -> int:
    if kind == "all-reduce":
        return 2 * size * (devices - 1) // devices
    if kind == "reduce-scatter":
        return size * (devices - 1)
    if kind == "collective-permute":
        return size
    return size * (devices - 1) // devices


if __name__ == "__main__":
    sys.exit(main())
