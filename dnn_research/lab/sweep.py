"""The runs of an experiment: which there are, how each ended, and running those that are missing.

Every run is an ordinary work directory, `D/<scale>/<row>/seed_<n>/`, with `outcome.json` once it came to an end:

- finished;
- diverged: a loss or gradient became infinite. That is a result: it is not tried again and counts at
  chance, or has no value where nothing is classified;
- failed: it broke twice. The same command tries it again.

The seeds of a row run one after the other in one process and share its compiled steps. A run that was cut off goes on
from its last checkpoint, as any run does.
"""

import dataclasses
import functools
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import jax

from dnn_research import checkpoint, recipe, train
from dnn_research.errors import Diverged, Interrupted, UserError, field, first_line, read_json
from dnn_research.lab import cost, evaluated, layers, measures
from dnn_research.lab.experiment import Experiment
from dnn_research.lab.measures import MEASURES

FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"
ATTEMPTS = 2

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: a row and a seed, and the value of the tuned field where the run is there to choose it."""

    row: str
    seed: int
    workdir: Path
    tried: Any = None

    @property
    def name(self) -> str:
        """As its work directory is called below the scale's."""
        tried = "" if self.tried is None else f"tuning/{self.tried}/"
        return f"{self.row}/{tried}seed_{self.seed}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: finished, diverged or failed.
        total_steps: that it was to have.
        message: why it did not finish.
        attempts: how often it was begun in the command that ended it.
    """

    status: str
    total_steps: int
    message: str = ""
    attempts: int = 1


class Sweep:
    """An experiment in a directory."""

    def __init__(self, experiment: Experiment, directory: Path) -> None:
        self.experiment, self.directory = experiment, directory

    @property
    def folder(self) -> Path:
        """Where the runs are."""
        return self.directory / self.experiment.scale

    def runs(self) -> list[Run]:
        """Those of the verdict, in the order in which they run: row by row."""
        return [self.run(row, seed) for row in self.experiment.rows for seed in self.experiment.seeds]

    def run(self, row: str, seed: int) -> Run:
        return Run(row, seed, self.folder / row / f"seed_{seed}")

    def tuning_runs(self, row: str) -> list[Run]:
        """Those that choose the row's tuned field; none without TUNING."""
        tuning = self.experiment.tuning
        if tuning is None:
            return []
        return [
            Run(row, seed, self.folder / row / "tuning" / str(value) / f"seed_{seed}", value)
            for value in tuning.values
            for seed in tuning.seeds
        ]

    def recipe_of(self, run: Run) -> recipe.Recipe:
        tuning = self.experiment.tuning
        if tuning is None:
            return self.experiment.load(run.row, run.seed)
        value = self.tuned(run.row) if run.tried is None else run.tried
        return self.experiment.load(run.row, run.seed, {tuning.path: value})

    def tuned(self, row: str) -> Any:
        """The value of the tuned field with the lowest mean of the first measure; of equals, of the second.

        Raises:
            UserError: runs that choose it are missing.
        """
        tuning = self.experiment.tuning
        if tuning is None:
            raise ValueError(f"{self.experiment.path} tunes nothing")
        runs, means = self.tuning_runs(row), []
        for value in tuning.values:
            same = [run for run in runs if run.tried == value]
            means.append([fmean(self.value(run, name) for run in same) for name in self.experiment.measures[:2]])
        return tuning.values[means.index(min(means))]

    def value(self, run: Run, measure: str) -> float:
        """A run's number.

        Raises:
            UserError: it has not come to an end.
        """
        outcome = read_outcome(run)
        if outcome is None or outcome.status == FAILED:
            raise UserError(f"{run.workdir} did not finish; run the experiment")
        records = measures.read(run.workdir, outcome.total_steps)
        return measures.value(MEASURES[measure], records, diverged=outcome.status == DIVERGED)

    def check(self, run: Run) -> None:
        """Raises UserError if the directory holds a run of another config than the experiment has now."""
        held = checkpoint.read_run(run.workdir)["config"]
        wanted = recipe.plain(self.recipe_of(run).config)
        changes = {
            key: change for key, change in recipe.differences(held, wanted).items() if key not in recipe.EXECUTION
        }
        recipe.refuse(
            changes,
            f"{run.workdir} holds a run of another config than {self.experiment.path} has now; remove it or give "
            f"another --workdir",
        )

    def time(self, run: Run) -> cost.Time | None:
        """What a run took that came to an end without a pause; None of any other."""
        outcome = read_outcome(run)
        return cost.measured(run.workdir) if outcome is not None and outcome.status != FAILED else None

    def missing(self, rows: Iterable[str]) -> list[Run]:
        """What is left to run of these rows, those that tune before those of the verdict."""
        chosen = set(rows)
        runs = [run for row in self.experiment.rows for run in self.tuning_runs(row)] + self.runs()
        left = []
        for run in runs:
            outcome = read_outcome(run)
            if run.row in chosen and (outcome is None or outcome.status == FAILED):
                left.append(run)
        return left

    def execute(self, runs: Iterable[Run], *, until: float | None = None) -> Iterator[tuple[Run, Outcome]]:
        """Runs them one after the other in this process; none is begun after the clock `time.monotonic` says `until`.

        Raises:
            UserError: something that the user can mend: no further run could do better.
            Interrupted: SIGTERM or SIGINT came; the state of the run is saved, or it was not begun.
        """
        compiled, row, signals = train.CompiledSteps(), None, train.Interruption()
        for run in runs:
            if signals.received:
                raise Interrupted(signals.received, f"{run.name} was not begun")
            if until is not None and time.monotonic() >= until:
                return
            if run.row != row:
                # The last row's programs would stay in memory to the end.
                jax.clear_caches()
                compiled, row = train.CompiledSteps(), run.row
            yield run, self.execute_one(run, compiled, signals)

    @functools.cached_property
    def evaluated(self) -> frozenset[str]:
        """The rows that train nothing: they evaluate the networks of the baseline's."""
        return evaluated.rows(self.experiment)

    def execute_one(
        self, run: Run, compiled: train.CompiledSteps, signals: train.Interruption | None = None
    ) -> Outcome:
        """Trains one run to its end, or goes on with it, and writes how it ended; for the rest see `train.train`.

        Raises:
            UserError: something that the user can mend; so if it evaluates the network of a run that is not there.
        """
        chosen = self.recipe_of(run)
        logger.info("--- %s %s, seed %d", self.experiment.spec, run.name, run.seed)
        length = train.set_up(chosen).total_steps
        if run.row in self.evaluated:
            outcome = self._evaluate(run, chosen, length)
        else:
            outcome = _attempt(lambda: train.train(chosen, run.workdir, compiled, signals), run, length)
        if outcome.status == FINISHED and any(MEASURES[name].layers for name in self.experiment.measures):
            layers.write(chosen, run.workdir)
        run.workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = run.workdir / "outcome.tmp"
        temporary.write_text(json.dumps(dataclasses.asdict(outcome)))
        temporary.replace(run.workdir / "outcome.json")
        return outcome

    def _evaluate(self, run: Run, chosen: recipe.Recipe, length: int) -> Outcome:
        trained = self.run(self.experiment.baseline_row, run.seed)
        held = read_outcome(trained)
        if held is None:
            raise UserError(
                f"row {run.row} evaluates the networks of {trained.row}, and {trained.workdir} has none: run that first"
            )
        if held.status == FAILED:
            return Outcome(FAILED, length, f"it evaluates the network of {trained.name}, which failed", ATTEMPTS)
        self.check(trained)
        diverged = held.status == DIVERGED
        write = functools.partial(evaluated.write, chosen, trained.workdir, run.workdir, diverged=diverged)
        outcome = _attempt(write, run, length)
        return dataclasses.replace(held, attempts=outcome.attempts) if outcome.status == FINISHED else outcome


def read_outcome(run: Run) -> Outcome | None:
    """How a run ended; None if it has not."""
    path = run.workdir / "outcome.json"
    if not path.exists():
        return None
    held = read_json(path, "remove the run's directory")
    return Outcome(
        field(held, "status", str, path),
        field(held, "total_steps", int, path),
        field(held, "message", str, path),
        field(held, "attempts", int, path),
    )


def _attempt(training: Callable[[], object], run: Run, length: int) -> Outcome:
    """Trains; what breaks is reported and tried once more from the start, a divergence is the outcome."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            training()
        except Diverged as error:
            logger.info("%s diverged: %s", run.name, error)
            return Outcome(DIVERGED, length, str(error), attempt)
        except (UserError, Interrupted, OSError):
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {first_line(error)}"
            logger.warning("%s broke (attempt %d of %d): %s", run.name, attempt, ATTEMPTS, message)
            if attempt == ATTEMPTS:
                return Outcome(FAILED, length, message, attempt)
            shutil.rmtree(run.workdir, ignore_errors=True)
        else:
            return Outcome(FINISHED, length, "", attempt)
    raise AssertionError("a run ends in its attempts")
