"""Checkpoints: save, verify, restore, resume. The only file that knows orbax.

A checkpoint is a directory `checkpoints/<step>/` with the state as a plain tree (`state/`, written by orbax) and,
written last, `manifest.json`: the checksums of every leaf, of every file and of itself. Without a valid manifest a step
counts as unfinished. Orbax itself does not notice flipped bits; the manifest does.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
import math
import os
import shutil
import sys
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import linen as nn
from flax import serialization, traverse_util

from dnn_research import models
from dnn_research.errors import UserError, field, first_line, parse_json, read_json

MANIFEST = "manifest.json"
FORMAT = 1

# How long a save may take: where other processes may have died, and where there are none.
TIMEOUT_SECONDS = 1200
ALONE_TIMEOUT_SECONDS = 10 * 365 * 86_400

Tree = Any
Say = Callable[[str], None]


class DamagedError(Exception):
    """A checkpoint cannot be trusted; the message says why."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What stands beside a saved state.

    Attributes:
        step: number of updates done.
        leaves: path -> {"shape", "dtype", "crc32"} of every leaf, as it was in memory.
        files: path -> {"bytes", "crc32"} of every file of `state/`, as it was read back.
        results: named results of the evaluation at this step, `{}` if there was none.
        records: what the run's records need to go on from here, such as the length of metrics.jsonl in bytes.
        conditions: what the results were measured under: protocol and data set; `{}` if there are none.
    """

    step: int
    leaves: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, Mapping[str, Any]]
    results: Mapping[str, float]
    records: Mapping[str, Any]
    conditions: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which checkpoints stay: the latest `keep`, and the best by `best_metric` (`split/name`; of a loss the lowest)."""

    keep: int
    best_metric: str

    def best(self, manifests: Sequence[Manifest]) -> int | None:
        """The step of the best checkpoint; of equals, the earliest. None if none was evaluated."""
        measured = [m for m in manifests if math.isfinite(m.results.get(self.best_metric, math.nan))]
        sign = -1.0 if self.best_metric.endswith("loss") else 1.0
        return max(measured, key=lambda m: (sign * m.results[self.best_metric], -m.step)).step if measured else None

    def stale(self, manifests: Sequence[Manifest]) -> list[int]:
        """The steps that go."""
        kept = {m.step for m in sorted(manifests, key=lambda m: m.step)[-self.keep :]} | {self.best(manifests)}
        return [m.step for m in manifests if m.step not in kept]


class Writer:
    """Saves states in the background, one at a time; old ones go once a newer one has its manifest.

    Every process of a run calls it; the first one writes.
    """

    def __init__(self, directory: Path, policy: Policy, say: Say) -> None:
        self._directory, self._policy, self._say = directory, policy, say
        # Where a directory is made in the background and cannot be, the threads that wait for it keep the process from
        # its end until their time is out. That is by the time of day: a clock that is set forward must not end a save.
        seconds = TIMEOUT_SECONDS if jax.process_count() > 1 else ALONE_TIMEOUT_SECONDS
        options = ocp.options.AsyncOptions(timeout_secs=seconds, create_directories_asynchronously=False)
        self._checkpointer = ocp.StandardCheckpointer(async_options=options)
        logging.getLogger("absl").addFilter(_without_orbax)
        logging.getLogger("asyncio").addFilter(_without_lost_tasks)
        self._unraisablehook = sys.unraisablehook
        sys.unraisablehook = functools.partial(_without_closed_loops, otherwise=self._unraisablehook)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._failed = False
        self._made: os.stat_result | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except UserError:
            # An error of the block itself comes first.
            if kind is None:
                raise

    def save(
        self,
        step: int,
        state: Tree,
        results: Mapping[str, float],
        records: Mapping[str, Any],
        conditions: Mapping[str, Any] | None = None,
    ) -> None:
        """Copies the state to the host and starts to write it; returns before it is written.

        Raises:
            UserError: this or the previous checkpoint cannot be written.
        """
        self.wait()
        tree = traverse_util.unflatten_dict(jax.device_get(_leaves(state)), sep="/")
        folder = self._directory / str(step)
        try:
            if jax.process_index() == 0:
                self._make_room(folder, sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
            self._checkpointer.save((folder / "state").absolute(), tree, force=True)
        except Exception as error:
            self._take_back(folder)
            raise self._cannot_write(folder, error) from error
        beside = dict(results), dict(records), dict(conditions or {})
        self._thread = threading.Thread(target=self._finish, args=(folder, step, tree, beside))
        self._thread.start()

    def wait(self) -> None:
        """Returns when what was saved is on the disk, with its manifest."""
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._error:
            error, self._error = self._error, None
            raise self._cannot_write(self._directory, error) from error

    def close(self) -> None:
        """Waits, then frees what the writer holds."""
        failure = None
        try:
            self.wait()
        except UserError as error:
            failure = error
        try:
            self._checkpointer.close()
        except Exception as error:  # what wait raised before
            failure = failure or self._cannot_write(self._directory, error)
        logging.getLogger("absl").removeFilter(_without_orbax)
        if not self._failed:  # else what still waits in the background may yet print
            logging.getLogger("asyncio").removeFilter(_without_lost_tasks)
            sys.unraisablehook = self._unraisablehook
        if failure:
            raise failure

    def _make_room(self, folder: Path, needed: int) -> None:
        """An empty directory on a disk with room; what is left of an invalid save of this step is set aside, not lost.

        A directory that cannot be written and a full disk are found here, not in orbax, whose threads drown the reason.
        """
        if (folder / MANIFEST).exists():
            self._say(f"checkpoint {folder} was there already; it is now {_set_aside(folder)}")
        elif folder.exists():
            shutil.rmtree(folder)
        # Not its parents: a work directory that vanished is not made anew.
        self._directory.mkdir(exist_ok=True)
        folder.mkdir()
        self._made = folder.stat()
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(f"No space left: it takes {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free")

    def _finish(self, folder: Path, step: int, tree: Tree, beside: tuple[dict, dict, dict]) -> None:
        try:
            leaves = _describe_leaves(tree)
            self._checkpointer.wait_until_finished()
            if jax.process_index() == 0:
                if not self._is_made(folder):
                    raise OSError("it vanished while it was written; was the work directory moved or removed?")
                files = _describe_files(folder / "state")
                _put_on_disk(folder)
                write_manifest(folder, Manifest(step, leaves, files, *beside))
                # Without power from here on, too, this one is there before an old one goes.
                _put_on_disk(folder, self._directory)
                for old in self._policy.stale([manifest for _, manifest in finished(self._directory)]):
                    # The manifest goes first: what is half deleted counts as unfinished.
                    (self._directory / str(old) / MANIFEST).unlink()
                    shutil.rmtree(self._directory / str(old))
                # What was killed while it was written or removed, at a step that does not come again.
                for left in steps(self._directory):
                    if left < step and not (self._directory / str(left) / MANIFEST).exists():
                        shutil.rmtree(self._directory / str(left))
        except BaseException as error:  # reported by the next call, in the thread that can act on it
            self._error = error
            self._take_back(folder)

    def _is_made(self, folder: Path) -> bool:
        """Whether the directory is the one that this writer made, not what orbax made anew after it was moved."""
        return self._made is not None and folder.exists() and os.path.samestat(folder.stat(), self._made)

    def _take_back(self, folder: Path) -> None:
        """What is left of a save that failed: it may be what fills the disk, or stand where the run was moved from."""
        if jax.process_index() != 0 or (folder / MANIFEST).exists():
            return
        anew = not self._is_made(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if anew:
            with contextlib.suppress(OSError):  # not empty: not orbax's
                self._directory.rmdir()
                self._directory.parent.rmdir()

    def _cannot_write(self, folder: Path, error: BaseException) -> UserError:
        self._failed = True
        return UserError(f"cannot write checkpoint {folder}: {first_line(error)}; free space or give another --workdir")


def _without_orbax(logged: logging.LogRecord) -> bool:
    """Leaves out what orbax logs of a save that fails, with the tracebacks of its threads: the writer raises it."""
    return "orbax" not in Path(logged.pathname).parts


def _without_lost_tasks(logged: logging.LogRecord) -> bool:
    """Leaves out that several leaves of a save failed: the error of the first is raised, nobody asks for the others."""
    return "exception was never retrieved" not in logged.getMessage()


def _without_closed_loops(raised: "sys.UnraisableHookArgs", otherwise: Callable[[Any], Any]) -> None:
    """Leaves out what tensorstore raises when a write ends whose fellow failed before: nobody waits for it any more."""
    if raised.exc_type is not RuntimeError or str(raised.exc_value) != "Event loop is closed":
        otherwise(raised)


def _put_on_disk(folder: Path, *more: Path) -> None:
    """Returns when the files and directories in and under `folder` are on the disk, not only in memory."""
    for path in (folder, *folder.rglob("*"), *more):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes it whole or not at all."""
    body = {"format": FORMAT, **dataclasses.asdict(manifest)}
    text = json.dumps({"crc32": zlib.crc32(json.dumps(body, sort_keys=True).encode()), **body}, indent=1)
    temporary = folder / (MANIFEST + ".tmp")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Raises DamagedError when there is no valid one."""
    try:
        body = parse_json((folder / MANIFEST).read_bytes())
        checksum = body.pop("crc32")
        if zlib.crc32(json.dumps(body, sort_keys=True).encode()) != checksum:
            raise DamagedError("its manifest is damaged")
        if body.pop("format") != FORMAT:
            raise DamagedError("its format is not known to this version")
        return _checked(Manifest(**body))
    except FileNotFoundError:
        raise DamagedError("it was not finished") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"its manifest cannot be read ({type(error).__name__})") from error


def _checked(manifest: Manifest) -> Manifest:
    """The manifest, if it says what manifests say: a right checksum does not tell who wrote it."""
    entries = [*manifest.leaves.values(), *manifest.files.values()]
    if (
        type(manifest.step) is not int
        or not all(isinstance(entry, dict) and type(entry["crc32"]) is int for entry in entries)
        or not all(isinstance(leaf["shape"], list) for leaf in manifest.leaves.values())
        or not all(isinstance(v, float) or (type(v) is int and abs(v) < 2**63) for v in manifest.results.values())
        or not all(isinstance(part, dict) for part in (manifest.results, manifest.records, manifest.conditions))
    ):
        raise TypeError("no manifest")
    return manifest


def steps(directory: Path) -> list[int]:
    """The steps that have a directory, finished or not, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdecimal() and p.is_dir())


def finished(directory: Path) -> list[tuple[int, Manifest]]:
    """The steps with a valid manifest, oldest first. The leaves themselves are checked when they are restored."""
    found = []
    for step in steps(directory):
        try:
            found.append((step, _of_step(read_manifest(directory / str(step)), step)))
        except DamagedError:
            continue
    return found


def _of_step(manifest: Manifest, step: int) -> Manifest:
    if manifest.step != step:
        raise DamagedError(f"it is the checkpoint of step {manifest.step:,} under another name")
    return manifest


def restore(folder: Path, structure: Tree | None = None) -> tuple[Tree, Manifest]:
    """Reads `checkpoints/<step>` and verifies every leaf.

    Args:
        folder: the step's directory.
        structure: a tree of the shapes and types that the state must have; None accepts what is there.

    Returns:
        The state as nested dicts of numpy arrays (or like `structure`), and its manifest.

    Raises:
        DamagedError: it is unfinished or damaged.
        UserError: it is sound but another state than `structure`.
    """
    manifest = read_manifest(folder)
    # Before orbax sees them: it takes flipped bits for weights, and is noisy about the rest.
    try:
        described = _describe_files(folder / "state")
    except OSError as error:
        raise DamagedError(f"'{error.filename}' cannot be read ({error.strerror})") from error
    _compare(described, manifest.files, "file")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = jax.tree.map(np.asarray, checkpointer.restore((folder / "state").absolute()))
    except Exception as error:
        raise DamagedError(f"it cannot be read ({first_line(error)[:200]})") from error
    found = _describe_leaves(tree)
    _compare(found, manifest.leaves, "array")
    if structure is None:
        return tree, manifest
    wanted = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in _leaves(structure).items()}
    there = {path: (tuple(leaf["shape"]), leaf["dtype"]) for path, leaf in found.items()}
    if wanted != there:
        path = sorted(p for p in wanted.keys() | there.keys() if wanted.get(p) != there.get(p))[0]
        raise UserError(
            f"{folder} holds another state: '{path}' is {there.get(path, 'absent')}, "
            f"needed is {wanted.get(path, 'nothing')}"
        )
    return fill(structure, _leaves(tree)), manifest


def fill(structure: Tree, leaves: Mapping[str, Any]) -> Tree:
    """A tree like `structure` with the leaves named in `leaves`."""
    empty = traverse_util.flatten_dict(serialization.to_state_dict(structure), sep="/", keep_empty_nodes=True)
    return serialization.from_state_dict(structure, traverse_util.unflatten_dict({**empty, **leaves}, sep="/"))


def restore_latest(directory: Path, structure: Tree, say: Say) -> tuple[Tree, Manifest] | None:
    """The newest sound state; a damaged or unfinished newer one is passed over, and `say` says so.

    Returns:
        None when nothing was ever saved here.

    Raises:
        UserError: there are finished checkpoints, and all are damaged.
    """
    damaged = []
    for step in reversed(steps(directory)):
        folder = directory / str(step)
        try:
            _of_step(read_manifest(folder), step)
            restored = restore(folder, structure)
        except DamagedError as error:
            if (folder / MANIFEST).exists():
                damaged.append(folder)
            say(f"checkpoint {folder} is passed over: {error}")
            continue
        if jax.process_index() == 0:
            # Out of the way of what is saved from here on, and of whoever asks for the latest.
            for newer in damaged:
                say(f"the damaged checkpoint {newer} is now {_set_aside(newer)}")
        return restored
    if damaged:
        raise UserError(
            f"no checkpoint in {directory} is sound ({len(damaged)} damaged); restore one from a copy, "
            f"or start again in another --workdir"
        )
    return None


def find(workdir: Path, which: str = "latest") -> Path:
    """The directory of a checkpoint of a run: `latest`, `best`, or a step's number."""
    directory = workdir / "checkpoints"
    there = [step for step, _ in finished(directory)]
    if not there:
        raise UserError(f"there is no finished checkpoint in {directory}")
    if which == "latest":
        return directory / str(there[-1])
    if which == "best":
        policy = Policy(1, field(read_run(workdir), "config.checkpoint.best_metric", str, workdir / "run.json"))
        best = policy.best([manifest for _, manifest in finished(directory)])
        if best is None:
            raise UserError(f"no checkpoint in {directory} was evaluated by {policy.best_metric}")
        return directory / str(best)
    if not which.isdecimal() or int(which) not in there:
        raise UserError(f"there is no checkpoint '{which}' in {directory}; there are: latest, best, {_list(there)}")
    return directory / str(int(which))


def load_variables(folder: Path, *, ema: bool = False) -> dict[str, Tree]:
    """The network's variables in a checkpoint: {'params': ..., 'batch_stats': ...}; the averaged ones with `ema`."""
    try:
        state, _ = restore(folder)
    except DamagedError as error:
        raise UserError(f"checkpoint {folder} is damaged: {error}") from error
    held = state.get("ema") if ema else {"params": state["params"], "model_state": state.get("model_state", {})}
    if not held:
        raise UserError(f"checkpoint {folder} holds no moving average of the parameters; train with train.ema_decay")
    return {"params": held["params"], **held.get("model_state", {})}


def tuples(config: Any) -> Any:
    """A config out of run.json as it was before JSON made lists of its tuples."""
    if isinstance(config, Mapping):
        return {key: tuples(value) for key, value in config.items()}
    return tuple(tuples(value) for value in config) if isinstance(config, list) else config


def load_network(
    workdir: str | os.PathLike, which: str = "latest", *, ema: bool = False
) -> tuple[nn.Module, dict[str, Tree]]:
    """The trained network of a run: `model, variables = load_network(workdir)`, then `model.apply(variables, images)`.

    Args:
        workdir: the run's work directory.
        which: `latest`, `best`, or a step.
        ema: the moving average of the parameters instead of the last ones.
    """
    workdir = Path(workdir)
    run = read_run(workdir)
    fields = tuples(run["config"]["model"])
    field(fields, "name", str, f"config.model in {workdir / 'run.json'}")
    if "num_classes" in fields and fields["num_classes"] is None:
        fields["num_classes"] = field(run, "num_classes", int, workdir / "run.json")
    variables = load_variables(find(workdir, which), ema=ema)
    return models.create(**fields), jax.tree.map(jnp.asarray, variables)


def initialize_from(
    source: str, exclude: Sequence[str], params: Tree, model_state: Tree, say: Say
) -> tuple[Tree, Tree]:
    """Takes parameters and statistics from another run's checkpoint, all but the layers named in `exclude`.

    Args:
        source: a work directory (its latest checkpoint) or a `checkpoints/<step>` directory.
        exclude: top-level layer names, such as `fc`, that keep their fresh values.

    Raises:
        UserError: there is no checkpoint; a leaf that is wanted is absent there or has another shape.
    """
    path = Path(source)
    if not (path / MANIFEST).exists() and not finished(path / "checkpoints"):
        raise UserError(
            f"checkpoint.init_from: there is no finished checkpoint in {path / 'checkpoints'}; train that run first or "
            f"name another"
        )
    folder = path if (path / MANIFEST).exists() else find(path)
    loaded = load_variables(folder)
    held = {"params": params, **model_state}
    fresh, theirs = _leaves(held), _leaves(loaded)
    unknown = set(exclude) - params.keys()
    if unknown:
        raise UserError(f"checkpoint.init_exclude names '{_list(unknown)}'; the network has: {_list(params)}")
    taken, kept = {}, []
    for name, leaf in fresh.items():
        if name.split("/")[1] in exclude:
            kept.append(name)
            continue
        if name not in theirs:
            raise UserError(
                f"checkpoint.init_from: {folder} has no '{name}'; leave its layer out with checkpoint.init_exclude"
            )
        if theirs[name].shape != leaf.shape:
            raise UserError(
                f"checkpoint.init_from: '{name}' is {theirs[name].shape} in {folder}, {leaf.shape} here; "
                f"leave its layer out with --config.checkpoint.init_exclude={name.split('/')[1]}"
            )
        taken[name] = theirs[name]
    unused = sorted({n.split("/")[1] for n in theirs.keys() - fresh.keys()})
    say(
        f"initialised from {folder}: {len(taken)} arrays loaded; kept fresh: {_list(exclude) or 'none'} "
        f"({len(kept)} arrays); not used: {_list(unused) or 'none'}"
    )
    merged = traverse_util.unflatten_dict({**fresh, **taken}, sep="/")
    return merged.pop("params"), merged


def read_run(workdir: Path) -> dict[str, Any]:
    """What a run wrote into its run.json."""
    path = workdir / "run.json"
    try:
        run = read_json(path, "name the work directory of a run")
        field(run, "config.model", dict, path)
    except UserError as error:
        raise UserError(f"{workdir} is not a run's work directory: {error}") from error
    return run


def read_run_of(task: str, workdir: Path, complaint: str) -> dict[str, Any]:
    """`read_run`, of a run of this task.

    Args:
        task: its name.
        workdir: of the run.
        complaint: how the sentence ends that says of which other task it is.

    Raises:
        UserError: it is no run, or another task's.
    """
    run = read_run(workdir)
    found = field(run, "config.task.name", str, workdir / "run.json")
    if found != task:
        raise UserError(f"{workdir} is a run of {found}{complaint}")
    return run


def _set_aside(folder: Path) -> Path:
    """Renames a checkpoint to `<step>.damaged`, or `.damaged1` and so on."""
    numbers = itertools.chain([""], itertools.count(1))
    aside = next(path for n in numbers if not (path := folder.with_name(f"{folder.name}.damaged{n}")).exists())
    return folder.rename(aside)


def _list(names: Any) -> str:
    return ", ".join(str(name) for name in names)


def _leaves(tree: Tree) -> dict[str, Any]:
    """path -> leaf; nodes without leaves (an optimizer's empty states) do not appear."""
    return traverse_util.flatten_dict(serialization.to_state_dict(tree), sep="/")


def _compare(found: Mapping[str, Any], manifest: Mapping[str, Any], what: str) -> None:
    for name in sorted(found.keys() | manifest.keys()):
        if name not in found or name not in manifest:
            raise DamagedError(f"the {what} '{name}' is {'missing' if name in manifest else 'foreign'}")
        if found[name] != manifest[name]:
            raise DamagedError(f"the checksum of the {what} '{name}' does not match")


def _describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    def checksum(path: Path) -> int:
        value = 0
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                value = zlib.crc32(block, value)
        return value

    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "crc32": checksum(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _describe_leaves(tree: Tree) -> dict[str, dict[str, Any]]:
    return {
        path: {
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
            "crc32": zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data if leaf.size else b""),
        }
        for path, leaf in _leaves(tree).items()
    }
