"""What an experiment is going to run and how long it will take, before it does."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

from dnn_research import recipe
from dnn_research.errors import UserError, read_json
from dnn_research.lab import cost
from dnn_research.lab.statistics import seeds_needed
from dnn_research.lab.sweep import Run, Sweep


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is going to run.

    Attributes:
        text: rows, what is left of each, and the time it will take.
        problems: the rows of which not even a few steps can run, with what is to be mended.
    """

    text: str
    problems: Mapping[str, str]


def make(sweep: Sweep, missing: Iterable[Run], *, time_steps: bool) -> Plan:
    """The plan, with times from finished runs or from a few steps of the row.

    Args:
        sweep: the experiment in its directory.
        missing: the runs that are left.
        time_steps: whether a few steps are run where no run has finished; else such times are left open.
    """
    experiment = sweep.experiment
    left = list(missing)
    tests = max(len(experiment.comparisons), len(experiment.claims))
    lines = [
        f"{experiment.spec}: {experiment.question}",
        f"{len(experiment.rows)} rows x {len(experiment.seeds)} seeds ({tests} comparisons need {seeds_needed(tests)}) "
        f"in {sweep.directory}; {len(left)} runs are left",
    ]
    total, open_rows, problems = 0.0, 0, {}
    for row, differences in experiment.rows.items():
        count = sum(run.row == row for run in left)
        changes = ", ".join(f"{path}={value}" for path, value in differences.items()) or "as the baseline's recipe"
        time, how = _time(sweep, row, time_steps=time_steps and count > 0)
        if not count:
            said = "not chosen" if sweep.missing([row]) else "done"
        elif time is None:
            if time_steps:
                problems[row] = how
            said = f"time not known: {how}"
            open_rows += 1
        else:
            seconds = count * time.run_seconds + time.compile_seconds
            total += seconds
            said = f"{count} x {_minutes(time.run_seconds)} = {_minutes(seconds)} ({how})"
        lines.append(f"  {row:<24} {said}; {changes}")
    more = f", and {open_rows} rows whose time is not known" if open_rows else ""
    lines.append(f"estimated time: {_minutes(total)}{more}")
    return Plan("\n".join(lines), problems)


def _time(sweep: Sweep, row: str, *, time_steps: bool) -> tuple[cost.Time | None, str]:
    found = [time for run in sweep.runs() if run.row == row and (time := sweep.time(run))]
    if found:
        return cost.Time(0.0, sum(time.run_seconds for time in found) / len(found)), "as its finished runs"
    if not time_steps:
        return None, "no run has finished"
    held = sweep.directory / "estimate.json"
    known = read_json(held, "remove it") if held.exists() else {}
    chosen = sweep.experiment.load(row, sweep.experiment.seeds[0])
    config = json.dumps(recipe.plain(chosen.config), sort_keys=True)
    if known.get(row, {}).get("config") == config:
        return cost.Time(**known[row]["time"]), "from a few steps"
    try:
        time = cost.timed(chosen, training=row not in sweep.evaluated)
    except UserError as error:
        return None, str(error)
    known[row] = {"config": config, "time": {"compile_seconds": time.compile_seconds, "run_seconds": time.run_seconds}}
    sweep.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    held.write_text(json.dumps(known))
    return time, "from a few steps"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
