"""Damaged and hostile files for every reader of files: valid ones are mutated, and each case must end well.

    python -m tests.fuzzing [--cases 1000] [--seed 0] [--only NAME] [--first N]

A case ends well with a value, or with one of the errors that the reader promises, whose message is one line; within
`SECONDS` and `MEMORY`; without another exception, a crash of the interpreter, or a file outside of its directory. Case
number n of a target follows from (seed, target, n) alone: `--only TARGET --first n --cases 1` is that one again.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import os
import random
import resource
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.numpy
from PIL import Image

from dnn_research import checkpoint
from dnn_research.checkpoint import DamagedError
from dnn_research.data import images, normalization, npz_source, tar_source, tf_example, tfrecord
from dnn_research.errors import UserError
from dnn_research.lab import ledger, measures
from dnn_research.tools import compare, curves
from dnn_research.weights import files

WEIGHTS = Path(__file__).parent / "weights/data"
SECONDS = 60.0  # of a busy machine; a case takes a fraction of a second
MEMORY = 1 << 30  # bytes, beside what the interpreter holds
EXPECTED = (UserError, DamagedError)

# What lengths, counts and sizes are at their ends.
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x", "../../x", "\ud800", "\0", [], {}),
    *([1], {"x": 1}, [[]], "9" * 4000, [None], {"": None}),
)


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader of files.

    Attributes:
        seeds: the folder of a case -> valid contents.
        read: (the content, the folder of the case) -> anything; the reader finds its files in the folder.
        text: the content is JSON, whose values are changed too; `lines`: one a line.
        seal: makes the checksum of a changed content right again, so that what is behind it is met.
        slow: a case takes a process, or a part of a second.
    """

    seeds: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], Any]
    text: bool = False
    seal: Callable[[bytes], bytes] | None = None
    slow: bool = False


# --------------------------------------------------------------------------------------------------------- mutations


def mutate(content: bytes, draw: random.Random, *, text: bool) -> bytes:
    """A few changes at random places."""
    if text and draw.random() < 0.6:
        with contextlib.suppress(ValueError):
            return _other_values(content, draw)
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        place = draw.randrange(len(data)) if data else 0
        # Headers are where lengths stand.
        place = min(place, draw.randrange(64)) if draw.random() < 0.3 else place
        match draw.randrange(8):
            case 0 if data:
                data[place] ^= 1 << draw.randrange(8)
            case 1 if data:
                data[place] = draw.randrange(256)
            case 2:
                del data[place:]
            case 3:
                data[place:place] = draw.randbytes(draw.choice((1, 2, 8, 100)))
            case 4:
                del data[place : place + draw.choice((1, 4, 50))]
            case 5 if data:
                start = draw.randrange(len(data))
                piece = data[start : start + draw.choice((4, 32, 512))]
                data[place : place + len(piece)] = piece
            case 6:
                width = draw.choice((1, 2, 4, 8))
                value = draw.choice(EXTREMES) % 2 ** (8 * width)
                data[place : place + width] = value.to_bytes(width, draw.choice(("little", "big")))
            case 7:
                start = draw.randrange(len(data) + 1)
                data[place:place] = data[start : start + draw.choice((16, 256))]
    return bytes(data)


def _other_values(content: bytes, draw: random.Random) -> bytes:
    """Another value for a key of JSON, a key too many or too few, or brackets without end."""
    lines = content.decode().split("\n") if b"\n{" in content and not content.startswith(b"{\n") else [content.decode()]
    number = draw.randrange(len(lines))
    if draw.random() < 0.05:
        lines[number] = draw.choice("[{") * draw.choice((10, 100_000)) + '"x":' * draw.randrange(2)
        return "\n".join(lines).encode()
    body = json.loads(lines[number])
    places = list(_places(body))
    if not places:
        return b"null"
    inside, key = draw.choice(places)
    match draw.randrange(4):
        case 0 if isinstance(inside, dict):
            del inside[key]
        case 1 if isinstance(inside, dict):
            inside[draw.choice(("x", "__class__", "", "../x"))] = inside.pop(key)
        case _:
            inside[key] = draw.choice(ODD_VALUES)
    if draw.random() < 0.05:
        body = draw.choice(ODD_VALUES)
    lines[number] = json.dumps(body)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _places(body: Any) -> Iterator[tuple[Any, Any]]:
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in items:
        yield body, key
        yield from _places(value)


# ----------------------------------------------------------------------------------------------------------- targets


def _picture(kind: str, mode: str = "RGB", **options: Any) -> Callable[[Path], list[bytes]]:
    def make(_: Path) -> list[bytes]:
        pixels = np.random.default_rng(0).integers(0, 256, (23, 17, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
        return [stream.getvalue()]

    return make


def _image(content: bytes, _: Path) -> None:
    for channels in (1, 3):
        images.decode(content, channels=channels)


def _png_sealed(content: bytes) -> bytes:
    """Right checksums for all chunks that are where their lengths say."""
    data, position = bytearray(content), 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(data)


def _example(_: Path) -> list[bytes]:
    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    image = field(1, field(1, b"image") + field(2, field(1, field(1, b"JPEG" * 20))))
    label = field(1, field(1, b"label") + field(2, field(3, field(1, b"\x07"))))
    return [field(1, image + label)]


def _records(_: Path) -> list[bytes]:
    def record_of(payload: bytes) -> bytes:
        length = len(payload).to_bytes(8, "little")
        crcs = (tfrecord.masked_crc32c(part).to_bytes(4, "little") for part in (length, payload))
        return length + next(crcs) + payload + next(crcs)

    return [b"".join(record_of(bytes([n]) * 50 * n) for n in range(1, 5))]


def _read_records(content: bytes, folder: Path) -> None:
    path = folder / "x.tfrecord"
    path.write_bytes(content)
    offsets = tfrecord.index_file(path)
    for start, end in itertools.pairwise(offsets):
        tfrecord.read_record(path, int(start), int(end))


def _archive(folder: Path) -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        save(folder / "x.npz", image=np.zeros((6, 4, 4, 3), np.uint8), label=np.arange(6) % 2)
        found.append((folder / "x.npz").read_bytes())
    return found


def _read_archive(content: bytes, folder: Path) -> None:
    path = folder / "x.npz"
    path.write_bytes(content)
    source = npz_source.open_npz(str(path), channels=3, holdout_fraction=0.5, holdout_seed=0)
    source.split("train")


def _tar(_: Path) -> list[bytes]:
    (picture,) = _picture("PNG")(Path())
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
            for name in ("train/a/1.png", "train/b/2.png", f"val/a/{'long' * 20}.png", "val/b/ö.png"):
                member = tarfile.TarInfo(name)
                member.size = len(picture)
                tar.addfile(member, io.BytesIO(picture))
        found.append(stream.getvalue())
    return found


def _read_tar(content: bytes, folder: Path) -> None:
    path = folder / "x.tar"
    path.write_bytes(content)
    source = tar_source.open_tar(str(path), channels=3, holdout_fraction=0.5, holdout_seed=0)
    examples = source.split("train")
    for index in range(min(len(examples), 4)):
        examples[index]


def _weights(*names: str) -> Callable[[Path], list[bytes]]:
    return lambda _: [(WEIGHTS / name).read_bytes() for name in names]


def _other_weights(kind: str) -> Callable[[Path], list[bytes]]:
    arrays = {"a/kernel": np.ones((2, 3), np.float32), "b": np.zeros(5, np.float16)}

    def make(folder: Path) -> list[bytes]:
        path = folder / "x"
        if kind == "safetensors":
            safetensors.numpy.save_file(arrays, path)
        elif kind == "npz":
            with path.open("wb") as file:
                np.savez(file, **{name.replace("/", "."): array for name, array in arrays.items()})
        else:
            with h5py.File(path, "w") as file:
                for number, array in enumerate(arrays.values()):
                    file[f"data/conv{number}/0"] = array
        return [path.read_bytes()]

    return make


def _read_weights(content: bytes, folder: Path) -> None:
    path = folder / "weights"
    path.write_bytes(content)
    files.read(path)


RUN = {
    "config": {
        "batch_size": 4,
        "seed": 0,
        "model": {"name": "lenet", "num_classes": None},
        "data": {"source": "synthetic", "normalization": "channel", "mean": [0.0], "std": [1.0], "channels": 1},
        "checkpoint": {"best_metric": "eval/top1_accuracy", "init_exclude": []},
    },
    "num_classes": 10,
    "class_names": ["0", "1"],
    "task": {"style": {"name": "x", "sha256": "0"}},
    "revision": {"commit": "0", "dirty": False, "code": "1"},
    "versions": {"jax": "0.12"},
    "python": "3.13",
    "devices": ["cpu:cpu"],
    "processes": 1,
    "resumed": [],
}
LINES = [
    {"step": 2, "epoch": 0.1, "split": "train", "examples": 8, "loss": 2.3, "top1_accuracy": 0.1},
    {"step": 2, "epoch": 0.1, "split": "eval", "examples": 8, "loss": 2.3, "top1_accuracy": 0.1, "protocol": "x"},
    {"step": 4, "epoch": 0.2, "split": "train", "examples": 8, "loss": 2.1, "top1_accuracy": 0.2},
    {"step": 4, "epoch": 0.2, "split": "eval", "examples": 8, "loss": 2.2, "top1_accuracy": 0.3, "protocol": "x"},
]


def _write_run(folder: Path, *, run: bytes | None = None, lines: bytes | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_bytes(json.dumps(RUN).encode() if run is None else run)
    (folder / "metrics.jsonl").write_bytes(_lines(folder)[0] if lines is None else lines)
    return folder


def _lines(_: Path) -> list[bytes]:
    return ["".join(json.dumps(line) + "\n" for line in LINES).encode()]


def _read_run(content: bytes, folder: Path) -> None:
    one, other = _write_run(folder / "one", run=content), _write_run(folder / "other")
    if not (one / "checkpoints").exists():
        _save(one)
    readers: list[Callable[[], Any]] = [
        lambda: compare.table(compare.compare(one, other), one, other),
        lambda: compare.table(compare.compare(other, one), other, one),
        lambda: checkpoint.load_network(one),
        lambda: checkpoint.find(one, "best"),
        lambda: normalization.load_normalization(one),
        lambda: measures.read(one, 4),
    ]
    _all(readers)


def _read_lines(content: bytes, folder: Path) -> None:
    one, other = _write_run(folder / "one", lines=content), _write_run(folder / "other")
    _all(
        [
            lambda: compare.table(compare.compare(one, other), one, other),
            lambda: compare.table(compare.compare(other, one), other, one),
            lambda: curves.draw([one, other]),
            lambda: measures.read(one, 4),
        ]
    )


def _all(readers: list[Callable[[], Any]]) -> None:
    """Each reader, whatever another says; the last error."""
    errors = []
    for read in readers:
        try:
            read()
        except EXPECTED as error:
            check_message(error)
            errors.append(error)
    if errors:
        raise errors[-1]


def _manifest(folder: Path) -> list[bytes]:
    _save(folder / "seed")
    return [(folder / "seed/checkpoints/2" / checkpoint.MANIFEST).read_bytes()]


def _save(workdir: Path) -> Path:
    policy = checkpoint.Policy(2, "eval/top1_accuracy")
    workdir.mkdir(parents=True, exist_ok=True)
    with checkpoint.Writer(workdir / "checkpoints", policy, lambda _: None) as writer:
        state = {"step": np.int32(2), "params": {"fc": {"kernel": np.ones((2, 3), np.float32)}}, "model_state": {}}
        writer.save(2, state, {"eval/top1_accuracy": 0.5}, {"metrics.jsonl": 10}, {"protocol": "x"})
    return workdir


def _resealed(content: bytes) -> bytes:
    """The manifest with the checksum of what it says; what has no room for one, as it is."""
    body = json.loads(content)
    if not isinstance(body, dict):
        return content
    body.pop("crc32", None)
    return json.dumps({"crc32": zlib.crc32(json.dumps(body, sort_keys=True).encode()), **body}).encode()


def _read_manifest(content: bytes, folder: Path) -> None:
    workdir = _write_run(folder / "seed")
    step = workdir / "checkpoints/2"
    (step / checkpoint.MANIFEST).write_bytes(content)
    _all(
        [
            lambda: checkpoint.read_manifest(step),
            lambda: checkpoint.restore(step),
            lambda: checkpoint.find(workdir, "best"),
            lambda: checkpoint.load_network(workdir),
        ]
    )


def _state_file(folder: Path) -> list[bytes]:
    """Every file of a saved state, with its name before it."""
    state = _save(folder / "seed") / "checkpoints/2/state"
    paths = sorted(path for path in state.rglob("*") if path.is_file())
    return [f"{path.relative_to(state)}\n".encode() + path.read_bytes() for path in paths]


def _read_state(content: bytes, folder: Path) -> None:
    """A changed file of a state: it is found, or nothing was changed."""
    name, _, body = content.partition(b"\n")
    step = folder / "seed/checkpoints/2"
    path = step / "state" / os.fsdecode(name).replace("\0", "")[:200]  # a name that no file has may be long
    if not path.is_file():
        return
    before = path.read_bytes()
    path.write_bytes(body)
    try:
        checkpoint.restore(step)
        assert body == before, f"a changed {path.name} was restored"
    finally:
        path.write_bytes(before)


def _results(_: Path) -> list[bytes]:
    claim = {
        "id": "F1",
        "row": "b",
        "against": "a",
        "measure": "test_error",
        "direction": "lower",
        "margin": 0.0,
        "verdict": "supported",
        "pairs": 5,
        "effect_found": -1.0,
        "low": -2.0,
        "high": -0.5,
    }
    measure = {"title": "test error", "ratio": False, "unit": "points"}
    rows = {row: {"at_chance": 1, "done": 5} for row in ("a", "b")}
    clock = {"run_seconds": {"a": [10.0, 12.5], "b": [20.0]}}
    held = {"claims": [claim], "measures": {"test_error": measure}, "rows": rows, "experiment": "f", "clock": clock}
    return [json.dumps(held).encode()]


EXPERIMENT = '''"""Does it fuzz?

No paper asks.
"""

BASELINE = "{baseline}"
BASELINE_ROW = "a"
ROWS = {{"a": {{"model.residual": False}}, "b": {{"model.residual": True}}}}
SEEDS = (0, 1, 2, 3, 4, 5)
MEASURES = ("test_error",)
CLAIMS = (
    {{
        "id": "F1", "says": "it does", "source": "nowhere", "published": "-1", "row": "b", "against": "a",
        "measure": "test_error", "direction": "lower", "effect": -1.0,
    }},
)
'''


def _read_results(content: bytes, folder: Path) -> None:
    baseline = Path(__file__).parents[1] / "configs/resnet110_cifar10.py"
    (folder / "f.py").write_text(EXPERIMENT.format(baseline=baseline))
    held = folder / "results/f-paper"
    held.mkdir(parents=True, exist_ok=True)
    (held / "results.json").write_bytes(content)
    ledger.text(folder)


TARGETS: dict[str, Target] = {
    "jpeg": Target(_picture("JPEG"), _image),
    "jpeg progressive": Target(_picture("JPEG", progressive=True, quality=30), _image),
    "jpeg cmyk": Target(_picture("JPEG", "CMYK"), _image),
    "png": Target(_picture("PNG"), _image),
    "png sealed": Target(_picture("PNG"), _image, seal=_png_sealed),
    "webp": Target(_picture("WEBP"), _image),
    "webp lossless": Target(_picture("WEBP", lossless=True), _image),
    "gif": Target(_picture("GIF", "P"), _image),
    "bmp": Target(_picture("BMP"), _image),
    "tiff": Target(_picture("TIFF"), _image),
    "tiff deflated": Target(_picture("TIFF", compression="tiff_adobe_deflate"), _image),
    "ppm": Target(_picture("PPM"), _image),
    "tf.train.Example": Target(_example, lambda content, _: tf_example.image_and_label(content)),
    "tfrecord": Target(_records, _read_records),
    "npz": Target(_archive, _read_archive),
    "tar": Target(_tar, _read_tar),
    "torch": Target(_weights("tensors.zip.pth", "state_dict.protocol4.pth"), _read_weights),
    "torch legacy": Target(_weights("tensors.legacy.pth", "training.legacy.pth"), _read_weights),
    "safetensors": Target(_other_weights("safetensors"), _read_weights),
    "npz weights": Target(_other_weights("npz"), _read_weights),
    "caffe": Target(_other_weights("hdf5"), _read_weights, slow=True),
    "keras": Target(_weights("keras_3.15.1.keras", "keras_3.15.1.h5"), _read_weights, slow=True),
    "manifest": Target(_manifest, _read_manifest, text=True),
    "manifest sealed": Target(_manifest, _read_manifest, text=True, seal=_resealed, slow=True),
    "state": Target(_state_file, _read_state, slow=True),
    "run.json": Target(lambda _: [json.dumps(RUN).encode()], _read_run, text=True, slow=True),
    "metrics.jsonl": Target(_lines, _read_lines, text=True, slow=True),
    "results.json": Target(_results, _read_results, text=True),
}


# --------------------------------------------------------------------------------------------------------------- runs


@dataclasses.dataclass
class Tally:
    """How the cases of a target ended."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0


def check_message(error: BaseException) -> None:
    """A person reads it: one line, of printable length."""
    text = str(error)
    assert text and "\n" not in text and len(text) < 2000, f"not one line: {text[:300]!r}"


def run(name: str, *, cases: int, seed: int, first: int = 0, keep: Path | None = None) -> Tally:
    """Runs the cases of a target.

    Raises:
        AssertionError: a case did not end well; the message names it, and `keep` has its content.
    """
    target, tally = TARGETS[name], Tally()
    with tempfile.TemporaryDirectory(prefix="fuzzing") as top, contextlib.chdir(top):
        there, cache = Path(top, "there"), Path(top, "cache")
        there.mkdir()
        cache.mkdir()
        before, os.environ["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME"), str(cache)
        try:
            seeds = target.seeds(there)
            for content in seeds:
                target.read(content, there)  # the seeds themselves are sound
            held = _peak()
            for number in range(first, first + cases):
                draw = random.Random(f"{seed}, {name}, {number}")
                content = mutate(draw.choice(seeds), draw, text=target.text)
                if target.seal:
                    with contextlib.suppress(ValueError, AttributeError, RecursionError):
                        content = target.seal(content)
                if keep:
                    keep.write_bytes(content)
                try:
                    _case(target, content, there, tally)
                    assert _peak() - held < MEMORY, f"it took {(_peak() - held) / 2**20:.0f} MiB"
                    strays = {path.name for path in Path(top).iterdir()} - {"there", "cache"}
                    assert not strays, f"outside of its directory there is {strays}"
                except Exception as error:
                    raise AssertionError(
                        f"{name}, case {number} of seed {seed}, {len(content):,} bytes: "
                        f"{type(error).__name__}: {str(error)[:300]}"
                    ) from error
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before
    return tally


def _case(target: Target, content: bytes, folder: Path, tally: Tally) -> None:
    started = time.perf_counter()
    try:
        target.read(content, folder)
        tally.read += 1
    except EXPECTED as error:
        check_message(error)
        tally.refused += 1
    took = time.perf_counter() - started
    tally.slowest = max(tally.slowest, took)
    assert took < SECONDS, f"it took {took:.1f} s"


def _peak() -> int:
    """The most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(TARGETS), help="this target alone")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--keep", type=Path, help="where the content of the case that runs is kept")
    known = parser.parse_args()
    failed = 0
    for name in [known.only] if known.only else TARGETS:
        try:
            tally = run(name, cases=known.cases, seed=known.seed, first=known.first, keep=known.keep)
        except AssertionError as error:
            print(f"FAILED: {error}", flush=True)
            failed += 1
        else:
            print(
                f"{name:<18}{tally.read:>7} read {tally.refused:>7} refused, {tally.slowest:.2f} s at most", flush=True
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
