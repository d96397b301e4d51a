"""A run once more, from its last good checkpoint up to the step that diverged."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dnn_research import checkpoint, parallel, train
from dnn_research.errors import Diverged

# Steps of which the report keeps the norms.
KEPT = 50


@dataclasses.dataclass
class Replay:
    """Where the replay stands.

    Attributes:
        start: the step of the checkpoint that it began from; 0 for the initial values.
        state: on the devices: before the step that diverged, or, where an evaluation diverged, after its step.
        batch: of that step, on the devices; {} for an evaluation.
        history: what the train step reported of the last steps before.
    """

    start: int
    state: train.TrainState
    batch: Mapping[str, Any]
    history: list[dict[str, float]]
    _train_step: Any

    def diverges_again(self) -> bool:
        """Does the step once more as the run did it; its state is gone after that."""
        self.state, report = self._train_step(self.state, self.batch)
        values = _numbers(report)
        self.history.append({"step": int(self.state.step), **values})
        return not values["finite"]


@contextlib.contextmanager
def replay(
    setup: train.Setup,
    config: Mapping[str, Any],
    workdir: Path,
    error: Diverged,
    compiled: train.CompiledSteps,
    say: checkpoint.Say,
) -> Iterator[Replay]:
    """Goes through the run's steps again.

    Args:
        setup: of the run.
        config: as JSON's types.
        workdir: of the run.
        error: how it ended.
        compiled: the run's steps.
        say: takes lines for the person who watches.

    Raises:
        RuntimeError: a step before the one that diverged is not finite this time.
    """
    state, _ = train.starting_state(setup, workdir / "checkpoints", say)
    start = int(state.step)
    last = error.step if error.evaluating else error.step - 1
    say(
        f"the run diverged at step {error.step:,}; going through it again from step {start:,} to find out where "
        f"(Ctrl-C leaves this out) ..."
    )
    train_step, _ = compiled.of(setup, config, state)
    state = parallel.replicate(state, setup.layout)
    evaluated = _evaluations(workdir) if setup.plateau else {}
    history: list[dict[str, float]] = []
    with setup.dataset.train_batches(batch_size=setup.batch_size, seed=setup.seed, start_step=start) as batches:

        def placed() -> Mapping[str, Any]:
            """The next batch, on the devices."""
            return parallel.shard(train.with_update_norm(next(batches), due=True), setup.layout)

        for step in range(start + 1, last + 1):
            state, report = train_step(state, placed())
            values = _numbers(report)
            history = [*history[-KEPT + 1 :], {"step": step, **values}]
            if not values["finite"]:
                raise RuntimeError(f"step {step:,} is not finite this time: steps do not repeat on this platform")
            if setup.plateau and step in evaluated and step < error.step:
                after = setup.plateau.after(jax.device_get(state.plateau), evaluated[step])
                state = state.replace(plateau=parallel.replicate(after))
        yield Replay(start, state, {} if error.evaluating else placed(), history, train_step)


def _numbers(report: Mapping[str, Any]) -> dict[str, float]:
    """A step's report as numbers: losses are means."""
    values = {name: np.asarray(value).item() for name, value in report.items()}
    kept = ("loss", "learning_rate", "gradient_norm", "parameter_norm", "update_norm", "finite")
    examples = values.get("examples", 1) or math.nan
    return {name: values[name] / examples if name == "loss" else values[name] for name in kept if name in values}


def _evaluations(workdir: Path) -> dict[int, dict[str, float]]:
    """step -> the results of its evaluation, as the plateau rule was given them."""
    found: dict[int, dict[str, float]] = {}
    for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
        if line["split"] != "train":
            results = found.setdefault(line["step"], {})
            results |= {f"{line['split']}/{name}": v for name, v in line.items() if isinstance(v, (int, float))}
    return found
