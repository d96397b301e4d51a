"""Where a run that diverged went wrong first: the step, the layer, and likely causes, in a small report.

A step is a function of the state before it and of (seed, step), so a run is repeated exactly from its last good
checkpoint: step by step with the run's own train step up to the one before, then that step once more with every layer
looked at.
"""

import contextlib
import json
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax

from dnn_research import checkpoint, lock, parallel, train
from dnn_research.divergence import causes, inspection, report
from dnn_research.divergence.replay import replay
from dnn_research.errors import Diverged, first_line
from dnn_research.recipe import Recipe, plain, unrolled


class CutOff(Exception):
    """SIGTERM or SIGINT ended the replay."""


def explained(
    error: Diverged, recipe: Recipe, workdir: Path, compiled: train.CompiledSteps, say: checkpoint.Say
) -> Diverged:
    """The same error, with a line that also says what was not finite first and where the report is.

    Whatever happens on the way, the divergence stays what is reported; a replay that fails or does not diverge is said
    so. A run of several processes is not replayed: the hundreds of sums over devices that the look at a step takes have
    no order that all processes keep.

    Args:
        error: how the run ended.
        recipe: of the run.
        workdir: of the run, where `divergence.json` and `divergence.md` are written.
        compiled: the run's steps.
        say: takes lines for the person who watches.
    """
    if jax.process_count() > 1:
        more = "the same command on one host alone goes on from there, and looks for the layer when it diverges again"
        return Diverged(f"{error}; {more}", error.step, evaluating=error.evaluating)
    # The run's state is still in the frames that the error went through.
    traceback.clear_frames(error.__traceback__)
    try:
        # The run has given its lock back; nobody else may train here meanwhile.
        with _cut_off_by_signals(), contextlib.closing(lock.hold(workdir, say)):
            found = _find(error, recipe, workdir, compiled, say)
    except CutOff as end:
        more = f"the replay was cut off ({first_line(end)})"
    except Exception as failure:  # the divergence is what the user must hear of
        more = f"replaying it failed ({type(failure).__name__}: {first_line(failure)})"
    else:
        more = f"{found['sentence']}; likely: {found['causes'][0]['cause']}; report: {workdir / 'divergence.md'}"
    return Diverged(f"{error}; {more}", error.step, evaluating=error.evaluating)


@contextlib.contextmanager
def _cut_off_by_signals() -> Iterator[None]:
    def cut(number: int, _: FrameType | None) -> None:
        raise CutOff(f"by {signal.Signals(number).name}")

    before = {number: signal.signal(number, cut) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _find(
    error: Diverged, recipe: Recipe, workdir: Path, compiled: train.CompiledSteps, say: checkpoint.Say
) -> dict[str, Any]:
    setup = train.set_up(recipe, workdir)
    config = plain(recipe.config)
    with replay(setup, config, workdir, error, compiled, say) as replayed:
        looked_at = train.set_up(unrolled(recipe, origin="the replay"), workdir)
        state = parallel.replicate(parallel.whole(replayed.state, setup.layout), looked_at.layout)
        if error.evaluating:
            seen = inspection.of_evaluation(looked_at, state)
        else:
            seen = inspection.of_step(looked_at, state, replayed.batch)
            seen["diverges_again"] = replayed.diverges_again()
    finding = inspection.first_not_finite(seen)
    found = {
        "step": error.step,
        "evaluating": error.evaluating,
        **finding,
        "replayed_from": replayed.start,
        "learning_rate": seen.pop("learning_rate", None),
        "history": replayed.history,
        "recorded": _recorded(workdir),
        **seen,
    }
    found["causes"] = causes.of(found, config)
    report.write(found, workdir)
    return found


def _recorded(workdir: Path) -> list[dict[str, Any]]:
    """The last lines of training in metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    keys = ("step", "loss", "learning_rate", "gradient_norm")
    return [{key: line[key] for key in keys} for line in lines if line["split"] == "train"][-20:]
