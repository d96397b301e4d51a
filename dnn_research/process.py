"""What a process is set to before jax is imported: what it shows, where compiled steps are kept, pages of memory."""

import contextlib
import ctypes
import logging
import os
import platform
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import absl.logging

from dnn_research.errors import UserError

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# XLA then takes no operation that adds in no fixed order, and does not choose between operations by timing them
# (openxla/xla#12520).
DETERMINISTIC = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")

_TUNABLES, _HUGE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_XLA_FLAGS, _YNN_FUSION = "XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type"
# What `prepare` changes -> where it keeps what was there.
_BEFORE = {_TUNABLES: "DNN_GLIBC_TUNABLES_BEFORE", _XLA_FLAGS: "DNN_XLA_FLAGS_BEFORE"}


def use_compilation_cache() -> None:
    """Keeps compiled steps between runs, in the user's cache directory unless JAX was told where.

    What is kept there is run, so a directory that this makes is the user's alone, and one that all can write to is
    not used.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "dnn_research" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
    if "://" not in chosen:
        with contextlib.suppress(OSError):  # JAX says that it cannot write there
            Path(chosen).parent.mkdir(parents=True, exist_ok=True)
            Path(chosen).mkdir(exist_ok=True, mode=0o700)
        with contextlib.suppress(OSError):
            kept = Path(chosen).stat()
            if kept.st_uid not in (0, os.geteuid()) or kept.st_mode & stat.S_IWOTH:
                print(f"note: {chosen} can be written by others, so steps are compiled anew", file=sys.stderr)
                os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"


def show_plain_lines() -> None:
    """What the project says of long work is shown as plain lines; of its libraries, warnings alone."""
    absl.logging.set_verbosity(absl.logging.WARNING)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("dnn_research")
    # Not beside one of a command that ran in this process before, whose output may be closed.
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def prepare() -> None:
    """What makes steps on a CPU fast, and is the first thing that a command does: it may start the program anew."""
    leave_products_to_eigen()
    use_huge_pages()


def leave_products_to_eigen() -> None:
    """Of what XLA's CPU compiler gives to its newest library of kernels, YNNPACK, leaves it the reductions alone.

    Matrix products are then Eigen's. On two cores with AVX-512 (jax 0.12) inference is 1.03 (GoogLeNet) to 1.14 (NIN)
    times as fast, MobileNet's 0.95, training as fast, and a compiled step of ResNet-50 is loaded from the cache in 4.4
    instead of 6.2 s, since XLA looks up each of that library's calls among all instructions (`tools.benchmark --network
    resnet50,nin --quick` with this flag in XLA_FLAGS, and with LIBRARY_FUSION_TYPE_REDUCE,
    LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT). Without reductions in it ResNet-50's step takes 1.5 times as long.

    What the user set of this one stands.
    """
    given = os.environ.get(_XLA_FLAGS, "")
    if _YNN_FUSION not in given:
        os.environ[_BEFORE[_XLA_FLAGS]] = given
        os.environ[_XLA_FLAGS] = f"{given} {_YNN_FUSION}=LIBRARY_FUSION_TYPE_REDUCE".strip()


def use_huge_pages() -> None:
    """Starts the program anew with glibc's malloc asking for pages of 2 MiB, where Linux gives them if it is asked.

    XLA's CPU client allocates a step's memory, up to gigabytes, in each step again, and Linux hands it over page by
    page. On two cores a step of VGG-16 with 8 images took 3.1 s in pages of 4 KiB and 2.3 s in large ones, ResNet-50
    with 16 images 2.4 and 2.2 s, MobileNet with 32 images 1.56 and 1.17 s (`tools.benchmark --network
    vgg16,resnet50,mobilenet --mode train --quick` with GLIBC_TUNABLES=glibc.malloc.hugetlb=0, then 1).

    glibc reads its settings only when a program starts. What the user set of this one stands.
    """
    given = os.environ.get(_TUNABLES, "")
    if _HUGE in given or not _on_demand():
        return
    os.environ[_BEFORE[_TUNABLES]] = given
    os.environ[_TUNABLES] = ":".join(filter(None, (given, f"{_HUGE}=1")))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def hand_back_memory() -> None:
    """Has glibc's malloc hand back the pages that nothing lies in, as compiling leaves many.

    Done before the first step, it takes the peak memory of training ResNet-50 from 3.1 to 2.65 GiB (`tools.benchmark
    --network resnet50 --mode train --steps 1`).
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def make_deterministic() -> None:
    """Makes a GPU's results repeat, for programs that are compiled from here on; before JAX's back end starts."""
    given = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join([*given, *(flag for flag in DETERMINISTIC if flag not in given)])


def repeats(platform: str, *, deterministic: bool) -> dict[str, Any]:
    """Whether a step gives the same bits each time, for run.json: `deterministic` (as asked for), `bit_exact`, `why`.

    Args:
        platform: of the devices, as JAX calls it.
        deterministic: `train.deterministic`.

    Raises:
        UserError: it was asked for, and is not what the back end was started with.
    """
    if platform == "cpu":
        exact, why = True, "a CPU's threads share the work in a way that is fixed when a program is compiled"
    elif platform == "tpu":
        exact, why = True, "a TPU's program is scheduled when it is compiled, and has no atomic operations"
    elif not deterministic:
        exact, why = False, "a GPU may add in another order each time: train.deterministic=True"
    elif DETERMINISTIC[0] not in os.environ.get("XLA_FLAGS", "").split():
        raise UserError(
            f"train.deterministic=True must be known before JAX starts: start with dnn_research.main, or with "
            f"XLA_FLAGS='{' '.join(DETERMINISTIC)}'"
        )
    else:
        exact, why = True, "train.deterministic leaves out the operations of a GPU that add in no fixed order"
    return {"deterministic": deterministic, "bit_exact": exact, "why": why}


def environment_before() -> Mapping[str, str]:
    """The environment as the user gave it, for processes that are not ours."""
    environment = dict(os.environ)
    for name, before in _BEFORE.items():
        if before in environment:
            environment[name] = environment.pop(before)
    return environment


def _on_demand() -> bool:
    """Whether large pages are for those who ask, and this glibc can ask."""
    library, version = platform.libc_ver()
    if library != "glibc" or [int(part) for part in version.split(".")[:2]] < [2, 35]:
        return False
    try:
        return "[madvise]" in HUGE_PAGES.read_text()
    except OSError:
        return False
