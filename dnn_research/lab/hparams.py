"""An experiment in TensorBoard: HParams with a line for each run, and the rows' mean curves to compare.

The runs' own curves are in their work directories, below the scale's folder.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorboardX
from tensorboardX import summary

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
            with tensorboardX.SummaryWriter(str(folder / row / f"seed_{run['seed']}")) as writer:
                for part in summary.hparams({"row": row, "seed": run["seed"], **settings}, numbers):
                    assert writer.file_writer is not None
                    writer.file_writer.add_summary(part)
                for name, value in numbers.items():
                    writer.add_scalar(name, value, 0)
        if runs:
            with tensorboardX.SummaryWriter(str(folder / row)) as writer:
                _means(writer, [run["curves"] for run in runs])


def _means(writer: tensorboardX.SummaryWriter, curves: list[Mapping[str, Any]]) -> None:
    """The mean over the runs that reached a step."""
    for split, tags in CURVES.items():
        points: dict[int, list[list[float]]] = {}
        for curve in curves:
            for step, *values in curve[split]:
                points.setdefault(step, []).append([value for value in values if value is not None])
        for step, found in sorted(points.items()):
            # Without an error where nothing is classified.
            for tag, value in zip(tags, np.mean(found, axis=0), strict=False):
                writer.add_scalar(tag, float(value), step)
