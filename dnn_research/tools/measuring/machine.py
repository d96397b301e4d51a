"""The machine: what it is, how many devices JAX makes of it, and how fast it multiplies matrices."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dnn_research.errors import UserError

SIDE = 2048


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The CPU's name."""
    listing = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", listing.read_text(), re.MULTILINE) if listing.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def use_devices(number: int | None) -> None:
    """Makes so many devices of a CPU, or takes the first of the accelerators. Before JAX looks for devices.

    Raises:
        UserError: there are not as many.
    """
    if number is None:
        return
    first = ",".join(str(index) for index in range(number))
    wanted = {"jax_num_cpu_devices": number, "jax_cuda_visible_devices": first, "jax_rocm_visible_devices": first}
    try:
        for option, value in wanted.items():
            jax.config.update(option, value)
    except RuntimeError:  # JAX has its devices already: they may do
        pass
    if jax.local_device_count() != number:
        kind = jax.devices()[0].platform
        raise UserError(f"--devices {number} cannot be had: there are {jax.local_device_count()} {kind} devices")


def about() -> dict[str, Any]:
    """What the figures belong to."""
    device = jax.devices()[0]
    return {
        "processor": processor(),
        "cores": cores(),
        "system": platform.platform(),
        "devices": jax.device_count(),
        "device": device.device_kind,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def matrix_product(dtype: str) -> tuple[Callable[[], object], float]:
    """A product of SIDE x SIDE matrices on every device at the same time, and its GFLOP in all: the machine's peak."""
    devices = jax.local_devices()
    sides = [jax.device_put(jnp.ones((SIDE, SIDE), dtype), device) for device in devices]
    product = jax.jit(lambda side: side @ side)
    return lambda: jax.block_until_ready([product(side) for side in sides]), len(devices) * 2 * SIDE**3 / 1e9
