"""Compiled programs as text (HLO), read: instructions, how often loops run, and bytes to and from memory.

XLA's own count of bytes (`cost_analysis`) takes the body of a loop once, however often it runs, and does not tell
memory from the chip's own fast one. The rule here is the same otherwise: an instruction reads its operands and writes
its result; a fusion that takes a slice of an operand reads the slice, and one that updates a slice writes that.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

_HEADER = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_START = re.compile(r"^\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = ")
_ARRAY = re.compile(r"(?P<type>[a-z]+)(?P<bits>\d*)\w*\[(?P<shape>[\d,]*)\](?:\{(?P<layout>[^}]*)\})?")
_LAYOUT = re.compile(r"^(?P<order>[\d,]*)(?::T\((?P<tile>[\d,]+)\))?")
_CALLED = re.compile(r"(calls|to_apply|body|condition)=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")

# What moves nothing: names, parts, and the ends of what was begun before.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("opt-barrier", "add-dependency", "copy-done", "slice-done", "async-done", "async-update", "iota"),
    *("all-reduce-done", "all-gather-done", "collective-permute-done"),
}
# What is the same again in another layout or type, inside of a fusion.
_SAME = {"bitcast", "copy", "convert"}
_SLICES = {"dynamic-slice", "slice", "gather"}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation; `rest` is what follows the operands."""

    name: str
    root: bool
    type: str
    operation: str
    operands: tuple[str, ...]
    inside: str
    rest: str


Computation = dict[str, Instruction]


class Program:
    """A compiled program.

    Args:
        text: the whole of it (`compiled.as_text()`).
    """

    def __init__(self, text: str) -> None:
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        current: Computation = {}
        for line in text.splitlines():
            header = _HEADER.match(line)
            if header:
                current = self.computations[header["name"]] = {}
                if header["entry"]:
                    self.entry = header["name"]
            elif instruction := _instruction(line):
                current[instruction.name] = instruction

    def instructions(self) -> Iterator[tuple[Computation, Instruction, int]]:
        """Every instruction that runs, with its computation and how often it does; fusions as one.

        Of the branches of a choice the one with most instructions.
        """
        yield from self._run(self.entry, 1)

    def _run(self, name: str, times: int) -> Iterator[tuple[Computation, Instruction, int]]:
        computation = self.computations[name]
        for instruction in computation.values():
            called = dict(_CALLED.findall(instruction.rest))
            if instruction.operation == "while":
                trips = times * self._trips(instruction, called["condition"])
                yield from self._run(called["condition"], trips)
                yield from self._run(called["body"], trips)
            elif instruction.operation == "conditional":
                branches = [
                    branch.strip().lstrip("%")
                    for several, one in _BRANCHES.findall(instruction.rest)
                    for branch in (several.split(",") if several else [one])
                ]
                yield from self._run(max(branches, key=lambda branch: len(self.computations[branch])), times)
            elif instruction.operation == "call" or instruction.operation == "async-start":
                yield from self._run(next(iter(called.values())), times)
            else:
                yield computation, instruction, times

    def _trips(self, loop: Instruction, condition: str) -> int:
        """How often a loop runs: as XLA says, or as its condition does, which compares a count with a constant."""
        known = _TRIPS.search(loop.rest)
        if known:
            return int(known[1])
        instructions = self.computations[condition].values()
        constants = [int(i.inside) for i in instructions if i.operation == "constant" and i.inside.isdigit()]
        if len(constants) != 1:
            raise RuntimeError(f"nothing says how often the loop {loop.name} runs")
        return constants[0]

    def traffic(self) -> int:
        """Bytes that one run reads from memory and writes to it, the padding of tiles included."""
        return sum(
            times * self._moved(computation, instruction) for computation, instruction, times in self.instructions()
        )

    def _moved(self, computation: Computation, instruction: Instruction) -> int:
        operation, operands = instruction.operation, [computation[name].type for name in instruction.operands]
        if operation in _FREE or (operation == "custom-call" and not operands):
            return 0  # the call without operands makes room for results
        if operation == "fusion":
            return self._fusion(instruction, operands)
        if operation in ("copy-start", "slice-start"):
            # (to, from, context): what is copied is of the smaller's size.
            ends = list(_arrays(instruction.type))[:2]
            size = min(_bytes(one) for one in ends)
            return sum(size for one in ends if _in_memory(one))
        if operation in _SLICES:
            return 2 * in_memory(instruction.type)
        if operation == "dynamic-update-slice":
            return 2 * in_memory(operands[1])
        return in_memory(instruction.type) + sum(map(in_memory, operands))

    def _fusion(self, instruction: Instruction, operands: Sequence[str]) -> int:
        inside = self._called(instruction)
        moved = sum(
            self._read(inside, one, operands[int(one.inside)])
            for one in inside.values()
            if one.operation == "parameter" and in_memory(operands[int(one.inside)])
        )
        for written, array in zip(self._results(inside), _arrays(instruction.type), strict=True):
            if _in_memory(array):
                moved += size(written) if written else _bytes(array)
        return moved

    def _called(self, fusion: Instruction) -> Computation:
        return self.computations[dict(_CALLED.findall(fusion.rest))["calls"]]

    def _read(self, inside: Computation, source: Instruction, type_: str, result: int | None = None) -> int:
        """What a fusion reads of an operand.

        Args:
            inside: its computation.
            source: the operand there, or the same in another layout.
            type_: the operand's.
            result: what is read of the fusion's result, where that is the operand again; None for all.
        """
        whole = size(type_)
        total = 0
        if source.root:
            total += whole if result is None else result
        for user in inside.values():
            for place, name in enumerate(user.operands):
                if name != source.name:
                    continue
                if user.operation in _SAME:
                    total += self._read(inside, user, type_, result)
                elif user.operation == "fusion":
                    deeper = self._called(user)
                    total += self._read(
                        deeper, _parameter(deeper, place), type_, self._read(inside, user, type_, result)
                    )
                elif user.operation in _SLICES and place == 0:
                    total += size(user.type)
                elif not (user.operation == "dynamic-update-slice" and place == 0):
                    return whole
        return min(total, whole)

    def _results(self, inside: Computation) -> list[str | None]:
        """For each result of a fusion the type of the slice that it updates; None for one that is written whole."""
        root = next(one for one in inside.values() if one.root)
        found: list[str | None] = []
        for result in [inside[name] for name in root.operands] if root.operation == "tuple" else [root]:
            while result.operation in _SAME:
                result = inside[result.operands[0]]
            if result.operation == "fusion":
                found += self._results(self._called(result))
            elif result.operation == "dynamic-update-slice":
                found.append(inside[result.operands[1]].type)
            else:  # a call may have several results
                found += [None] * len(list(_arrays(result.type)))
        return found


def _parameter(computation: Computation, place: int) -> Instruction:
    return next(i for i in computation.values() if i.operation == "parameter" and int(i.inside) == place)


def size(type_: str) -> int:
    """Bytes of an array, or of a tuple's arrays together, the padding of tiles included."""
    return sum(map(_bytes, _arrays(type_)))


def in_memory(type_: str) -> int:
    """Those of them that are in memory, not in the chip's own fast one."""
    return sum(_bytes(array) for array in _arrays(type_) if _in_memory(array))


def _arrays(type_: str) -> Iterator[re.Match[str]]:
    return _ARRAY.finditer(type_)


def _in_memory(array: re.Match[str]) -> bool:
    """S(1) and more are memories of the chip itself."""
    return not re.search(r"S\([1-9]", array["layout"] or "")


def _bytes(array: re.Match[str]) -> int:
    """A tile (8, 128) is as many numbers of the two axes that lie innermost: axes are filled up to whole tiles."""
    shape = [int(n) for n in array["shape"].split(",") if n]
    layout = _LAYOUT.match(array["layout"] or "")
    if layout and layout["tile"] and layout["order"]:
        order = [int(n) for n in layout["order"].split(",")]
        for axis, tile in zip(order, reversed([int(n) for n in layout["tile"].split(",")]), strict=False):
            shape[axis] = -(-shape[axis] // tile) * tile
    bits = int(array["bits"]) if array["bits"] else 8
    return math.prod(shape) * bits // 8


def _instruction(line: str) -> Instruction | None:
    start = _START.match(line)
    if not start:
        return None
    rest = line[start.end() :]
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    type_, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing - 1]
    names = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(start["name"], bool(start["root"]), type_, rest[:opening], names, inside, rest[closing:])


def _closing(text: str, opening: int) -> int:
    """The place behind the bracket that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place + 1
    raise ValueError(f"a bracket is not closed: {text[:80]}")
