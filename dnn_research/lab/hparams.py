"""An experiment in TensorBoard: HParams with a line for each run, and the rows' mean curves to compare.

The runs' own curves are in their work directories, below the scale's folder.
"""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary

from dnn_research.events import EventFile

CURVES = {"train": ("train/loss", "train/error"), "eval": ("test/loss", "test/error")}


def write(result: Mapping[str, Any], directory: Path) -> None:
    """Writes `tensorboard/` anew: `<row>/seed_<n>` with settings and measures, `<row>` with the means over seeds."""
    folder = directory / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    paths = sorted({path for held in result["rows"].values() for path in held["differences"]})
    for row, held in result["rows"].items():
        runs = [run for run in held["runs"] if run["values"]]
        settings = {path: str(held["differences"].get(path, "as the recipe")) for path in paths}
        for run in runs:
            numbers = {f"lab/{name}": value for name, value in run["values"].items() if value is not None}
            with contextlib.closing(EventFile(folder / row / f"seed_{run['seed']}")) as file:
                for part in summary.hparams({"row": row, "seed": run["seed"], **settings}, numbers):
                    file.add(part, None)
                for name, value in numbers.items():
                    file.add(summary.scalar(name, value), 0)
        if runs:
            with contextlib.closing(EventFile(folder / row)) as file:
                _means(file, [run["curves"] for run in runs])


def _means(file: EventFile, curves: list[Mapping[str, Any]]) -> None:
    """The mean over the runs that reached a step."""
    for split, tags in CURVES.items():
        points: dict[int, list[list[float]]] = {}
        for curve in curves:
            for step, *values in curve[split]:
                points.setdefault(step, []).append([value for value in values if value is not None])
        for step, found in sorted(points.items()):
            # Without an error where nothing is classified.
            for tag, value in zip(tags, np.mean(found, axis=0), strict=False):
                file.add(summary.scalar(tag, float(value)), step)
