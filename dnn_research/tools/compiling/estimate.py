"""What a compiled step needs of a chip, and what it can take there at best: estimates, nothing is run.

The roofline (Williams et al. 2009): a step takes at least as long as its arithmetic at the chip's peak, its traffic at
the memory's bandwidth, and what a chip sends at the bandwidth of its links, whichever is longest; all three may overlap
completely and each may be at its peak, which none ever is. Traffic is that of the compiled program (`Program`), which
knows what stays in the chip's own memory between two instructions.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from dnn_research.tools.compiling.chips import Slice


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each chip while a step runs.

    Attributes:
        arguments: state and batch.
        outputs: what the step returns and has not taken over from its arguments.
        temporaries: everything between.
        code: the program.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """All together."""
        return self.arguments + self.outputs + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a step does on each chip.

    Attributes:
        batch_size: images in it, over all chips.
        multiply_adds: of convolutions and products, forward and backward.
        traffic: bytes between the chip and its memory.
        sent: bytes to other chips.
        dtype: what it computes in, float32 or bfloat16.
    """

    batch_size: int
    multiply_adds: int
    traffic: int
    sent: int
    dtype: str


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds that a step takes at least, for each of the three reasons."""

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """The longest."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def bound(self) -> str:
        """What the step waits for."""
        reasons = {
            "compute": self.compute,
            "memory bandwidth": self.memory,
            "interconnect": self.interconnect,
        }
        return max(reasons, key=lambda reason: reasons[reason])


def memory(analysis: Any) -> Memory:
    """Out of what XLA says (`compiled.memory_analysis()`)."""
    return Memory(
        analysis.argument_size_in_bytes,
        analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        analysis.temp_size_in_bytes,
        analysis.generated_code_size_in_bytes,
    )


def roofline(cost: Cost, on: Slice) -> Roofline:
    """The least times of a step on a slice."""
    chip = on.chip
    interconnect = cost.sent / (chip.link * on.links) if cost.sent else 0.0
    return Roofline(2 * cost.multiply_adds / chip.peak(cost.dtype), cost.traffic / chip.bandwidth, interconnect)


@dataclasses.dataclass(frozen=True)
class Limit:
    """How many images a device can take: `fits` do, `too_many` do not; None: not known."""

    fits: int | None
    too_many: int | None


def largest_share(total: Callable[[int], int | None], *, first: int, fixed: int, capacity: float, tries: int) -> Limit:
    """Looks for the largest number of images on each device whose step fits.

    What a step needs is taken to grow evenly with the images; numbers that are tried have three leading binary digits.

    Args:
        total: images -> bytes of the compiled step, None if it does not fit. Compiles, which is slow.
        first: where to begin.
        fixed: bytes that do not grow.
        capacity: bytes that there are.
        tries: so often at most, the first among them.
    """
    fits, too_many, guess = None, None, first
    for _ in range(tries):
        used = total(guess)
        if used is None:
            too_many = guess
            guess = guess * 3 // 4 if fits is None else (fits + guess) // 2
        else:
            fits = guess
            growth = max((used - fixed) / guess, 1.0)
            guess = int((capacity - fixed) / growth)
            if too_many is not None and guess >= too_many:
                guess = (fits + too_many) // 2
        guess = _rounded(guess)
        if guess < 1 or guess in (fits, too_many) or (fits is not None and guess < fits):
            break
    return Limit(fits, too_many)


def _rounded(number: int) -> int:
    """Down to three leading binary digits."""
    unit = 2 ** max(0, math.floor(math.log2(max(number, 1))) - 2)
    return number // unit * unit
