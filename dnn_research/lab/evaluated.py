"""Rows that differ from the baseline in how they evaluate: of a seed they all have the network that it trained.

The papers compare protocols on one network, and so does this: nothing that a protocol decides in training, as a
schedule that waits for a plateau, comes between. Such a row needs no training of its own.
"""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

from dnn_research import checkpoint, recipe, record, train
from dnn_research.errors import Diverged
from dnn_research.lab.experiment import Experiment
from dnn_research.lab.measures import MEASURES
from dnn_research.recipe import Recipe

# How the names of keys begin that training does not look at.
OF_EVALUATION = ("eval.", "task.evaluate_")


def rows(experiment: Experiment) -> frozenset[str]:
    """Those rows of an experiment; none where it measures more than a last evaluation tells, or tunes a field."""
    if experiment.tuning is not None or not all(MEASURES[name].of_last_evaluation for name in experiment.measures):
        return frozenset()
    seed = experiment.seeds[0]
    baseline = recipe.plain(experiment.load(experiment.baseline_row, seed).config)

    def in_evaluation_alone(row: str) -> bool:
        changed = recipe.differences(baseline, recipe.plain(experiment.load(row, seed).config))
        return bool(changed) and all(
            key.startswith(OF_EVALUATION) and not key.startswith("eval.every") for key in changed
        )

    return frozenset(row for row in experiment.rows if in_evaluation_alone(row))


def write(chosen: Recipe, trained: Path, workdir: Path, *, diverged: bool) -> None:
    """Evaluates the network of a run as a recipe says, and writes a run's records of it.

    `workdir` then has `run.json`, which names the run in `trained_in`, and `metrics.jsonl` with its training and this
    evaluation; checkpoints are there, not here.

    Args:
        chosen: the recipe of the row.
        trained: the work directory of the baseline's run.
        workdir: of the row's, which is made anew.
        diverged: whether there is no network to evaluate.

    Raises:
        Diverged: a result is not finite; the records are written without the evaluation.
    """
    lines = [line for line in record.read_metrics(trained) if line["split"] == "train"]
    divergence = None
    if not diverged:
        try:
            lines += _evaluated(chosen, trained, lines[-1])
        except Diverged as error:
            divergence = error
    history = checkpoint.read_run(trained)
    config = recipe.plain(chosen.config)
    now = record.describe_run(config, chosen.overrides, history["num_classes"])
    environment = {key: now[key] for key in ("revision", "python", "versions", "devices", "processes")}
    history |= {"config": config, "overrides": list(chosen.overrides), "trained_in": str(trained)}
    history["resumed"] = [*history["resumed"], {"step": lines[-1]["step"] if lines else 0, **environment}]
    shutil.rmtree(workdir, ignore_errors=True)
    workdir.mkdir(parents=True, mode=0o700)
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (workdir / "run.json").write_text(json.dumps(history, indent=1))
    if divergence is not None:
        raise divergence


def _evaluated(chosen: Recipe, trained: Path, last: dict[str, Any]) -> list[dict[str, Any]]:
    """One line of metrics for each split.

    Raises:
        Diverged: a result is not finite.
    """
    results = train.evaluate_run(chosen, trained, "latest", print)
    strange = [name for name, value in results.items() if not math.isfinite(value)]
    if strange:
        raise Diverged(f"{strange[0]} of {trained} is {results[strange[0]]}", last["step"], evaluating=True)
    setup = train.set_up(chosen, trained)
    return [
        {
            "step": last["step"],
            "epoch": last["epoch"],
            "split": split,
            **train.of_split(results, split),
            **dataclasses.asdict(setup.evaluator.conditions),
        }
        for split in setup.training.splits
    ]
