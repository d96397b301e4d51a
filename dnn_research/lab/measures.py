"""What is measured of a run: one number, read from the records in its work directory.

Errors and responses come in their units; effects of a `ratio` are differences of logarithms, shown as factors.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dnn_research import record
from dnn_research.errors import UserError, field, read_json

Lines = list[dict[str, Any]]

# A final training error is the mean over the last of so many parts of the run: with augmentation, as it was trained.
LAST = 10
# Section 3.1 of AlexNet's paper times networks to this training error.
TRAINED_ERROR = 25.0
# A network whose error is at least this share of a guess's has learned nothing.
GUESSING = 0.95


@dataclasses.dataclass(frozen=True)
class Records:
    """What a run left behind.

    Attributes:
        train, evaluation: the lines of metrics.jsonl of the two, in order; `evaluation` those of the split that the
            recipe's best metric is of.
        total_steps: the run's length.
        classes: of the data set.
        layers: what `layers.json` holds, {} where there is none.
    """

    train: Lines
    evaluation: Lines
    total_steps: int
    classes: int
    layers: Mapping[str, Any]

    @property
    def chance(self) -> float:
        """The error of guessing, in percent."""
        return 100 * (1 - 1 / self.classes)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number of a run.

    Attributes:
        title: with its unit.
        read: of a run that came to its end.
        diverged: of one whose loss became infinite; None: such a run has none.
        ratio: whether effects are factors: logarithms are compared, so all values are positive.
        unit: of an effect.
        layers: whether it needs the layers of the trained network to be looked at (`lab.layers`).
        final: False for one that only describes: it chooses among evaluations by the test set itself.
        of_last_evaluation: whether a last evaluation tells it.
    """

    title: str
    read: Callable[[Records], float]
    diverged: Callable[[Records], float] | None
    ratio: bool = False
    unit: str = "points"
    layers: bool = False
    final: bool = True
    of_last_evaluation: bool = False


def read(workdir: Path, total_steps: int) -> Records:
    """The records of a run.

    Raises:
        UserError: they are not there, or not complete.
    """
    path, layers = workdir / "run.json", workdir / "layers.json"
    try:
        run = read_json(path)
        lines = record.read_metrics(workdir)
        split = field(run, "config.checkpoint.best_metric", str, path).partition("/")[0]
        num_classes = field(run, "num_classes", int, path)
        held = read_json(layers) if layers.exists() else {}
    except UserError as error:
        raise UserError(f"{workdir} does not hold a run's records ({error}); remove it and start again") from error
    return Records(
        [line for line in lines if line["split"] == "train"],
        [line for line in lines if line["split"] == split],
        total_steps,
        num_classes,
        held,
    )


def error(line: Mapping[str, Any]) -> float:
    """The top-1 error of a line of metrics, in percent."""
    return 100 * (1 - line["top1_accuracy"])


def at_chance(records: Records) -> bool:
    """Whether a run ended with a network that guesses."""
    last = records.evaluation[-1] if records.evaluation else {}
    return "top1_accuracy" in last and error(last) >= GUESSING * records.chance


def curve(lines: Lines) -> list[list[Any]]:
    """[step, loss, top-1 error in percent] of lines of metrics; the error is None where nothing is classified."""
    return [[line["step"], line["loss"], error(line) if "top1_accuracy" in line else None] for line in lines]


def value(measure: Measure, records: Records, *, diverged: bool) -> float:
    """A run's number, in the measure's unit (a ratio's logarithm is not taken); NaN where such a run has none."""
    if not diverged:
        return measure.read(records)
    return measure.diverged(records) if measure.diverged else math.nan


def _late(records: Records) -> Lines:
    start = records.total_steps * (1 - 1 / LAST)
    return [line for line in records.train if line["step"] > start] or records.train[-1:]


def _late_mean(records: Records, of: Callable[[Mapping[str, Any]], float]) -> float:
    lines = _late(records)
    examples = sum(line["examples"] for line in lines)
    return sum(of(line) * line["examples"] for line in lines) / examples


def _steps_to_trained(records: Records) -> float:
    """The step of the first line whose training error is at most `TRAINED_ERROR`; the run's length if none is."""
    return next((line["step"] for line in records.train if error(line) <= TRAINED_ERROR), records.total_steps)


def _mean_over_layers(name: str) -> Callable[[Records], float]:
    def mean(records: Records) -> float:
        values = list(records.layers[name].values())
        return sum(values) / len(values)

    return mean


def _first_over_last(name: str) -> Callable[[Records], float]:
    def ratio(records: Records) -> float:
        values = list(records.layers[name].values())
        return values[0] / values[-1]

    return ratio


def _at_the_end(name: str) -> Callable[[Records], float]:
    def last(records: Records) -> float:
        return records.evaluation[-1][name]

    return last


def _style_left(records: Records) -> float:
    line = records.evaluation[-1]
    return line["style_loss"] / line["photograph_style_loss"]


def _guessing(records: Records) -> float:
    return records.chance


def _of_pictures(title: str, name: str) -> Measure:
    return Measure(title, _at_the_end(name), None, ratio=True, unit="times", of_last_evaluation=True)


MEASURES: dict[str, Measure] = {
    "test_error": Measure(
        "test error at the end [%]",
        lambda records: error(records.evaluation[-1]),
        _guessing,
        of_last_evaluation=True,
    ),
    "best_test_error": Measure(
        "best test error of all evaluations [%], descriptive: the test set chose it",
        lambda records: min(map(error, records.evaluation)),
        _guessing,
        final=False,
    ),
    "training_error": Measure(
        f"training error over the last {100 // LAST} % of the steps [%]",
        lambda records: _late_mean(records, error),
        _guessing,
    ),
    "training_loss": Measure(
        f"training loss over the last {100 // LAST} % of the steps [nats]",
        lambda records: _late_mean(records, lambda line: line["loss"]),
        lambda records: math.log(records.classes),
        unit="nats",
    ),
    "steps_to_25": Measure(
        f"steps to a training error of {TRAINED_ERROR:g} % (the run's length where it is not reached)",
        _steps_to_trained,
        lambda records: float(records.total_steps),
        ratio=True,
        unit="times",
    ),
    "response_std": Measure(
        "standard deviation of the responses of 3x3 layers, mean over layers",
        _mean_over_layers("response_std"),
        None,
        unit="",
        layers=True,
    ),
    "extended_error": Measure(
        "test error of the network extended to 110 layers by identities [%]",
        lambda records: records.layers["extended_error"],
        None,
        layers=True,
    ),
    "gradient_ratio_initial": Measure(
        "norm of the first layer's gradient over the last convolution's, at initialisation",
        _first_over_last("gradient_norm_initial"),
        None,
        ratio=True,
        unit="times",
        layers=True,
    ),
    "gradient_ratio_final": Measure(
        "norm of the first layer's gradient over the last convolution's, at the end",
        _first_over_last("gradient_norm_final"),
        None,
        ratio=True,
        unit="times",
        layers=True,
    ),
    "test_loss": _of_pictures("loss on pictures not trained on", "loss"),
    "style_loss": _of_pictures("style loss on pictures not trained on", "style_loss"),
    "content_loss": _of_pictures("content loss on pictures not trained on", "content_loss"),
    "style_left": Measure(
        "style loss of the results over that of the photographs as they are, by the loss network that trained",
        _style_left,
        None,
        ratio=True,
        unit="times",
        of_last_evaluation=True,
    ),
    "feature_loss": _of_pictures("distance of features on pictures not trained on", "feature_loss"),
    "psnr": Measure("PSNR of the luminance [dB]", _at_the_end("psnr"), None, unit="dB", of_last_evaluation=True),
    "ssim": Measure("SSIM of the luminance", _at_the_end("ssim"), None, unit="", of_last_evaluation=True),
}
