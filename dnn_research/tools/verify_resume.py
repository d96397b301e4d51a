"""Kills a run and lets it go on, and compares it bit for bit with one that was not killed.

    python -m dnn_research.tools.verify_resume --config configs/resnet50.py:smoke [--steps 4] [--config.KEY=VALUE ...]

One process trains 2k steps; another is killed (SIGKILL) some steps after the checkpoint of step k is on the disk, and
a third goes on from there. Compared are parameters, optimizer, statistics, random state, every line of metrics.jsonl,
one for each step, and the batches of a stream that begins at step k + 1 with those of one that began at 1. A warmup
takes k steps. The runs are in a temporary directory, or in an empty --workdir, where they stay. Exit status 0: all is
equal; 1: something differs, and the first is named.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from dnn_research import recipe
from dnn_research.arguments import Parser, answer, config_overrides
from dnn_research.errors import UserError
from dnn_research.tools.enduring.runs import Attempt, Run, leave_none_behind

# What the comparison itself sets; a period in epochs is taken back by the one in steps.
SET = (
    "train.num_steps",
    "train.num_epochs",
    "checkpoint.every_steps",
    "checkpoint.every_epochs",
    "record.every_steps",
    "schedule.warmup_steps",
    "schedule.warmup_epochs",
)

# A run may be at its end before anybody sees that the checkpoint before is written.
TRIES = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    return answer(lambda: _run(known, rest), debug=known.debug)


def _run(known: argparse.Namespace, rest: Sequence[str]) -> int:
    overrides = tuple(config_overrides(rest))
    if known.steps < 1:
        raise UserError(f"--steps is {known.steps}: give 1 or more")
    for override in overrides:
        if override.removeprefix("config.").partition("=")[0] in SET:
            raise UserError(f"--{override}: the comparison sets this itself; --steps gives the length")
    leave_none_behind()
    recipe.load(known.config, overrides)  # what is wrong with them is said before anything runs
    if known.workdir is None:
        with tempfile.TemporaryDirectory(prefix="verify_resume-") as name:
            return _verify(known, overrides, Path(name))
    if known.workdir.exists() and (not known.workdir.is_dir() or any(known.workdir.iterdir())):
        raise UserError(f"--workdir {known.workdir} is not an empty directory; give a new one")
    return _verify(known, overrides, known.workdir)


def _verify(known: argparse.Namespace, overrides: tuple[str, ...], workdir: Path) -> int:
    total = 2 * known.steps
    own = [f"train.num_steps={total}", f"checkpoint.every_steps={known.steps}", "record.every_steps=1"]
    schedule = recipe.load(known.config, overrides).config.schedule
    if schedule.warmup_epochs or schedule.warmup_steps:
        own.append(f"schedule.warmup_steps={known.steps}")  # the recipe's may be longer than the run is here
    all_overrides = (*overrides, *(f"config.{setting}" for setting in own))
    say: Callable[[str], None] = (lambda _: None) if known.json else (lambda line: print(line, flush=True))

    straight = Run(known.config, all_overrides, workdir / "straight")
    say(f"{known.config}: {total} steps without a break")
    _finish(straight)
    killed = _killed(known.config, all_overrides, workdir, known.steps, say)
    say(f"{known.config}: going on to step {total}")
    _finish(killed)

    from dnn_research import checkpoint
    from dnn_research.tools.enduring import sameness

    resumed = [entry["step"] for entry in checkpoint.read_run(killed.workdir)["resumed"]]
    if resumed != [known.steps]:
        raise UserError(f"the killed run went on from {resumed}, not from step {known.steps}")
    rows = [
        *sameness.compare(straight.workdir, killed.workdir, total),
        sameness.compare_order(killed.workdir, total, known.steps),
    ]
    different = [row for row in rows if row.difference]
    if known.json:
        found = [{"what": row.what, "count": row.count, "difference": row.difference} for row in rows]
        print(json.dumps({"config": known.config, "steps": total, "killed_after": known.steps, "compared": found}))
    else:
        width = max(len(row.what) for row in rows)
        say("\n".join(f"{row.what:<{width}}  {row.count:>6,}  {row.difference or 'equal'}" for row in rows))
    if different:
        print(f"error: not the same: {different[0].what}: {different[0].difference}", file=sys.stderr)
        return 1
    say(f"the same bit for bit: {total} steps, and {known.steps}, kill -9, {known.steps}")
    return 0


def _finish(run: Run) -> None:
    with Attempt(run) as attempt:
        end = attempt.end()
    if end.status:
        raise UserError(f"{run.workdir.name}: the run ended with status {end.status}: {end.last_words}")


def _killed(config: str, overrides: tuple[str, ...], workdir: Path, steps: int, say: Callable[[str], None]) -> Run:
    """A run that was killed between its checkpoint of step `steps` and its end."""
    for number in range(TRIES):
        run = Run(config, overrides, workdir / f"killed{number or ''}")
        with Attempt(run) as attempt:
            went_on = attempt.until(lambda: run.finished() == [steps] and run.recorded_step() > steps)  # noqa: B023
            attempt.process.send_signal(signal.SIGKILL)
            end = attempt.end()
        if went_on and run.finished() == [steps]:
            say(f"{config}: killed after step {run.recorded_step()}, with the checkpoint of step {steps} on the disk")
            return run
        if end.status not in (0, -signal.SIGKILL):
            raise UserError(f"{run.workdir.name}: the run ended with status {end.status}: {end.last_words}")
    raise UserError(f"{2 * steps} steps are over before the run can be killed; give more --steps than {steps}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dnn_research.tools.verify_resume",
        description=(__doc__ or "").splitlines()[0],
        epilog="Any field of the config can be changed: --config.model.depth=50",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:WORD,...]", help="such as configs/resnet152.py:smoke")
    parser.add_argument("--steps", type=int, default=4, help="k: 2k steps are trained, and k, kill, k (default: 4)")
    parser.add_argument("--workdir", type=Path, help="an empty directory for the runs, which stay there")
    parser.add_argument("--json", action="store_true", help="prints one JSON object instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
