"""What the command does: plan, runs, report, in this order."""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

from dnn_research import recipe, train
from dnn_research.errors import UserError, choose, field, read_json
from dnn_research.lab import cluster, cost, experiment, hparams, ledger, plan, report, results
from dnn_research.lab.experiment import Experiment
from dnn_research.lab.sweep import FAILED, Run, Sweep

EXPERIMENTS = Path("experiments")


def run(known: argparse.Namespace) -> int:
    """Does what the flags of `dnn_research.lab` say; the exit status."""
    if known.ledger:
        print(f"wrote {ledger.write(EXPERIMENTS)}")
        return 0
    if not known.experiment:
        raise UserError("which experiment? --experiment experiments/residual.py:laptop (experiments/ has more)")
    chosen = experiment.load(known.experiment)
    sweep = Sweep(chosen, known.workdir or chosen.workdir)
    if known.publish and chosen.smoke:
        raise UserError(f"{chosen.spec} is shrunk to a few steps: its results are not published")
    if known.cluster and known.jobs < 1:
        raise UserError(f"--jobs is {known.jobs}: give 1 or more")
    if known.cluster and known.minutes is not None:
        raise UserError("--minutes is for runs in this process; with --cluster a job has its own time limit")
    if known.run:
        return _run_one(sweep, known.run)
    _refuse_other(sweep.directory, chosen)
    failed = 0
    if not known.report:
        rows = [row for row in known.rows.split(",") if row] or list(chosen.rows)
        for row in rows:
            choose(chosen.rows, row, f"row of {chosen.path}")
        missing = sweep.missing(rows)
        planned = plan.make(sweep, missing, time_steps=known.cluster != "slurm")
        print(planned.text, flush=True)
        if known.dry_run:
            return 0
        for row, problem in planned.problems.items():
            raise UserError(f"row {row} cannot run, so none was begun: {problem}")
        failed = _run_as_jobs(sweep, missing, known) if known.cluster else _run_here(sweep, missing, known.minutes)
        _measure_networks(sweep)
    _report(sweep, publish=known.publish)
    return 1 if failed else 0


def _run_here(sweep: Sweep, missing: Sequence[Run], minutes: float | None) -> int:
    """Runs one after the other; how many failed."""
    until = None if minutes is None else time.monotonic() + 60 * minutes
    failed = 0
    for number, (run, outcome) in enumerate(sweep.execute(missing, until=until), start=1):
        print(f"=== {number} of {len(missing)}: {run.name} {outcome.status}", flush=True)
        failed += outcome.status == FAILED
    return failed


def _run_as_jobs(sweep: Sweep, missing: Sequence[Run], known: argparse.Namespace) -> int:
    """One job a run, those first that others need; how many failed or left no outcome."""
    failed = 0
    tuning = [run for run in missing if run.tried is not None]
    evaluating = [run for run in missing if run.row in sweep.evaluated]
    training = [run for run in missing if run not in tuning and run not in evaluating]
    for phase in (tuning, training, evaluating):
        ended = cluster.execute(
            phase,
            cluster.command_of(known.experiment, sweep.directory),
            cluster=known.cluster,
            jobs=known.jobs,
            parameters=dict(_parameter(text) for text in known.parameter),
            folder=sweep.directory / "jobs",
        )
        failed += sum(outcome is None or outcome.status == FAILED for _, outcome in ended)
    return failed


def _run_one(sweep: Sweep, name: str) -> int:
    """What a job does: one run, by its name."""
    runs = [run for row in sweep.experiment.rows for run in sweep.tuning_runs(row)] + sweep.runs()
    chosen = choose({run.name: run for run in runs}, name, f"run of {sweep.experiment.path}")
    return 1 if sweep.execute_one(chosen, train.CompiledSteps()).status == FAILED else 0


def _measure_networks(sweep: Sweep) -> None:
    """Writes the cost of the network of every row whose first seed has ended into cost.json, anew for another recipe.

    Not of rows that only evaluate: what they do to a picture is not one pass.
    """
    path = sweep.directory / "cost.json"
    held = read_json(path, "remove it") if path.exists() else {}
    for row in [row for row in sweep.experiment.rows if row not in sweep.evaluated]:
        first = sweep.run(row, sweep.experiment.seeds[0])
        if not (first.workdir / "outcome.json").exists():
            continue
        chosen = sweep.recipe_of(first)
        plain = recipe.plain(chosen.config)
        config = json.dumps({key: plain[key] for key in ("task", "model", "data")})
        if held.get(row, {}).get("config") != config:
            held[row] = {"config": config, "network": dataclasses.asdict(cost.network(chosen))}
            path.write_text(json.dumps(held, indent=1))


def _report(sweep: Sweep, *, publish: bool) -> None:
    chosen, directory = sweep.experiment, sweep.directory
    result = results.collect(sweep)
    report.write(result, directory, chosen.command)
    hparams.write(result, directory)
    for claim in result["claims"]:
        found = report.effect(claim["effect_found"], claim["low"], claim["high"], result["measures"][claim["measure"]])
        print(f"{claim['id']}: {claim['says']}: {claim['verdict']}; {claim['row']} − {claim['against']}: {found}")
    print(f"wrote {directory / 'report.html'}, report.md, results.json, tensorboard")
    if publish:
        folder = chosen.path.parent
        print(f"published {ledger.publish(result, directory, folder)}, {ledger.write(folder)}")


def _refuse_other(directory: Path, chosen: Experiment) -> None:
    path = directory / "results.json"
    if not path.exists():
        return
    held = read_json(path, "remove it")
    name, spec = (field(held, key, str, path) for key in ("experiment", "spec"))
    if (name, spec.partition(":")[2]) != (chosen.name, chosen.spec.partition(":")[2]):
        raise UserError(f"{directory} holds {spec}; give another --workdir for {chosen.spec}")


def _parameter(text: str) -> tuple[str, str | int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--parameter takes NAME=VALUE, not '{text}'")
    return name, int(value) if value.isdigit() else value
