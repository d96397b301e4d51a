"""Out of memory: what a step takes, and which batch would fit, by XLA's count for programs that it compiles."""

import dataclasses
import math
import re
import resource
import traceback
from pathlib import Path

import jax

from dnn_research import parallel, train
from dnn_research.errors import UserError, first_line
from dnn_research.recipe import Recipe, changed

# XLA counts what a program allocates: not the gaps between, and on a CPU not what its convolutions take beside, which
# can be as much again. So much of what there is is taken to be of use.
USABLE, USABLE_ON_CPU = 0.95, 0.5


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception says that the memory of a device, or of the process, did not suffice."""
    if isinstance(error, MemoryError):
        return True
    said = str(error)
    return isinstance(error, jax.errors.JaxRuntimeError) and ("RESOURCE_EXHAUSTED" in said or "Out of memory" in said)


def explained(error: BaseException, recipe: Recipe, workdir: Path) -> UserError:
    """One line: what was not there, what a step takes, and which batch would fit.

    The step is compiled for smaller batches and not run; where that fails too, the line says what XLA said.
    """
    # What the run held is still in the frames that the exception went through.
    traceback.clear_frames(error.__traceback__)
    asked = re.search(r"allocat\w+ ([\d.,]+) ?(bytes|[KMGT]i?B)", str(error))
    says = (
        f"out of memory, {_size(asked[1], asked[2])} more were wanted"
        if asked
        else f"out of memory ({first_line(error)})"
    )
    try:
        return UserError(f"{says}: {_advice(recipe, workdir)}")
    except Exception as failure:  # the error that the user has is the one that matters
        return UserError(
            f"{says}: try a smaller batch_size, or train.accumulate_steps (what would fit could not be computed: "
            f"{first_line(failure)})"
        )


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes that a step takes of a device, as a straight line through two sizes of batch.

    Attributes:
        fixed: whatever the batch.
        each: for each image that a device works on at a time.
    """

    fixed: float
    each: float

    def of(self, images: float) -> float:
        return self.fixed + self.each * images

    def most(self, room: float) -> int:
        """The images that fit."""
        return max(0, math.floor((room - self.fixed) / self.each)) if self.each > 0 else 0


def need(recipe: Recipe, workdir: Path) -> Need:
    """What a step of a recipe takes, from programs for an eighth and a quarter of its batch (or as near as may be)."""
    setup = train.set_up(recipe, workdir)
    shares = parallel.device_count() // setup.layout.towers * setup.training.accumulate_steps
    images = setup.batch_size // shares
    few = max(1, images // 8)
    sizes = (few, max(few + 1, images // 4))
    small, large = (step_bytes(recipe, workdir, size * shares) for size in sizes)
    each = (large - small) / (sizes[1] - sizes[0])
    return Need(small - each * sizes[0], each)


def step_bytes(recipe: Recipe, workdir: Path, batch_size: int) -> int:
    """Bytes of a device that the train step takes with another batch: what goes in, comes out, and is between."""
    setup = train.set_up(changed(recipe, {"batch_size": batch_size}, origin="the batch that would fit"), workdir)
    step, state, batch = train.step_and_shapes(setup)
    counted = step.lower(state, batch).compile().memory_analysis()
    return (
        counted.argument_size_in_bytes
        + counted.output_size_in_bytes
        + counted.temp_size_in_bytes
        - counted.alias_size_in_bytes
    )


def room() -> int:
    """Bytes of a device that a step may take."""
    found = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return int(USABLE * found if found else USABLE_ON_CPU * _free_of_process() / jax.local_device_count())


def _free_of_process() -> int:
    """Bytes that this process may still take: by its limit, by its group's, and of what the machine has free."""
    bounds = []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bounds.append(limit - pages * resource.getpagesize())
    group = [Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current")]
    if all(path.exists() for path in group) and group[0].read_text().strip() != "max":
        bounds.append(int(group[0].read_text()) - int(group[1].read_text()))
    free = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    bounds += [1024 * int(free[1])] if free else []
    return max(0, min(bounds))


def _advice(recipe: Recipe, workdir: Path) -> str:
    if jax.process_count() > 1:
        # The others wait in a collective, and compile nothing.
        return "try a smaller batch_size, or train.accumulate_steps"
    setup = train.set_up(recipe, workdir)
    parts = setup.training.accumulate_steps
    shares = parallel.device_count() // setup.layout.towers
    takes, there = need(recipe, workdir), room()
    images = setup.batch_size // shares // parts
    device = jax.local_devices()[0].device_kind
    line = (
        f"a step of batch_size={setup.batch_size} takes about {_gib(takes.of(images))} of a device "
        f"({device}), and {_gib(there)} are there"
    )
    if takes.of(images) <= there:
        return f"{line}: something else holds the rest; try a smaller eval.batch_size, or look at what else runs there"
    fits = takes.most(there)
    model = recipe.config.model
    remat = "--config.model.remat_blocks=True" if "remat_blocks" in model and not model.remat_blocks else ""
    if not fits:
        ways = [remat] if remat else []
        return f"{line}; not even one image fits; try {' or '.join([*ways, 'a smaller data.image_size'])}"
    share = images * parts
    pieces = next(n for n in range(parts, share + 1) if share % n == 0 and share // n <= fits)
    return (
        f"{line}; what fits: --config.batch_size={fits * shares * parts} or --config.train.accumulate_steps={pieces}"
        + (f"; or try {remat}" if remat else "")
    )


def _size(number: str, unit: str) -> str:
    """What XLA says, bytes as GiB."""
    return _gib(float(number.replace(",", ""))) if unit == "bytes" else f"{number} {unit}"


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
