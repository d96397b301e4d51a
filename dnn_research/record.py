"""What a run writes about itself: run.json, metrics.jsonl, timing.jsonl, TensorBoard, and lines or a progress bar.

metrics.jsonl holds only what follows from config and seed, so that two runs can be compared byte by byte; whatever
depends on a clock goes to timing.jsonl. Only the first process of a run writes.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import summary as tensorboard_summary
from tqdm import tqdm

from dnn_research import lock
from dnn_research.errors import UserError, field, first_line, parse_json
from dnn_research.events import EventFile

# What decides a result, down to the decoder of the images.
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "numpy",
    "ml-collections",
    "opencv-python-headless",
    "simplejpeg",
    "pillow",
    "array_record",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """The section `record` of a recipe.

    Attributes:
        every_steps: training metrics are recorded once in so many steps, over the examples since the last time.
        images: augmented training images shown in TensorBoard at the start, 0 for none.
        histograms: whether evaluations write histograms of weights and the first layer's filters.
        confusion_classes: with at most so many classes, evaluations write a confusion matrix and a table of classes.
        profile_steps: `(first, last)` steps of which to keep a profiler trace, `()` for none.
    """

    every_steps: int
    images: int = 64
    histograms: bool = True
    confusion_classes: int = 100
    profile_steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise UserError(f"record.every_steps must be at least 1, not {self.every_steps}")
        window = self.profile_steps
        if window and not (len(window) == 2 and 1 <= window[0] <= window[1]):
            raise UserError(f"record.profile_steps is (first, last), steps from 1 on, or (), not {window}")


def describe_run(
    config: Mapping[str, Any],
    overrides: tuple[str, ...],
    num_classes: int,
    class_names: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    repeats: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What run.json holds: enough to tell which code, data, settings and machine made the numbers.

    `class_names` stay empty where the names are not known, as those of imported weights. `facts` are the task's,
    `repeats` whether a step gives the same bits each time.
    """
    return {
        "config": config,
        "overrides": list(overrides),
        "num_classes": num_classes,
        "class_names": list(class_names),
        "task": dict(facts or {}),
        "repeats": dict(repeats or {}),
        "command": sys.argv,
        "seed": config["seed"],
        "started": _now(),
        "revision": _revision(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "processes": jax.process_count(),
    }


# What a line of metrics.jsonl says in words; all else is numbers.
WORDS = ("split", "protocol", "protocol_hash", "dataset", "dataset_version", "dataset_split")


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, each with `step` and `split`; none if it is empty.

    Raises:
        UserError: it is not there, or a line of it is none of metrics.
    """
    path = workdir / "metrics.jsonl"
    try:
        texts = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name the work directory of a run") from error
    lines = []
    for number, text in enumerate(texts, 1):
        where = f"{path}, line {number},"
        try:
            line = parse_json(text)
        except ValueError as error:
            raise UserError(f"{where} is not JSON ({first_line(error)})") from error
        field(line, "step", int, where)
        field(line, "split", str, where)
        for name, value in line.items():
            if name in WORDS:
                field(line, name, str, where)
            elif type(value) not in (int, float) or (isinstance(value, int) and abs(value) >= 2**63):
                raise UserError(f"{where} is damaged: '{name[:40]}' cannot be {repr(value)[:60]}")
        lines.append(line)
    return lines


class Recorder:
    """Writes the records of one run; use it as a context manager.

    Args:
        workdir: the work directory, which exists.
        options: the section `record`.
        primary: whether this process writes; the others do nothing.
    """

    def __init__(self, workdir: Path, options: Options, *, primary: bool) -> None:
        self.options, self._workdir, self._primary = options, workdir, primary
        self._bar: tqdm | None = None
        self._batch_size = 0
        self._lock: Any = None
        self._metrics: Any = None
        self._timing: Any = None
        self._tensorboard: EventFile | None = None
        self._metrics_crc32 = 0

    def __enter__(self) -> "Recorder":
        if self._primary:
            self._lock = lock.hold(self._workdir, self.say)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        failures = []
        for file in (self._metrics, self._timing, self._tensorboard, self._lock):
            if file is not None:
                # A full disk that ended the run is met again by what is still in a buffer; the others must be closed.
                try:
                    file.close()
                except OSError as error:
                    failures.append(error)
        if failures and kind is None:
            raise self._cannot_write(failures[0])

    def start(
        self, run: Mapping[str, Any], *, step: int, total_steps: int, batch_size: int, records: Mapping[str, Any]
    ) -> None:
        """Opens the records at `step`: what was written after it by a run that was cut off is taken back."""
        if not self._primary:
            return
        path = self._workdir / "run.json"
        if step == 0 or not path.exists():
            history = {**run, "resumed": []}
        else:
            history = json.loads(path.read_text())
            history["resumed"].append({"step": step, **{key: run[key] for key in run if key not in ("config", "seed")}})
        with self._writing():
            self._open(history, step, records)
        if step == 0:
            self.text("config", f"```json\n{json.dumps(run['config'], indent=1)}\n```", 0)
        if sys.stderr.isatty():
            self._batch_size = batch_size
            self._bar = tqdm(
                total=total_steps * batch_size,
                initial=step * batch_size,
                unit=" images",
                unit_scale=True,
                dynamic_ncols=True,
                smoothing=0.1,
            )
            # It goes by the time of day, which may be set back: the bar would stand still for as long.
            self._bar._time = time.monotonic  # pyrefly: ignore [missing-attribute]  # there is no argument for it
            self._bar.unpause()

    def _open(self, history: Mapping[str, Any], step: int, records: Mapping[str, Any]) -> None:
        path = self._workdir / "run.json"
        temporary = path.with_suffix(".tmp")
        with open(temporary, "w") as file:
            file.write(json.dumps(history, indent=1))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # Open for the length of the run: __exit__ closes them.
        self._metrics = open(self._workdir / "metrics.jsonl", "ab+")  # noqa: SIM115
        written, wanted = self._metrics.tell(), records.get("metrics_bytes", 0)
        if written < wanted:
            self.say(f"metrics.jsonl has lost its end: {wanted:,} bytes were written before step {step:,}")
        self._metrics.truncate(min(written, wanted))
        self._metrics.seek(0)
        self._metrics_crc32 = zlib.crc32(self._metrics.read())
        # Checkpoints of an earlier version do not say.
        if written >= wanted and records.get("metrics_crc32", self._metrics_crc32) != self._metrics_crc32:
            self.say(f"metrics.jsonl was changed since step {step:,} was saved: lines up to there are not the run's")
        self._metrics.seek(0, os.SEEK_END)
        self._timing = open(self._workdir / "timing.jsonl", "a")  # noqa: SIM115
        self._tensorboard = EventFile(self._workdir / "tensorboard", purge_step=step + 1 if step else 0)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write the records in {self._workdir}: {error.strerror or error}; the same command goes on from "
            f"the last checkpoint when that is mended"
        )

    def say(self, line: str) -> None:
        """A line for the person who watches."""
        if self._primary:
            tqdm.write(line) if self._bar is not None else print(line, flush=True)

    def position(self) -> dict[str, Any]:
        """What a checkpoint must know to let the records go on from here."""
        if not self._primary:
            return {}
        with self._writing():
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
        path = self._workdir / "metrics.jsonl"
        # What is written to a file that was removed, or whose disk was taken away, is written to nowhere.
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(self._metrics.fileno())):
            raise UserError(f"{path} vanished under the run: was {self._workdir} moved, removed or unmounted?")
        return {"metrics_bytes": self._metrics.tell(), "metrics_crc32": self._metrics_crc32}

    def metrics(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl (keys as in the README), also to TensorBoard as `split/key`."""
        if not self._primary:
            return
        written = (json.dumps(line) + "\n").encode()
        with self._writing():
            self._metrics.write(written)
            self._metrics.flush()
        self._metrics_crc32 = zlib.crc32(written, self._metrics_crc32)
        self._scalars(line["split"], line, line["step"])

    def timing(self, line: Mapping[str, Any]) -> None:
        """A line of timing.jsonl, also to TensorBoard as `timing/key`."""
        if not self._primary:
            return
        with self._writing():
            self._timing.write(json.dumps({**line, "time": _now()}) + "\n")
            self._timing.flush()
        self._scalars("timing", line, line["step"])

    def norms(self, step: int, norms: Mapping[str, float]) -> None:
        """Norms of gradient, parameters and update, to TensorBoard alone."""
        if self._primary:
            self._scalars("norms", norms, step)

    def progress(self, step: int, brief: str) -> None:
        """Moves the bar, if there is one, and shows a few words beside it."""
        if self._bar is not None:
            self._bar.set_postfix_str(brief, refresh=False)
            self._bar.update(step * self._batch_size - self._bar.n)

    def images(self, name: str, images: np.ndarray, step: int) -> None:
        """A grid of uint8 images [N, H, W, C]."""
        self.picture(name, lambda: grid(images), step)

    def picture(self, name: str, draw: Callable[[], np.ndarray], step: int) -> None:
        """A picture, uint8 [H, W, 3], that is drawn only where it is written."""
        if self._tensorboard is not None:
            self._add(tensorboard_summary.image(name, draw(), dataformats="HWC"), step)

    def text(self, name: str, markdown: str, step: int) -> None:
        """Text in Markdown."""
        if self._tensorboard is not None:
            self._add(tensorboard_summary.text(name, markdown), step)

    def weights(self, params: Any, step: int) -> None:
        """Histograms of all kernels, and the first layer's filters as pictures if they see one or three channels."""
        if self._tensorboard is None or not self.options.histograms:
            return
        first = None
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            names = [entry.key for entry in path]
            if names[-1] != "kernel":
                continue
            values = np.asarray(leaf, np.float32)
            self._histogram("/".join(["weights", *names[:-1]]), values, step)
            if first is None and values.ndim == 4 and values.shape[2] in (1, 3) and values.shape[0] > 1:
                first = values
        if first is not None:
            low, high = first.min(axis=(0, 1, 2)), first.max(axis=(0, 1, 2))
            filters = (255 * (first - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
            self.images("first_layer_filters", _enlarge(filters.transpose(3, 0, 1, 2)), step)

    def summary(self, settings: Mapping[str, Any], results: Mapping[str, float]) -> None:
        """TensorBoard's HParams: the settings of the run beside its final results, whose curves are there already."""
        if self._tensorboard is None:
            return
        simple = {key: value for key, value in settings.items() if isinstance(value, (bool, int, float, str))}
        for part in tensorboard_summary.hparams(simple, dict(results)):
            self._add(part, None)
        with self._writing():
            self._tensorboard.flush()

    def _scalars(self, group: str, values: Mapping[str, Any], step: int) -> None:
        if self._tensorboard is None:
            raise RuntimeError("the recorder was not started")
        for key, value in values.items():
            if isinstance(value, (int, float)) and key not in ("step", "epoch", "examples"):
                self._add(tensorboard_summary.scalar(f"{group}/{key}", value), step)

    def _histogram(self, name: str, values: np.ndarray, step: int) -> None:
        counts, edges = np.histogram(values, bins=64)
        doubles = values.astype(np.float64)
        histogram = tensorboard_summary.histogram_raw(
            name,
            min=float(doubles.min()),
            max=float(doubles.max()),
            num=values.size,
            sum=float(doubles.sum()),
            sum_squares=float(np.square(doubles).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
        )
        self._add(histogram, step)

    def _add(self, value: Any, step: int | None) -> None:
        assert self._tensorboard is not None
        with self._writing():
            self._tensorboard.add(value, step)


class Timer:
    """Rates between two lines of timing.jsonl: how fast, and what share of the time went to waiting for data."""

    def __init__(self) -> None:
        self._waited, self._excluded = 0.0, 0.0
        self._started = time.perf_counter()

    def wait(self, seconds: float) -> None:
        """Counts time spent waiting for a batch."""
        self._waited += seconds

    def exclude(self, seconds: float) -> None:
        """Leaves out time that was not training: evaluation, saving."""
        self._excluded += seconds

    def lap(self, steps: int, images: int) -> dict[str, float]:
        """Rates since the last lap."""
        now = time.perf_counter()
        seconds = max(now - self._started - self._excluded, 1e-9)
        rates = {
            "images_per_second": images / seconds,
            "step_seconds": seconds / max(steps, 1),
            "data_wait_share": self._waited / seconds,
        }
        self._started, self._waited, self._excluded = now, 0.0, 0.0
        return rates


class Profiler:
    """Keeps a trace of the steps from the first to the last of `window`; ends it also where the run ends before."""

    def __init__(self, window: tuple[int, ...], directory: Path) -> None:
        self._window, self._directory, self._running = window, directory, False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            jax.profiler.stop_trace()

    def before(self, step: int) -> None:
        """Starts with the first step of the window that there is."""
        if self._window and self._window[0] <= step <= self._window[1] and not self._running:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after(self, step: int, state: Any) -> None:
        """Stops when the last step is done, not merely dispatched."""
        if self._running and step == self._window[1]:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._running = False


def grid(images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] side by side in about a square, one dark pixel between them: [H', W', C]."""
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    canvas = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + 1), i % columns * (width + 1)
        canvas[y : y + height, x : x + width] = image
    return canvas


def _enlarge(images: np.ndarray, side: int = 32) -> np.ndarray:
    """Repeats pixels until small images are about `side` pixels wide."""
    times = max(1, side // images.shape[1])
    return images.repeat(times, axis=1).repeat(times, axis=2)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def code_digest() -> str:
    """Of the files that a run is made by: the package without its tools, its lab and its weights' formats.

    Two runs of one digest ran the same code, whatever else was committed between them.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.split("/")[0] not in ("tools", "lab", "weights"):
            digest.update(f"{name}\0{path.read_text()}\0".encode())
    return digest.hexdigest()[:16]


def _revision() -> dict[str, Any]:
    """The commit and whether the code was changed since, None where git cannot tell, and the code's own digest.

    What the lab publishes is no code.
    """

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(Path(__file__).parent), *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", ":/", *(f":(top,exclude){path}" for path in PUBLISHED))
    return {"commit": commit, "dirty": bool(changed) if commit else None, "code": _CODE}


# What the lab writes beside the experiments.
PUBLISHED = ("experiments/results", "experiments/LEDGER.md")

# At import: of the code that this process runs, not of what its files become meanwhile.
_CODE = code_digest()
