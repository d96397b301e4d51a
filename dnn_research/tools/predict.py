"""Says what is in pictures: the likeliest labels of each, by a trained or imported network.

    python -m dnn_research.tools.predict --workdir runs/quickstart photo.jpg folder/ [--top 5] [--format table|csv|json]

Pictures are decoded, cropped and normalized as the run's evaluation does it; orientation tags are ignored, as there.
"""

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dnn_research import checkpoint, evaluation, models
from dnn_research.arguments import Parser, answer
from dnn_research.data import images, load_normalization, protocols
from dnn_research.data.photographs import below
from dnn_research.errors import UserError, first_line
from dnn_research.tasks.task import Logits

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The likeliest labels of a picture, the likeliest first, and their probabilities."""

    file: str
    labels: list[str]
    probabilities: list[float]


class Predictor:
    """A run's network with the preprocessing of its evaluation, all views of a picture included.

    Args:
        workdir: the run's work directory.
        which: `latest`, `best`, or a step.
        ema: the moving average of the parameters.
        labels: a name for each class; None for the run's own.
        batch_size: pictures at a time.
    """

    def __init__(
        self, workdir: Path, which: str, *, ema: bool = False, labels: Sequence[str] | None = None, batch_size: int = 32
    ) -> None:
        run = checkpoint.read_run_of("classification", workdir, ", whose network knows no labels")
        config = run["config"]
        self._data, self._batch_size = config["data"], batch_size
        self._protocol = protocols.of_run(config)
        model, variables = checkpoint.load_network(workdir, which, ema=ema)
        self._network = variables.pop("params"), variables
        classes = config["model"]["num_classes"] or run["num_classes"]
        if labels is not None and len(labels) != classes:
            raise UserError(f"--labels names {len(labels)} classes, the network has {classes}: give one name a line")
        named = run.get("class_names", []) if labels is None else labels
        # A network may have more classes than its data set, and imported weights bring no names.
        self._names = [*named, *(f"class {number}" for number in range(len(named), classes))]
        normalize = load_normalization(workdir)
        self._fill = np.rint(normalize.mean).astype(np.uint8)

        def logits_of(network: nn.Module) -> Logits:
            def logits(params: Any, model_state: Any, pixels: jax.Array) -> jax.Array:
                return jnp.asarray(network.apply({"params": params, **model_state}, normalize(pixels)), jnp.float32)

            return logits

        size = self._data["image_size"]
        self._steps = [
            jax.jit(
                evaluation.make_view_step(
                    logits_of(models.fully_convolutional(model, size) if one.dense else model),
                    mirrored=one.mirrored,
                    share=one.share,
                    pixels=batch_size * size**2,
                )
            )
            for one in self._protocol.passes
        ]

    def load(self, file: Path) -> tuple[np.ndarray, ...]:
        """What the network sees of a picture, before normalization, as the protocol's `views` gives it.

        Raises:
            UserError: it cannot be read.
        """
        try:
            decoded = images.decode(file.read_bytes(), channels=self._data["channels"])
            return self._protocol.views(decoded, fill=self._fill)
        except OSError as error:
            raise UserError(error.strerror or str(error)) from error

    def predict(self, files: Sequence[str], pictures: Sequence[tuple[np.ndarray, ...]], top: int) -> list[Prediction]:
        """The `top` likeliest labels of up to `batch_size` pictures."""
        if any(one.dense for one in self._protocol.passes):
            # Whole images have sizes of their own.
            found = np.concatenate([self._probabilities([picture], 1) for picture in pictures])
        else:
            found = self._probabilities(pictures, self._batch_size)
        order = np.argsort(-found, axis=-1, kind="stable")[:, :top]
        return [
            Prediction(file, [self._names[n] for n in best], [float(row[n]) for n in best])
            for file, row, best in zip(files, found, order, strict=True)
        ]

    def _probabilities(self, pictures: Sequence[tuple[np.ndarray, ...]], batch_size: int) -> np.ndarray:
        """Of each class, [N, classes], for pictures whose views have equal sizes; they are filled up to a batch."""
        parts = []
        for step, stacks in zip(self._steps, zip(*pictures, strict=True), strict=True):
            batch = np.zeros((batch_size, *stacks[0].shape), np.uint8)
            batch[: len(stacks)] = stacks
            parts.append(np.asarray(step(self._network, {"views": batch})))
        return np.exp(np.logaddexp.reduce(parts))[: len(pictures)]


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and of folders all pictures inside, by their suffix, sorted.

    Raises:
        UserError: a path is not there, or there is no picture at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += below(path, SUFFIXES)
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"there is no file or folder {path}")
    if not found:
        raise UserError(f"no picture in {', '.join(map(str, paths))}; looked for {', '.join(SUFFIXES)}")
    return found


def predict_files(
    predictor: Predictor, files: Sequence[Path], top: int, batch_size: int
) -> Iterator[Prediction | tuple[Path, str]]:
    """A prediction for each file in order of batches; (file, reason) for each that cannot be read."""
    names: list[str] = []
    pictures: list[tuple[np.ndarray, ...]] = []
    for file in files:
        try:
            pictures.append(predictor.load(file))
            names.append(str(file))
        except UserError as error:
            yield file, str(error)
        if len(pictures) == batch_size:
            yield from predictor.predict(names, pictures, top)
            names, pictures = [], []
    if pictures:
        yield from predictor.predict(names, pictures, top)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    known = _parser().parse_args(arguments)
    return answer(lambda: _run(known), debug=known.debug)


def _labels(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 ({first_line(error)}): one class name a line") from error


def _run(known: argparse.Namespace) -> int:
    if known.top < 1 or known.batch_size < 1:
        raise UserError("--top and --batch_size must be 1 or more")
    labels = _labels(known.labels) if known.labels else None
    files = find_files(known.paths)
    predictor = Predictor(known.workdir, known.checkpoint, ema=known.ema, labels=labels, batch_size=known.batch_size)
    unreadable, predictions = 0, []
    for result in predict_files(predictor, files, known.top, known.batch_size):
        if isinstance(result, Prediction):
            predictions.append(result)
            if known.format == "table":
                print(_lines(result), flush=True)
        else:
            unreadable += 1
            print(f"error: {result[0]}: {result[1]}", file=sys.stderr)
    if known.format == "json":
        print(json.dumps([dataclasses.asdict(prediction) for prediction in predictions], indent=1))
    elif known.format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(["file", "rank", "label", "probability"])
        for p in predictions:
            ranked = enumerate(zip(p.labels, p.probabilities, strict=True), start=1)
            writer.writerows([p.file, rank, label, f"{value:.6f}"] for rank, (label, value) in ranked)
    if unreadable:
        print(f"{unreadable} of {len(files)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _lines(prediction: Prediction) -> str:
    ranked = zip(prediction.labels, prediction.probabilities, strict=True)
    return "\n".join([prediction.file, *(f"  {100 * value:6.2f} %  {label}" for label, value in ranked)])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dnn_research.tools.predict", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    parser.add_argument("--workdir", type=Path, required=True, help="of a run, or of imported weights")
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best, or a step")
    parser.add_argument("--ema", action="store_true", help="the moving average of the parameters")
    parser.add_argument("--labels", type=Path, help="a file with the name of each class, one a line")
    parser.add_argument("--top", type=int, default=5, help="so many labels a picture (default 5)")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    parser.add_argument("--batch_size", type=int, default=32, help="pictures at a time (default 32)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
