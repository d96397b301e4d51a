"""Runs an experiment, goes on with it, and reports.

    python -m dnn_research.lab --experiment experiments/lrn.py[:laptop] --workdir D
        [--dry_run | --report] [--rows A,B] [--minutes N] [--cluster local|slurm --jobs N] [--publish]
    python -m dnn_research.lab --ledger

The plan and its estimated time come first. The same command goes on where the last one stopped, and repeats nothing
that came to its end. Exit status: 0 done, 1 bad input or runs that failed, 75 saved after SIGTERM, 130 interrupted.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import absl.logging

from dnn_research import process
from dnn_research.errors import Interrupted, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dnn_research.lab", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--experiment", metavar="FILE[:laptop]", help="such as experiments/lrn.py:laptop")
    parser.add_argument("--workdir", type=Path, help="where its runs and its report are; runs/lab/<experiment>")
    parser.add_argument("--dry_run", action="store_true", help="only show the plan and its estimated time")
    parser.add_argument("--report", action="store_true", help="only write the report of what has run")
    parser.add_argument("--rows", default="", metavar="A,B", help="only these rows; the report has all")
    parser.add_argument("--minutes", type=float, help="begin no further run after so many minutes")
    parser.add_argument("--cluster", choices=("local", "slurm"), help="every run is a job of its own, by submitit")
    parser.add_argument("--jobs", type=int, default=1, help="with --cluster: at most so many at a time")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="with --cluster: of submitit's executor"
    )
    parser.add_argument("--run", metavar="ROW/seed_N", help="only this run, no report: what a job does")
    parser.add_argument(
        "--publish", action="store_true", help="copy the report to experiments/results, write the ledger"
    )
    parser.add_argument("--ledger", action="store_true", help="only write experiments/LEDGER.md")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    known = parser.parse_args(arguments)
    _set_up_logging()
    try:
        return _run(known)
    except Interrupted as end:
        print(f"interrupted by {end.signal.name}: {end}; the same command goes on from there", file=sys.stderr)
        return 75 if end.signal.name == "SIGTERM" else 130
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except UserError as error:
        if known.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if known.debug:
            raise
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _run(known: argparse.Namespace) -> int:
    process.use_compilation_cache()
    # Here, not above: they import jax, which a mistyped flag should not wait for.
    from dnn_research import lab
    from dnn_research.lab import cluster, cost, experiment, hparams, ledger, plan, report, results, sweep

    del lab
    if known.ledger:
        print(f"wrote {ledger.write(Path('experiments'))}")
        return 0
    if not known.experiment:
        raise UserError("which experiment? --experiment experiments/residual.py:laptop (experiments/ has more)")
    chosen = experiment.load(known.experiment)
    directory = known.workdir or Path("runs/lab") / chosen.name
    swept = sweep.Sweep(chosen, directory)
    if known.run:
        return _run_one(swept, known.run)
    _refuse_other(directory, chosen)
    rows = [row for row in known.rows.split(",") if row] or list(chosen.rows)
    for row in rows:
        if row not in chosen.rows:
            raise UserError(f"{chosen.path} has no row '{row}'; it has {', '.join(chosen.rows)}")
    missing = swept.missing(rows)
    failed = 0
    if not known.report:
        print(plan.show(swept, missing, time_steps=known.cluster != "slurm"), flush=True)
        if known.dry_run:
            return 0
        if known.cluster:
            command = cluster.command_of(known.experiment, directory)
            parameters = dict(_parameter(text) for text in known.parameter)
            for phase in ([r for r in missing if r.tried is not None], [r for r in missing if r.tried is None]):
                ended = cluster.execute(
                    phase, command, cluster=known.cluster, jobs=known.jobs, parameters=parameters,
                    folder=directory / "jobs",
                )  # fmt: skip
                failed += sum(outcome is None or outcome.status == sweep.FAILED for _, outcome in ended)
        else:
            until = None if known.minutes is None else time.monotonic() + 60 * known.minutes
            for number, (run, outcome) in enumerate(swept.execute(missing, until=until), start=1):
                print(f"=== {number} of {len(missing)}: {run.name} {outcome.status}", flush=True)
                failed += outcome.status == sweep.FAILED
        _write_costs(swept, cost)
    result = results.collect(swept)
    command = f"./launch.sh lab --experiment {chosen.spec} --workdir {directory}"
    report.write(result, directory, command)
    hparams.write(result, directory)
    for claim in result["claims"]:
        found = report.effect(claim["effect_found"], claim["low"], claim["high"], result["measures"][claim["measure"]])
        print(f"{claim['id']}: {claim['says']}: {claim['verdict']}; {claim['row']} − {claim['against']}: {found}")
    print(f"wrote {directory / 'report.html'}, report.md, results.json, tensorboard")
    if known.publish:
        print(f"published {ledger.publish(result, directory, chosen.path.parent)}, {ledger.write(chosen.path.parent)}")
    return 1 if failed else 0


def _run_one(swept, name: str) -> int:
    """A job: one run, by its name."""
    from dnn_research import train
    from dnn_research.lab.sweep import FAILED

    runs = [run for row in swept.experiment.rows for run in swept.tuning_runs(row)] + swept.runs()
    for run in runs:
        if run.name == name:
            return 1 if swept.execute_one(run, train.CompiledSteps()).status == FAILED else 0
    raise UserError(f"{swept.experiment.path} has no run '{name}'; one is {runs[0].name}")


def _write_costs(swept, cost) -> None:
    """Measures the network of every row that has a finished run, once."""
    import dataclasses

    path = swept.directory / "cost.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    for row in swept.experiment.rows:
        first = swept.run(row, swept.experiment.seeds[0])
        if row not in held and (first.workdir / "outcome.json").exists():
            held[row] = dataclasses.asdict(cost.network(swept.recipe_of(first)))
            path.write_text(json.dumps(held, indent=1))


def _refuse_other(directory: Path, chosen) -> None:
    path = directory / "results.json"
    if not path.exists():
        return
    held = json.loads(path.read_text())
    if (held["experiment"], held["spec"].partition(":")[2]) != (chosen.name, chosen.spec.partition(":")[2]):
        raise UserError(f"{directory} holds {held['spec']}; give another --workdir for {chosen.spec}")


def _parameter(text: str) -> tuple[str, str | int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--parameter takes NAME=VALUE, not '{text}'")
    return name, int(value) if value.isdigit() else value


def _set_up_logging() -> None:
    absl.logging.set_verbosity(absl.logging.WARNING)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("dnn_research")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    process.use_huge_pages()
    sys.exit(main())
