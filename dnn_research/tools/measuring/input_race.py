"""Our input pipeline and tf.data's take turns over the same JPEG files, each in a process of its own."""

import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnn_research.data import images, stream, turbojpeg
from dnn_research.data.augment import geometry
from dnn_research.errors import UserError
from dnn_research.tools.measuring import input_tf_data, jpeg_files, jpegs
from dnn_research.tools.measuring.input_turns import Request
from dnn_research.tools.measuring.ours import GIB
from dnn_research.tools.measuring.peer import Peer

OURS = "dnn_research.tools.measuring.input_ours"
THEIRS = "dnn_research.tools.measuring.input_tf_data"

CHECKED_IMAGES = 16
# Of 255, on average over all pixels: resizing rounds in fixed point here, in floating point there.
TOLERANCE = 0.5


@dataclasses.dataclass
class Pipeline:
    """What one pipeline reached.

    Attributes:
        name: of the pipeline.
        images_per_second: of each turn.
        peak_gib: the most memory of its process.
        versions: of what it is made of.
        ratios: how many times as fast ours is, round by round.
    """

    name: str
    images_per_second: list[float] = dataclasses.field(default_factory=list)
    peak_gib: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    ratios: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.images_per_second)


@dataclasses.dataclass
class Race:
    """The pipelines, ours first, and how far their images are apart: the mean difference of 0..255."""

    pipelines: list[Pipeline]
    difference: float | None = None


def run(
    files: Path | None, number: int, *, batch_size: int, threads: int, rounds: int, seconds: float, pause: float,
    peer_command: Sequence[str] | None,
) -> Race:  # fmt: skip
    """Measures.

    Args:
        files: a folder of JPEG files; None to make some.
        number: how many to make.
        batch_size: images of a batch.
        threads: of each pipeline.
        rounds: turns of each.
        seconds: of a turn.
        pause: seconds before each turn.
        peer_command: the Python of tf.data and its program; None for ours alone.

    Raises:
        UserError: there are no such files, a process fails, or the pipelines do not give the same images.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        if files is None:
            files = Path(name) / "images"
            files.mkdir()
            print(f"making {number:,} JPEG files ...", file=sys.stderr, flush=True)
            jpeg_files.make(files, number)
        request = Request(str(files.absolute()), batch_size, threads, CHECKED_IMAGES)
        windows, mirrored = _windows(files)
        race, processes = Race([]), []
        ours = [sys.executable, "-m", OURS]
        starts: list[tuple[str, Sequence[str], str | None, dict[str, str]]] = [("ours", ours, None, {})]
        if turbojpeg.library():
            starts.append(("ours, whole rows", ours, None, {"DNN_TURBOJPEG": "0"}))
        if peer_command:
            starts += [(f"tf.data {variant}", peer_command, variant, {}) for variant in input_tf_data.VARIANTS]
        for title, command, variant, environment in starts:
            folder = Path(name) / title.replace(" ", "_")
            folder.mkdir()
            (folder / "request.json").write_text(json.dumps(dataclasses.asdict(request)))
            np.savez(folder / "windows.npz", windows=windows, mirrored=mirrored)
            process = stack.enter_context(contextlib.closing(Peer(command, folder, environment)))
            processes.append(process)
            race.pipelines.append(Pipeline(title, versions=process.about["versions"]))
            if variant:
                process.ask("prepare", variant=variant)
        if peer_command:
            accurate = [pipeline.name for pipeline in race.pipelines].index("tf.data drawn")
            race.difference = _difference(processes[0], processes[accurate])
        # tf.data goes on making batches ahead, by gigabytes where it chooses how many: not in another's turn.
        for process in processes:
            process.stop()
        for number in range(rounds):
            order = list(zip(race.pipelines, processes, strict=True))
            for pipeline, process in order if number % 2 == 0 else order[::-1]:
                time.sleep(pause)
                process.go_on()
                answer = process.ask("run", at_least=seconds)
                process.stop()
                pipeline.images_per_second.append(answer["images"] / answer["seconds"])
        for pipeline, process in zip(race.pipelines, processes, strict=True):
            speeds = race.pipelines[0].images_per_second
            pipeline.ratios = [a / b for a, b in zip(speeds, pipeline.images_per_second, strict=True)]
            process.go_on()
            pipeline.peak_gib = process.ask("peak")["bytes"] / GIB
        return race


def _windows(files: Path) -> tuple[np.ndarray, np.ndarray]:
    """A crop and a mirroring for each file: int32 [N, 4] and bool [N]."""
    numbers, found, mirrored = stream.RandomNumbers(0), [], []
    paths = jpegs.names(files) if files.is_dir() else []
    if not paths:
        raise UserError(f"no JPEG file in the folder {files}; give --files a folder that has some")
    for index, file in enumerate(paths):
        height, width = images.decode(Path(file).read_bytes(), channels=3).shape[:2]
        rng = numbers[index]
        found.append(geometry.area_box(height, width, rng, area=jpegs.AREA, aspect=jpegs.ASPECT))
        mirrored.append(rng.random() < 0.5)
    return np.array(found, np.int32), np.array(mirrored)


def _difference(ours: Peer, theirs: Peer) -> float:
    """Of the same crops.

    Raises:
        UserError: they are not the same images.
    """
    both: list[Any] = []
    for process in (ours, theirs):
        process.ask("check", file="checked.npy")
        both.append(np.load(process.folder / "checked.npy").astype(np.float64))
    difference = float(np.abs(both[0] - both[1]).mean())
    if difference > TOLERANCE:
        raise UserError(
            f"the peer's images differ from ours by {difference:.2f} of 255 on average, more than {TOLERANCE}: "
            "it does not do the same"
        )
    return difference
