"""A small run, undisturbed once and then disturbed at random, over and over."""

import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnn_research import checkpoint
from dnn_research.errors import UserError
from dnn_research.tools.enduring import disks, faults, sameness
from dnn_research.tools.enduring.ledger import Ledger
from dnn_research.tools.enduring.runs import Attempt, Run


class Endurance:
    """The undisturbed run, the one that is disturbed, and the ledger.

    Args:
        workdir: holds `undisturbed`, `disturbed` and `ledger.jsonl`.
        config: FILE[:WORD,...].
        overrides: of the config.
        total_steps: the run's length.
        seed: of the faults.
    """

    def __init__(self, workdir: Path, config: str, overrides: Sequence[str], total_steps: int, seed: int) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        about = {"config": config, "overrides": list(overrides), "seed": seed}
        self.ledger = Ledger(workdir / "ledger.jsonl", about)
        self._total_steps, self._seed = total_steps, seed
        self._undisturbed = Run(config, tuple(overrides), workdir / "undisturbed")
        self._run = Run(config, tuple(overrides), workdir / "disturbed")
        self._names = [name for name in faults.FAULTS if name not in faults.MOUNTING or disks.allowed()]
        if len(self._names) < len(faults.FAULTS):
            print(f"mounts are not allowed here; left out: {', '.join(faults.MOUNTING)}", flush=True)
        # Twice: what the first one compiled and indexed is there for the second, as for all that follow.
        for run in (self._undisturbed, Run(config, tuple(overrides), workdir / "undisturbed_again")):
            seconds = self._finish(run)
        self._seconds = seconds
        self._compare(Run(config, tuple(overrides), workdir / "undisturbed_again"), "the undisturbed run, done twice")
        shutil.rmtree(workdir / "undisturbed_again")

    def next_fault(self) -> str:
        """Does the next fault; a line about it."""
        number = self.ledger.tried
        rng = np.random.default_rng((self._seed, number))
        name = self._names[int(rng.integers(len(self._names)))]
        damaging = name.startswith("newest checkpoint") and bool(self._run.finished())
        if name.startswith("newest checkpoint") and not damaging:
            name = "SIGKILL while training"
        elif name in ("disk full", "read-only") and not self._run.checkpoints.exists():
            name = "SIGKILL at any time"
        done = self._run.recorded_step()
        ground = faults.Ground(self._run, self._total_steps, self._seconds, rng)
        outcome = faults.FAULTS[name](ground)
        recorded, sound = self._run.recorded_step(), self._run.finished()
        refused = faults.NOTHING_SOUND in outcome.end.err
        line = {
            "fault": name,
            "number": number,
            "lap": self.ledger.laps,
            "hit": outcome.hit,
            "status": outcome.end.status,
            "what": outcome.what,
            "repeated": done - _went_on(outcome.end.out)
            if damaging
            else max(recorded - (sound[-1] if sound else 0), 0),
            "wrong": outcome.wrong,
        }
        self.ledger.add(line)
        if refused:
            # As it must: no sound one is left. The run begins anew.
            shutil.rmtree(self._run.workdir)
        elif outcome.end.status == 0:
            self._end_lap()
        return json.dumps(line)

    def finish(self) -> str:
        """Lets the run go on to its end; a line about it."""
        if not self._run.workdir.exists():
            return "every run is finished"
        self._finish(self._run)
        self._end_lap()
        return "the last run is finished"

    def _finish(self, run: Run) -> float:
        started = time.monotonic()
        with Attempt(run) as attempt:
            end = attempt.end()
        if end.status:
            raise UserError(f"{run.workdir}: the run ended with status {end.status}: {end.last_words}")
        return time.monotonic() - started

    def _end_lap(self) -> None:
        lap = self.ledger.laps
        differs = self._differs(self._run)
        self.ledger.add({"lap": lap, "differs": differs})
        if differs:  # to be looked at
            self._run.workdir.rename(self._run.workdir.with_name(f"differs_{lap}"))
        else:
            shutil.rmtree(self._run.workdir)

    def _compare(self, run: Run, what: str) -> None:
        differs = self._differs(run)
        if differs:
            raise UserError(f"{what}: not the same: {differs}")

    def _differs(self, run: Run) -> str:
        try:
            rows = sameness.compare(self._undisturbed.workdir, run.workdir, self._total_steps)
        except UserError as error:
            return str(error)
        if checkpoint.read_run(run.workdir)["config"] != checkpoint.read_run(self._undisturbed.workdir)["config"]:
            return "config: not the same"
        return next((f"{row.what}: {row.difference}" for row in rows if row.difference), "")


def _went_on(out: str) -> int:
    """The step after which a process went on, by what it printed; 0 if it began anew, or not at all."""
    found = re.search(r"resuming after step ([\d,]+)", out)
    return int(found[1].replace(",", "")) if found else 0
