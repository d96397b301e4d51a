"""What two work directories hold of one run, compared bit for bit."""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from dnn_research import checkpoint, data
from dnn_research.errors import UserError

# What a row is called -> the fields of the train state in it. Fields that are not here are rows of their own.
PARTS = {
    "parameters": ("params",),
    "optimizer": ("opt_state",),
    "statistics": ("model_state",),
    "moving average": ("ema",),
    "plateau": ("plateau",),
    "sums of metrics": ("sums",),
    "random state": ("seed", "step"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of things that were compared.

    Attributes:
        what: of them all.
        count: how many.
        difference: the first that differs, and how; '' when all are equal.
    """

    what: str
    count: int
    difference: str


def compare(one: Path, other: Path, step: int) -> list[Row]:
    """The states after a step and the records of two runs.

    Raises:
        UserError: a checkpoint of this step is not there, or it is damaged.
    """
    before, after = (_leaves(workdir, step) for workdir in (one, other))
    fields = dict.fromkeys(name.split("/")[0] for name in [*before, *after])
    parts = {**PARTS, **{field: (field,) for field in fields if field not in itertools.chain(*PARTS.values())}}
    rows = []
    for what, held in parts.items():
        names = [name for name in dict.fromkeys([*before, *after]) if name.split("/")[0] in held]
        differing = (f"{name}: {how}" for name in names if (how := _differ(before.get(name), after.get(name))))
        if names:
            rows.append(Row(what, len(names), next(differing, "")))
    return [*rows, _lines(one, other)]


def compare_order(workdir: Path, steps: int, start: int) -> Row:
    """Whether a data stream that begins after step `start` gives what one from the beginning gives for these steps.

    Pixels, labels and all else that a batch holds are compared, each batch by a hash.
    """
    config = checkpoint.tuples(checkpoint.read_run(workdir)["config"])
    dataset = data.create(**config["data"], workdir=workdir)

    def hashes(first: int) -> list[str]:
        """Of the batches after step `start`, in a stream that begins after step `first`."""
        batches = dataset.train_batches(batch_size=config["batch_size"], seed=config["seed"], start_step=first)
        with batches:
            return [_hash(batch) for batch in itertools.islice(batches, start - first, steps - first)]

    pairs = enumerate(zip(hashes(0), hashes(start), strict=True), start=start + 1)
    step = next((step for step, (straight, resumed) in pairs if straight != resumed), None)
    return Row("batches of the stream", steps - start, "" if step is None else f"the batch of step {step:,} differs")


def _leaves(workdir: Path, step: int) -> dict[str, np.ndarray]:
    folder = checkpoint.find(workdir, str(step))
    try:
        tree, _ = checkpoint.restore(folder)
    except checkpoint.DamagedError as error:
        raise UserError(f"checkpoint {folder} is damaged: {error}") from error
    leaves: Any = traverse_util.flatten_dict(tree, sep="/")
    return leaves


def _differ(one: np.ndarray | None, other: np.ndarray | None) -> str:
    """How two arrays differ, '' if their bits are the same."""
    if one is None or other is None:
        return "only one of the runs has it"
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return f"{one.dtype}{list(one.shape)} and {other.dtype}{list(other.shape)}"
    bits = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, -1) for array in (one, other)]
    different = np.flatnonzero((bits[0] != bits[1]).any(axis=1))
    if not different.size:
        return ""
    first = different[0]
    return f"{different.size:,} of {one.size:,} values, the first {one.flat[first]!r} and {other.flat[first]!r}"


def _lines(one: Path, other: Path) -> Row:
    before, after = ((workdir / "metrics.jsonl").read_bytes().splitlines(keepends=True) for workdir in (one, other))
    pairs = enumerate(itertools.zip_longest(before, after), start=1)
    line = next((number for number, (left, right) in pairs if left != right), None)
    return Row("lines of metrics.jsonl", len(before), "" if line is None else f"line {line:,} differs")


def _hash(batch: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(batch):
        array = np.ascontiguousarray(batch[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
