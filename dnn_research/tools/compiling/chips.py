"""Chips that a step can be compiled for without one being here, and the slices in which they come.

Peaks are those that the vendor publishes: docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e (compute in bfloat16,
memory, its bandwidth, and the bidirectional bandwidth of a chip's links, of which a sender has one half), and for the
links of v4, 6 of 50 GB/s each way, Jouppi et al. 2023 (arXiv:2304.01433), table 4.

A program for float32 is held against the same peak of compute: unless it asks for more, XLA rounds the operands of
convolutions and products to bfloat16 on these chips and adds up in float32.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from dnn_research.errors import UserError, choose, first_line, suggest

# What libtpu asks the machine for, and would wait for on one that is no TPU's; and a second process beside this one.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

PLANAR = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
SPATIAL = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8")


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator.

    Attributes:
        name: as slices are named after it.
        flops: floating-point operations a second, at most, in bfloat16.
        memory: bytes.
        bandwidth: bytes a second between the chip and its memory.
        link: bytes a second that one link to a neighbour carries in one direction.
        shapes: the slices in which it comes.
        wraps: an axis of a slice that is a multiple of this closes to a ring.
        options: what libtpu must be told beside the name.
    """

    name: str
    flops: float
    memory: float
    bandwidth: float
    link: float
    shapes: tuple[str, ...]
    wraps: int
    options: tuple[tuple[str, Any], ...] = ()


CHIPS = {
    chip.name: chip
    for chip in (
        # One device a chip, as on a TPU VM: both cores together.
        Chip("v4", 275e12, 32 * 2**30, 1228e9, 50e9, SPATIAL, 4, (("chip_config_name", "megacore"),)),
        Chip("v5e", 197e12, 16 * 2**30, 819e9, 50e9, PLANAR, 16),
        Chip("v5p", 459e12, 95 * 2**30, 2765e9, 100e9, SPATIAL, 4),
        Chip("v6e", 918e12, 32 * 2**30, 1638e9, 100e9, PLANAR, 16),
    )
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are linked.

    Attributes:
        chip: what they are.
        shape: how many along each axis.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Such as `v5e:2x4`."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def size(self) -> int:
        """The number of chips."""
        return math.prod(self.shape)

    @property
    def links(self) -> int:
        """How many neighbours the chip has that has fewest: 1 along an open axis, 2 along a ring."""
        spatial = len(self.shape) == 3
        # Rings of three dimensions are made of whole cubes.
        ring = not spatial or all(n % self.chip.wraps == 0 for n in self.shape)
        return sum(2 if ring and n % self.chip.wraps == 0 else 1 for n in self.shape if n > 1)


def named(topology: str) -> Slice:
    """The slice of a name such as `v5e:2x4`.

    Raises:
        UserError: it names none; the message lists those that there are.
    """
    name, _, shape = topology.partition(":")
    chip = choose(CHIPS, name, "chip")
    if shape not in chip.shapes:
        known = ", ".join(f"{name}:{one}" for one in chip.shapes)
        raise UserError(f"unknown topology '{topology}'{suggest(topology, known.split(', '))}; known: {known}")
    return Slice(chip, tuple(int(n) for n in shape.split("x")))


def devices(of: Slice) -> Sequence[jax.Device]:
    """The devices of a slice, to compile for.

    Raises:
        UserError: their compiler is not installed, or does not know the slice.
    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=of.name, **dict(of.chip.options)).devices
    except (RuntimeError, NotImplementedError) as error:  # what jax raises of its own accord, and what libtpu does
        if "not installed" in str(error):
            raise UserError(
                "the compiler for TPUs is not installed: pip install 'dnn-research[aot]', or libtpu of the version "
                "that jax[tpu] asks for"
            ) from error
        raise UserError(f"{of.name} cannot be compiled for: {first_line(error)}") from error
    if len(found) != of.size:
        raise UserError(f"this libtpu gives {of.name} {len(found)} devices instead of one for each of {of.size} chips")
    return found
