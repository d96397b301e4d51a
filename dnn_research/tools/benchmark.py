"""Measures a recipe's train step: time to trace and compile it, time of a step, memory.

With --compare, variants of one field are measured in one process, their steps in turn, so that a busy machine bears on
all alike. Synthetic images; nothing is written.

python -m dnn_research.tools.benchmark --config configs/resnet110_cifar10.py --config.batch_size=32 \
    --compare model.scan_blocks=False,True
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from dnn_research import parallel, recipe, train
from dnn_research.errors import UserError


@dataclasses.dataclass
class Measurement:
    """Seconds, images a second, and GiB of temporary memory that the compiled step takes."""

    variant: str
    trace_seconds: float
    compile_seconds: float
    step_seconds: float
    images_per_second: float
    temporary_gib: float


class Variant:
    """A compiled train step with its state and a batch."""

    def __init__(self, name: str, config: str, overrides: Sequence[str]) -> None:
        setup = train.set_up(recipe.load(config, overrides))
        self.name, self.batch_size = name, setup.batch_size
        state = train.initial_state(setup, setup.task.init(parallel.initial_key(setup.seed)))
        step = parallel.on_each_device(
            train.make_train_step(setup), donate_state=True, layout=setup.layout, state=state
        )
        self.state = parallel.replicate(state, setup.layout)
        with setup.dataset.train_batches(batch_size=setup.batch_size, seed=setup.seed) as batches:
            self.batch = parallel.shard(next(batches), setup.layout)
        started = time.perf_counter()
        lowered = step.lower(self.state, self.batch)
        traced = time.perf_counter()
        self.step = lowered.compile()
        self.trace_seconds, self.compile_seconds = traced - started, time.perf_counter() - traced
        self.seconds: list[float] = []

    def run(self) -> None:
        """Takes one step and notes its time."""
        started = time.perf_counter()
        self.state, report = self.step(self.state, self.batch)
        jax.block_until_ready((self.state, report))
        self.seconds.append(time.perf_counter() - started)

    def measured(self) -> Measurement:
        """The medians; the first step, which warms up, is left out."""
        step = statistics.median(self.seconds[1:])
        temporary = self.step.memory_analysis().temp_size_in_bytes / 2**30
        return Measurement(self.name, self.trace_seconds, self.compile_seconds, step, self.batch_size / step, temporary)


def measure(config: str, overrides: Sequence[str], compare: str | None, steps: int) -> list[Measurement]:
    """Measures every variant.

    Args:
        config: FILE[:WORD,...].
        overrides: such as `config.batch_size=32`.
        compare: `KEY=VALUE,VALUE,...`, or None to measure the recipe as it is.
        steps: of each variant, besides the one that warms up.
    """
    key, equals, values = (compare or "").partition("=")
    if compare and not equals:
        raise UserError(f"--compare {compare} lacks its values; write it as --compare KEY=VALUE,VALUE")
    wanted = {f"{key}={value}": [f"{key}={value}"] for value in values.split(",")} if compare else {"as it is": []}
    given = ["data.source=synthetic", "data.synthetic_examples=256", *overrides]
    variants = [Variant(name, config, [*given, *change]) for name, change in wanted.items()]
    for _ in range(steps + 1):
        for variant in variants:
            variant.run()
    return [variant.measured() for variant in variants]


def table(measurements: Sequence[Measurement]) -> str:
    """One line a variant."""
    width = max(len(m.variant) for m in measurements)
    lines = [f"{'variant':<{width}}  trace s  compile s  step ms  images/s  temporary GiB"]
    lines += [
        f"{m.variant:<{width}}  {m.trace_seconds:>7.1f}  {m.compile_seconds:>9.1f}  {1000 * m.step_seconds:>7.0f}  "
        f"{m.images_per_second:>8.1f}  {m.temporary_gib:>13.2f}"
        for m in measurements
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dnn_research.tools.benchmark", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--config", required=True, metavar="FILE[:WORD,...]")
    parser.add_argument("--compare", metavar="KEY=VALUE,VALUE", help="measure these values of a field of the config")
    parser.add_argument("--steps", type=int, default=5, help="steps of each variant (default 5)")
    parser.add_argument("--json", action="store_true", help="prints one JSON list instead")
    known, rest = parser.parse_known_args(arguments)
    strange = [argument for argument in rest if not argument.startswith("--config.")]
    # A step that was compiled before would be read from the cache in no time.
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        if strange or known.steps < 1:
            raise UserError(
                f"unknown argument {strange[0]}" if strange else f"--steps is {known.steps}: give 1 or more"
            )
        found = measure(known.config, [override.removeprefix("--") for override in rest], known.compare, known.steps)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    device = jax.devices()[0]
    about: dict[str, Any] = {"devices": jax.device_count(), "device": device.device_kind, "jax": jax.__version__}
    if known.json:
        print(json.dumps([{**about, **dataclasses.asdict(m)} for m in found]))
    else:
        print(f"{known.config}, {about['devices']} x {about['device']}, jax {about['jax']}, {known.steps} steps each")
        print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
