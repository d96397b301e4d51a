"""Runs as jobs of their own: of Slurm, or of this machine; through submitit, which `pip install submitit` brings."""

import importlib
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dnn_research.errors import UserError
from dnn_research.lab.sweep import Outcome, Run, read_outcome

WAIT_SECONDS = 2.0
# Of a run; submitit's own limit is two.
LOCAL_MINUTES = 30 * 24 * 60


def execute(
    runs: Iterable[Run],
    command: Sequence[str],
    *,
    cluster: str,
    jobs: int,
    parameters: Mapping[str, Any],
    folder: Path,
) -> list[tuple[Run, Outcome | None]]:
    """Submits every run as one job, `jobs` at a time, and waits for them; None for a run whose job left no outcome.

    Args:
        runs: what is to run.
        command: of the lab, to which `--run NAME` is added.
        cluster: `slurm`, or `local` for processes of this machine.
        jobs: at most so many at a time.
        parameters: of submitit's executor, such as slurm_partition or gpus_per_node.
        folder: for scripts and output of the jobs.

    Raises:
        UserError: submitit or the cluster is not there.
    """
    if cluster == "slurm" and not {"timeout_min", "slurm_time"} & parameters.keys():
        raise UserError("--cluster=slurm needs a time limit: give --parameter timeout_min=MINUTES, of a run")
    limits = {"timeout_min": LOCAL_MINUTES} if cluster == "local" else {}
    try:
        submitit = importlib.import_module("submitit")
    except ImportError as error:
        raise UserError(f"--cluster={cluster} needs submitit: pip install -e '.[cluster]' ({error})") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"name": "lab", **limits, **parameters})
    except (RuntimeError, NameError, ValueError, TypeError) as error:
        raise UserError(f"--cluster={cluster}: {error}") from error
    waiting, running, done = list(runs), {}, []
    while waiting or running:
        free = _free_devices([held for _, held in running.values()], jobs)
        while waiting and len(running) < jobs:
            run, device = waiting.pop(0), free.pop(0)
            words = [*command, "--run", run.name]
            if cluster == "local" and "gpus_per_node" not in parameters:
                words = [*_devices(device), *words]
            # Without an environment of its own, which would be all that the job has.
            function = submitit.helpers.CommandFunction(words, verbose=False)
            running[run] = executor.submit(function), device
        for run, (job, _) in list(running.items()):
            if job.done():
                del running[run]
                done.append((run, read_outcome(run)))
                print(f"{run.name}: {_said(run, job)}", flush=True)
        time.sleep(WAIT_SECONDS)
    return done


def command_of(spec: str, directory: Path) -> list[str]:
    """The lab's command for this experiment in this directory."""
    return [sys.executable, "-m", "dnn_research.lab", "--experiment", spec, "--workdir", str(directory)]


def _said(run: Run, job: Any) -> str:
    outcome = read_outcome(run)
    if outcome is not None:
        return outcome.status
    return f"ended without an outcome; see {job.paths.stderr}"


def _free_devices(held: Sequence[int], jobs: int) -> list[int]:
    return [number for number in range(jobs) if number not in held]


def _devices(number: int) -> list[str]:
    """Local jobs take turns at the GPUs that this process may see, which submitit hides from them; without any they
    share the CPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not visible:
        return ["env", "-u", "CUDA_VISIBLE_DEVICES"] if visible is None else []
    every = visible.split(",")
    return ["env", f"CUDA_VISIBLE_DEVICES={every[number % len(every)]}"]
