"""Compiles a recipe's train step for accelerators that are not here, and says what it would need and take there.

    python -m dnn_research.tools.aot --config configs/resnet152.py --topology v5e:2x4
        [--tries 3] [--json] [--config.train.dtype=bfloat16 ...]

It is the very step that training runs, compiled by the accelerator's own compiler with no hardware (for TPUs the extra
`aot`, for GPUs, such as h100:8, jax's CUDA plugin): that it compiles, the memory that it takes and the collectives that
it holds are facts; times are estimates from published peaks, see `compiling/estimate.py`. `--tries` compiles the step
so often, to find the largest batch that fits: each takes minutes for a large network on few cores, 1 takes the recipe's
batch alone.

All of it happens in a process of its own: where the compiler crashes, a line says so.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jax

from dnn_research import parallel, recipe
from dnn_research.arguments import Parser, answer, config_overrides
from dnn_research.errors import UserError, first_line
from dnn_research.tools import collectives
from dnn_research.tools.compiling import chips, estimate, step
from dnn_research.tools.compiling.program import Program

GPU_MEMORY_NOTE = (
    "    without the room that cuDNN takes, which it chooses on the GPU; of a card's memory JAX takes three quarters\n"
    "    unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise"
)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A step that fits, and what is known of it; numbers are those of one chip.

    Attributes:
        cost, memory: what it does and needs.
        forward_multiply_adds: of one image, as `tools.summary` counts them.
        xla_flops, xla_bytes: XLA's own count, in which the body of a loop counts once; 0 where it does not count.
        collectives: what it exchanges.
        seconds: that compiling took.
    """

    cost: estimate.Cost
    memory: estimate.Memory
    forward_multiply_adds: int
    xla_flops: float
    xla_bytes: float
    collectives: list[collectives.Collective]
    seconds: float


def compile_step(
    config: str, overrides: Sequence[str], devices: Sequence[jax.Device], capacity: float
) -> Compiled | None:
    """Compiles the train step of a recipe for these devices; None if it does not fit into so many bytes on each.

    Raises:
        UserError: something is wrong with the recipe, or it does not fit the number of devices.
    """
    started = time.perf_counter()
    with parallel.compiling_for(devices):
        made = step.of_recipe(config, overrides)
        try:
            compiled = made.lower().compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                return None
            raise UserError(f"{config} cannot be compiled: {first_line(error)}") from error
        program = compiled.as_text()
        found = collectives.count(program, len(devices))
        cost = estimate.Cost(
            made.setup.batch_size,
            made.multiply_adds(),
            Program(program).traffic(),
            sum(c.sent for c in found),
            made.setup.training.dtype,
        )
        memory = estimate.memory(compiled.memory_analysis())
        if memory.total > capacity:  # for a GPU, the compiler does not say so
            return None
        theirs = compiled.cost_analysis() or {}
        return Compiled(
            cost,
            memory,
            made.forward_multiply_adds(),
            theirs.get("flops", 0.0),
            theirs.get("bytes accessed", 0.0),
            found,
            time.perf_counter() - started,
        )


def search(
    config: str, overrides: Sequence[str], on: chips.Slice, tries: int, say: Callable[[Compiled], None]
) -> tuple[Compiled | None, Compiled, estimate.Limit]:
    """Compiles a recipe as it is, then with other batches.

    Args:
        config, overrides: the recipe.
        on: what it is compiled for.
        tries: so many batches are compiled at most.
        say: gets the recipe's own step, if it fits, before others are compiled.

    Returns:
        The recipe's own step, None if it does not fit; the step with the largest batch that does; in images a device.

    Raises:
        UserError: something is wrong with the recipe, or no batch that was tried fits.
    """
    devices = chips.devices(on)
    with parallel.compiling_for(devices):
        setup = step.of_recipe(config, overrides).setup
    shares = len(devices) // setup.layout.towers
    steps: dict[int, Compiled | None] = {}

    def total(share: int) -> int | None:
        size = share * shares * setup.training.accumulate_steps
        print(f"compiling for {on.name}: {size:,} images a step ...", file=sys.stderr, flush=True)
        steps[share] = compile_step(config, [*overrides, f"batch_size={size}"], devices, on.chip.memory)
        fitting = steps[share]
        if fitting and share == first:
            say(fitting)
        return fitting.memory.total if fitting else None

    first = setup.batch_size // shares // setup.training.accumulate_steps
    fixed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(setup.task.shapes()))
    limit = estimate.largest_share(total, first=first, fixed=fixed, capacity=on.chip.memory, tries=tries)
    largest = steps.get(limit.fits or 0)
    if largest is None:
        raise UserError(
            f"{setup.batch_size:,} images a step do not fit into {on.name}, nor any batch of {len(steps)} that were "
            "tried; give a smaller batch_size, train.dtype=bfloat16, model.remat_blocks=True, or more --tries"
        )
    unit = shares * setup.training.accumulate_steps
    in_images = estimate.Limit(*(None if n is None else n * unit for n in (limit.fits, limit.too_many)))
    return steps[first], largest, in_images


def report(name: str, made: Compiled, on: chips.Slice) -> str:
    """The step as text."""
    cost, memory = made.cost, made.memory
    times = estimate.roofline(cost, on)
    images = cost.batch_size / on.size
    theirs = f"; by XLA {made.xla_bytes / 1e9:,.2f} GB, the body of a loop once, the chip's own memory included"
    lines = [
        f"{name}, {cost.dtype}, {cost.batch_size:,} images a step on {on.name} ({on.size} chips, {images:g} images a "
        f"chip), compiled in {made.seconds:.0f} s; jax {jax.__version__}, {_compiler(on.chip)}",
        "",
        "on each chip, in one step",
        f"  multiply-adds          {cost.multiply_adds / 1e9:,.1f} G, {2 * cost.multiply_adds / 1e12:,.3f} TFLOP",
        f"    by tools.summary     {made.forward_multiply_adds / 1e9:,.3f} G an image forward: "
        f"{cost.multiply_adds / (made.forward_multiply_adds * images):.2f} times that",
        *(
            [f"    by XLA               {made.xla_flops / 1e12:,.3f} TFLOP, the body of a loop once"]
            if made.xla_flops
            else []
        ),
        f"  memory traffic         {cost.traffic / 1e9:,.2f} GB{theirs if made.xla_bytes else ''}",
        f"  memory                 {memory.total / 2**30:.2f} GiB of {on.chip.memory / 2**30:g} GiB "
        f"({100 * memory.total / on.chip.memory:.0f} %)",
        *(
            f"    {part:<21}{getattr(memory, part) / 2**30:.2f} GiB"
            for part in ("arguments", "outputs", "temporaries", "code")
        ),
        *([GPU_MEMORY_NOTE] if on.chip.target else []),
        "",
        collectives.table(made.collectives),
        "",
        "estimates, from published peaks that no step reaches",
        f"  compute                {1e3 * times.compute:,.2f} ms at {on.chip.peak(cost.dtype) / 1e12:g} TFLOP/s",
        f"  memory bandwidth       {1e3 * times.memory:,.2f} ms at {on.chip.bandwidth / 1e9:g} GB/s",
        f"  interconnect           {1e3 * times.interconnect:,.2f} ms over {on.links} links of "
        f"{on.chip.link / 1e9:g} GB/s",
        f"  bounded by {times.bound}: a step takes at least {1e3 * times.seconds:,.2f} ms, at most "
        f"{cost.batch_size / times.seconds:,.0f} images/s",
    ]
    return "\n".join(lines)


def _compiler(chip: chips.Chip) -> str:
    """Its package and version."""
    for name in chip.compilers:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "a compiler of no known version"


def as_data(made: Compiled, on: chips.Slice) -> dict[str, Any]:
    """The step as JSON's types."""
    times = estimate.roofline(made.cost, on)
    return {
        **dataclasses.asdict(made),
        "estimate": {
            **dataclasses.asdict(times),
            "bound": times.bound,
            "images_per_second": made.cost.batch_size / times.seconds,
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = Parser(
        prog="python -m dnn_research.tools.aot", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--config", required=True, metavar="FILE[:WORD,...]")
    parser.add_argument("--topology", required=True, metavar="CHIP:SHAPE", help="such as v5e:2x4 or h100:8")
    parser.add_argument("--tries", type=int, default=3, help="so many batches are compiled, to find the largest")
    parser.add_argument("--json", action="store_true", help="prints one JSON object instead")
    known, rest = parser.parse_known_args(arguments)
    return answer(lambda: _in_a_process(known, rest), debug=known.debug)


def _in_a_process(known: argparse.Namespace, rest: Sequence[str]) -> int:
    """Checks what can be checked at once, and compiles elsewhere: a compiler that crashes takes its process along."""
    given = config_overrides(rest)
    if known.tries < 1:
        raise UserError(f"--tries must be at least 1, not {known.tries}")
    on = chips.named(known.topology)
    recipe.load(known.config, given)
    child = multiprocessing.get_context("spawn").Process(target=_compile, args=(known, given, on), daemon=True)
    child.start()
    child.join()
    if child.exitcode and child.exitcode < 0:
        raise UserError(
            f"the compiler for {on.chip.name} crashed ({signal.Signals(-child.exitcode).name}); what it said of it "
            "stands above. Another --topology, batch_size or version of it may do"
        )
    return child.exitcode or 0


def _compile(known: argparse.Namespace, given: Sequence[str], on: chips.Slice) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says that it was interrupted
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    sys.exit(answer(lambda: _run(known, given, on), debug=known.debug))


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(known: argparse.Namespace, given: Sequence[str], on: chips.Slice) -> None:
    # What is compiled for elsewhere cannot be read back from the cache, and needs nothing of what is here.
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_platforms", "cpu")

    def say(made: Compiled) -> None:
        if not known.json:
            print(report(known.config, made, on), flush=True)

    own, largest, limit = search(known.config, given, on, known.tries, say)
    if known.json:
        steps = {"own": own and as_data(own, on), "largest": as_data(largest, on)}
        dtype = largest.cost.dtype
        print(json.dumps({"topology": on.name, "chips": on.size, "dtype": dtype, **steps, "limit": limit.__dict__}))
        return
    if own is None:
        say(largest)
    print(_said_of_limit(own, largest, limit, on))


def _said_of_limit(own: Compiled | None, largest: Compiled, limit: estimate.Limit, on: chips.Slice) -> str:
    if own is None:
        begin = f"the recipe's own batch does not fit; what stands above is for {largest.cost.batch_size:,} images"
    else:
        times = estimate.roofline(largest.cost, on)
        begin = (
            f"the largest batch of those tried that fits is {largest.cost.batch_size:,} "
            f"({largest.memory.total / 2**30:.2f} GiB a chip; at most {largest.cost.batch_size / times.seconds:,.0f} "
            f"images/s, bounded by {times.bound})"
        )
    return f"\n{begin}; {limit.too_many:,} do not" if limit.too_many else f"\n{begin}; no larger one was tried"


if __name__ == "__main__":
    sys.exit(main())
