"""What a process is set to before jax looks for its devices: where compiled steps are kept, and freed memory."""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

# Parameters of glibc's mallopt, from its malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def use_compilation_cache() -> None:
    """Keeps compiled steps between runs, in the user's cache directory unless JAX was told where.

    What is kept there is run, so a directory that this makes is the user's alone.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "dnn_research" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    if "://" not in chosen:
        with contextlib.suppress(OSError):  # JAX says that it cannot write there
            Path(chosen).parent.mkdir(parents=True, exist_ok=True)
            Path(chosen).mkdir(exist_ok=True, mode=0o700)


def keep_memory() -> bool:
    """Where steps run on CPUs: memory that was freed stays with the process, for the next allocation.

    XLA allocates a step's temporary memory anew each time, up to gigabytes, and glibc gives it back to the system and
    takes it again page by page: of a step of ResNet-50 with 16 images that was a quarter (2.8 s, then 2.1 s, on two
    cores). One arena instead of one a thread makes compiling slower by a quarter, and only there can the memory stay.

    Returns:
        Whether it was set: on Linux with glibc, where no accelerator is to be used and the environment does not say
        how glibc's malloc is to behave.
    """
    told = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in os.environ
    )
    if sys.platform != "linux" or told or _accelerated():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])


def _accelerated() -> bool:
    """Whether JAX may find something else than CPUs; its plugins are looked up as JAX does."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms != "cpu"
    return bool(importlib.metadata.entry_points(group="jax_plugins")) or importlib.util.find_spec("libtpu") is not None
