"""The faults: each is done to a run, which then ends as it must or is found not to."""

import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dnn_research.checkpoint import MANIFEST
from dnn_research.tools.enduring import disks
from dnn_research.tools.enduring.runs import Attempt, End, Run

# A save of a small state takes about so long.
SAVE_SECONDS = 0.15
CHECKPOINT_BYTES = 500_000


@dataclasses.dataclass(frozen=True)
class Ground:
    """What a fault is done to.

    Attributes:
        run: the run.
        total_steps: its length.
        seconds: what a process of it takes from start to end, undisturbed.
        rng: decides when and where.
    """

    run: Run
    total_steps: int
    seconds: float
    rng: np.random.Generator


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a fault.

    Attributes:
        end: of the run's process.
        what: was done, where it says more than the fault's name.
        wrong: what was not as it must be, '' if all was.
        hit: False where the run was at its end before.
    """

    end: End
    what: str
    wrong: str
    hit: bool


def kill_at_any_time(ground: Ground) -> Outcome:
    """SIGKILL at a random time between start and end of the process."""
    seconds = float(ground.rng.uniform(0, ground.seconds))
    with Attempt(ground.run) as attempt:
        started = time.monotonic()
        hit = attempt.until(lambda: time.monotonic() - started > seconds)
        return _signalled(attempt, signal.SIGKILL, f"after {seconds:.1f} s", hit)


def kill_at_step(ground: Ground) -> Outcome:
    """SIGKILL some time after a random step."""
    return _signal_at_step(ground, signal.SIGKILL)


def terminate(ground: Ground) -> Outcome:
    """SIGTERM some time after a random step."""
    return _signal_at_step(ground, signal.SIGTERM)


def interrupt(ground: Ground) -> Outcome:
    """SIGINT some time after a random step."""
    return _signal_at_step(ground, signal.SIGINT)


def kill_during_save(ground: Ground) -> Outcome:
    """SIGKILL while a checkpoint is being written."""
    before = _unfinished(ground.run)
    delay = float(ground.rng.uniform(0, SAVE_SECONDS))
    wanted = int(ground.rng.integers(1, 5))
    begun: dict[str, int] = {}

    def saving() -> bool:
        begun.update({name: when for name, when in _unfinished(ground.run).items() if before.get(name) != when})
        return len(begun) >= wanted

    with Attempt(ground.run) as attempt:
        hit = attempt.until(saving)
        time.sleep(delay if hit else 0)
        outcome = _signalled(attempt, signal.SIGKILL, "", hit)
    during = any(before.get(name) != when for name, when in _unfinished(ground.run).items())
    return dataclasses.replace(outcome, what=f"{'during' if during else 'just after'} save {wanted} of the process")


def truncate(ground: Ground) -> Outcome:
    """A file of the newest checkpoint loses its end."""

    def damage(path: Path) -> str:
        length = int(ground.rng.integers(path.stat().st_size))
        os.truncate(path, length)
        return f"to {length:,} bytes"

    return _damaged(ground, damage)


def flip_bit(ground: Ground) -> Outcome:
    """One bit of a file of the newest checkpoint flips."""

    def damage(path: Path) -> str:
        content = bytearray(path.read_bytes())
        bit = int(ground.rng.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        return f"bit {bit:,}"

    return _damaged(ground, damage)


def remove(ground: Ground) -> Outcome:
    """A file of the newest checkpoint, or all of it, is removed."""

    def damage(path: Path) -> str:
        if ground.rng.random() < 0.25:
            shutil.rmtree(_newest(ground.run))
            return "and all others"
        path.unlink()
        return "alone"

    return _damaged(ground, damage)


def fill_disk(ground: Ground) -> Outcome:
    """The disk is full after a random number of bytes more."""
    room = int(ground.rng.uniform(0, 1.2 * CHECKPOINT_BYTES))
    with Attempt(ground.run, disks.small(ground.run.workdir, room)) as attempt:
        end = attempt.end()
    wrong = _wrong(end, (1,), "No space left")
    return Outcome(end, f"with room for {room:,} bytes", wrong, end.status != 0)


def forbid_writing(ground: Ground) -> Outcome:
    """The work directory is read-only from the start, or its checkpoints become so while it trains."""
    if ground.rng.random() < 0.3:
        with Attempt(ground.run, disks.read_only(ground.run.workdir)) as attempt:
            end = attempt.end()
        return Outcome(end, "from the start", _wrong(end, (1,), "Read-only file system"), True)
    step = _step(ground)
    with Attempt(ground.run, disks.APART) as attempt:
        hit = attempt.until(lambda: attempt.training() and _reached(ground.run, step))
        hit = hit and disks.make_read_only(attempt.process.pid, ground.run.checkpoints)
        end = attempt.end()
    return Outcome(end, f"from step {step}", _wrong(end, (1,), "Read-only file system"), hit and end.status != 0)


def move_away(ground: Ground) -> Outcome:
    """The work directory is somewhere else all of a sudden; when the run has ended it is put back."""
    step, aside = _step(ground), ground.run.workdir.with_suffix(".moved")
    with Attempt(ground.run) as attempt:
        hit = attempt.until(lambda: attempt.training() and ground.run.recorded_step() >= step)
        if hit:
            ground.run.workdir.rename(aside)
        end = attempt.end()
    wrong = _wrong(end, (1,), "")
    if hit:
        if ground.run.workdir.exists():
            wrong = f"the work directory was made anew: {sorted(path.name for path in ground.run.workdir.iterdir())}"
            shutil.rmtree(ground.run.workdir)
        aside.rename(ground.run.workdir)
    return Outcome(end, f"at step {step}", wrong, hit and end.status != 0)


def start_twice(ground: Ground) -> Outcome:
    """A second process is started in the same work directory, then the first is killed."""
    with Attempt(ground.run) as attempt:
        hit = attempt.until(attempt.training)
        attempt.process.send_signal(signal.SIGSTOP)  # else it may be at its end before the other looks
        with Attempt(ground.run) as second:
            refused = second.end()
        outcome = _signalled(attempt, signal.SIGKILL, "", hit and attempt.process.poll() is None)
    if outcome.hit:
        name = f"process {attempt.process.pid} on "
        return dataclasses.replace(outcome, wrong=_wrong(refused, (1,), name), what=refused.last_words)
    return outcome


# Name -> what it does; those in MOUNTING need mounts.
FAULTS: dict[str, Callable[[Ground], Outcome]] = {
    "SIGKILL at any time": kill_at_any_time,
    "SIGKILL while training": kill_at_step,
    "SIGKILL during a save": kill_during_save,
    "SIGTERM": terminate,
    "SIGINT": interrupt,
    "newest checkpoint truncated": truncate,
    "newest checkpoint, a bit flipped": flip_bit,
    "newest checkpoint, files removed": remove,
    "work directory moved away": move_away,
    "second process": start_twice,
    "disk full": fill_disk,
    "read-only": forbid_writing,
}
MOUNTING = ("disk full", "read-only")

# What a run says when nothing but damaged checkpoints is left: it neither starts afresh nor takes one of them.
NOTHING_SOUND = "is sound"


def _signal_at_step(ground: Ground, number: signal.Signals) -> Outcome:
    step, delay = _step(ground), float(ground.rng.uniform(0, 0.03))
    with Attempt(ground.run) as attempt:
        hit = attempt.until(lambda: attempt.training() and _reached(ground.run, step))
        time.sleep(delay if hit else 0)
        return _signalled(attempt, number, f"at step {step}", hit)


def _signalled(attempt: Attempt, number: signal.Signals, what: str, hit: bool) -> Outcome:
    if hit and attempt.process.poll() is None:
        attempt.process.send_signal(number)
    end = attempt.end()
    status = {signal.SIGKILL: -9, signal.SIGTERM: 75, signal.SIGINT: 130}[number]
    said = "" if number == signal.SIGKILL else "saved at step"
    if "results at step" in end.out:  # it was about to leave
        return Outcome(end, what, "", False)
    return Outcome(end, what, _wrong(end, (status,), said), hit and end.status != 0)


def _damaged(ground: Ground, damage: Callable[[Path], str]) -> Outcome:
    """Damages a file of the newest checkpoint; then the run goes on until it is killed."""
    newest = _newest(ground.run)
    files = sorted(path for path in newest.rglob("*") if path.is_file() and path.stat().st_size)
    path = files[int(ground.rng.integers(len(files)))]
    what = f"{path.relative_to(newest)} {damage(path)}"
    outcome = _signal_at_step(ground, signal.SIGKILL)
    if outcome.end.status == 1 and NOTHING_SOUND in outcome.end.err:
        return Outcome(outcome.end, what, _wrong(outcome.end, (1,), NOTHING_SOUND), True)
    return dataclasses.replace(outcome, what=what, hit=True)


def _wrong(end: End, statuses: Sequence[int], said: str) -> str:
    """What is not as it must be: the exit status, one line on stderr with some words in it, no traceback.

    A run that had come to its end may also be done.
    """
    if end.status == 0:
        return "" if not end.err else f"it was done but said: {end.last_words}"
    if end.status not in statuses:
        return f"status {end.status}, not {' or '.join(map(str, statuses))}: {end.last_words}"
    lines = end.err.splitlines()
    if end.status > 0 and (len(lines) != 1 or said not in lines[0]):
        return f"{len(lines)} lines on stderr, the last: {end.last_words}"
    return "it printed a traceback" if "Traceback" in end.out + end.err else ""


def _newest(run: Run) -> Path:
    return run.checkpoints / str(run.finished()[-1])


def _step(ground: Ground) -> int:
    """A random step that the run has before it."""
    done = ground.run.finished()
    return int(ground.rng.integers(min(done[-1], ground.total_steps - 1) if done else 0, ground.total_steps)) + 1


def _reached(run: Run, step: int) -> bool:
    return run.recorded_step() >= step


def _unfinished(run: Run) -> dict[str, int]:
    """Checkpoints without a manifest -> when their directories changed last, so that a new attempt at one is told."""
    found = {}
    for folder in run.checkpoints.glob("*"):
        try:
            if folder.name.isdecimal() and not (folder / MANIFEST).exists():
                found[folder.name] = folder.stat().st_ctime_ns
        except FileNotFoundError:  # it was deleted meanwhile
            continue
    return found
