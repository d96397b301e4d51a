"""Chips that a step can be compiled for without one being here, and the slices in which they come.

Peaks are those that the vendor publishes: docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e (compute in bfloat16,
memory, its bandwidth, and the bidirectional bandwidth of a chip's links, of which a sender has one half), and for the
links of v4, 6 of 50 GB/s each way, Jouppi et al. 2023 (arXiv:2304.01433), table 4. Of GPUs, NVIDIA's data sheets of
the A100 80 GB SXM and the H100 SXM, without sparsity; a GPU reaches the others of its machine through NVLink, as if by
one link.

A program for float32 on a TPU is held against the peak of bfloat16: unless it asks for more, XLA rounds the operands of
convolutions and products to bfloat16 there and adds up in float32. On these GPUs it rounds them to TF32, at half of it.
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
MACHINE = ("1", "2", "4", "8")

GPU_MEMORY = 79 * 2**30
# What JAX takes of a GPU's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
GPU_SHARE = 0.75


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator.

    Attributes:
        name: as slices are named after it.
        flops: floating-point operations a second, at most, in bfloat16.
        float32_flops: the same of a program for float32.
        memory: bytes that a program can have.
        bandwidth: bytes a second between the chip and its memory.
        link: bytes a second that one link to a neighbour carries in one direction.
        shapes: the slices in which it comes.
        wraps: an axis of a slice that is a multiple of this closes to a ring.
        options: what libtpu must be told beside the name.
        target: of a GPU, what its compiler must know of it (XLA's GpuTargetConfigProto as text); "": it is a TPU.
    """

    name: str
    flops: float
    float32_flops: float
    memory: float
    bandwidth: float
    link: float
    shapes: tuple[str, ...]
    wraps: int
    options: tuple[tuple[str, Any], ...] = ()
    target: str = ""

    def peak(self, dtype: str) -> float:
        """Floating-point operations a second, at most, of a program for this dtype."""
        return self.float32_flops if dtype == "float32" else self.flops

    @property
    def compilers(self) -> tuple[str, ...]:
        """The packages of which one holds its compiler."""
        return ("jax-cuda12-plugin", "jax-cuda13-plugin") if self.target else ("libtpu",)


def _target(
    name: str, *, cores: int, units: int, shared: int, cache: int, clock: float, bandwidth: float, capability: str
) -> str:
    """The numbers by which XLA compiles for a GPU; its own are in openxla/xla, xla/backends/gpu/target_config/specs.

    Args:
        name: as the driver calls it.
        cores, units: multiprocessors, and those for float32 in each.
        shared, cache: bytes of the memory that a multiprocessor shares, and of the second cache.
        clock: GHz.
        bandwidth: bytes a second.
        capability: the fields of the compute capability.
    """
    return f"""
        gpu_device_info {{
          threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
          thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          shared_memory_per_block: 49152 shared_memory_per_block_optin: {shared - 1024} shared_memory_per_core: {shared}
          core_count: {cores} fpus_per_core: {units} clock_rate_ghz: {clock} l2_cache_size: {cache}
          memory_bandwidth: {bandwidth:.0f} device_memory_size: {GPU_MEMORY}
          cuda_compute_capability {{ {capability} }}
        }}
        platform_name: "CUDA" device_description_str: "{name}"
        dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 12 minor: 8 }}
    """


_A100 = _target(
    "NVIDIA A100-SXM4-80GB",
    cores=108, units=64, shared=164 * 2**10, cache=40 * 2**20, clock=1.41, bandwidth=2039e9, capability="major: 8",
)  # fmt: skip
_H100 = _target(
    "NVIDIA H100 80GB HBM3",
    cores=132, units=128, shared=228 * 2**10, cache=50 * 2**20, clock=1.98, bandwidth=3352e9,
    capability="major: 9 feature_extension: ACCELERATED_FEATURES",
)  # fmt: skip

CHIPS = {
    chip.name: chip
    for chip in (
        # One device a chip, as on a TPU VM: both cores together.
        Chip("v4", 275e12, 275e12, 32 * 2**30, 1228e9, 50e9, SPATIAL, 4, (("chip_config_name", "megacore"),)),
        Chip("v5e", 197e12, 197e12, 16 * 2**30, 819e9, 50e9, PLANAR, 16),
        Chip("v5p", 459e12, 459e12, 95 * 2**30, 2765e9, 100e9, SPATIAL, 4),
        Chip("v6e", 918e12, 918e12, 32 * 2**30, 1638e9, 100e9, PLANAR, 16),
        Chip("a100", 312e12, 156e12, GPU_SHARE * GPU_MEMORY, 2039e9, 300e9, MACHINE, 16, target=_A100),
        Chip("h100", 989e12, 494e12, GPU_SHARE * GPU_MEMORY, 3352e9, 450e9, MACHINE, 16, target=_H100),
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
    if of.chip.target:
        return _gpus(of)
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=of.name, **dict(of.chip.options)).devices
    except (RuntimeError, NotImplementedError) as error:  # what jax raises of its own accord, and what libtpu does
        if "not installed" in str(error):
            raise UserError(
                "the compiler for TPUs is not installed: pip install -e '.[aot]', or libtpu of the version "
                "that jax[tpu] asks for"
            ) from error
        raise UserError(f"{of.name} cannot be compiled for: {first_line(error)}") from error
    if len(found) != of.size:
        raise UserError(f"this libtpu gives {of.name} {len(found)} devices instead of one for each of {of.size} chips")
    return found


def _gpus(of: Slice) -> Sequence[jax.Device]:
    try:
        described = topologies.get_topology_desc(
            platform="cuda", target_config=of.chip.target, topology=f"1x1x{of.size}"
        )
    except NotImplementedError as error:
        version = jax.__version__
        raise UserError(
            f"the compiler for GPUs is not installed: pip install --no-deps jax-cuda12-plugin=={version} "
            f"jax-cuda12-pjrt=={version} nvidia-cuda-nvcc-cu12, or all of jax[cuda12] or jax[cuda13]"
        ) from error
    except RuntimeError as error:
        raise UserError(f"{of.name} cannot be compiled for: {first_line(error)}") from error
    return described.devices
