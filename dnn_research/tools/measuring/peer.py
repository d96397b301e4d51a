"""The peer: a process in another Python that holds the same network in torch and takes a step when it is asked to.

What it holds is compared with ours before anything is timed.
"""

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from dnn_research import parallel, process
from dnn_research.errors import UserError
from dnn_research.tools.measuring import machine
from dnn_research.tools.measuring.networks import Case
from dnn_research.tools.measuring.ours import Ours, normalized

MODULE = "dnn_research.tools.measuring.torch_peer"
ROOT = Path(__file__).parents[3]

EAGER = ("channels_last", "contiguous")
COMPILED = "compiled_"

CHECKED_IMAGES = 2
# Of outputs: the largest difference, relative to the largest output; of loss and gradient norm: relative.
TOLERANCES = {"outputs": 1e-4, "loss": 1e-3, "gradient_norm": 1e-2}


class Peer:
    """The running process; see `torch_peer/service.py` for what is said."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command, self.folder = list(command), folder
        environment = {
            **process.environment_before(),
            **(environment or {}),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            with (folder / "errors.txt").open("w") as errors:
                self.process = subprocess.Popen(
                    [*self.command, str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment,
                    cwd=folder,
                )
        except OSError as error:
            raise UserError(f"cannot run the peer's Python {self.command[0]}: {error.strerror}") from error
        self.about = self._answer()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer says why
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """Takes the processors from it, threads that work ahead and all, until `go_on`."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Gives them back."""
        self.process.send_signal(signal.SIGCONT)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UserError(self._complaint())
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(f"the peer {self.command[0]} failed: {answer['error']}")
        return answer

    def _complaint(self) -> str:
        self.process.communicate()
        lines = (self.folder / "errors.txt").read_text(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "it says nothing"
        return f"the peer {self.command[0]} ended with status {self.process.returncode}: {said}"

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()


def command(given: str | None, *, name: str = "torch", library: str = "torch", module: str = MODULE) -> list[str]:
    """A peer's program: in the Python that is given, else in $DNN_PEER_PYTHON, else in this one if it has the library.

    Args:
        given: that Python.
        name: of the peer, as `--peer` takes it.
        library: what it needs beside numpy.
        module: the program.

    Raises:
        UserError: there is none.
    """
    here = sys.executable if importlib.util.find_spec(library) else ""
    chosen = given or os.environ.get("DNN_PEER_PYTHON") or here
    if not chosen:
        raise UserError(
            f"--peer {name} needs a Python with {library} and numpy: name it by --peer_python PATH or DNN_PEER_PYTHON; "
            f"to make one: python -m venv peer && peer/bin/python -m pip install {library} numpy"
        )
    program = shutil.which(chosen)
    if program is None:
        raise UserError(f"the peer's Python {chosen} is not a program")
    for needed in (library, "numpy"):
        looking = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{needed}') is None)"
        if subprocess.run([program, "-c", looking], check=False).returncode:
            raise UserError(f"{chosen} has no {needed}; install it there: {chosen} -m pip install {library} numpy")
    return [os.path.abspath(program), "-m", module]


@contextlib.contextmanager
def started(command: Sequence[str], case: Case, ours: Ours) -> Iterator[Peer]:
    """The peer for a case, with our variables and batch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request_of(case, ours)))
        arrays: dict[str, Any] = flat(ours.variables)
        np.savez(folder / "variables.npz", **arrays)
        write_batch(folder / "batch.npz", ours, ours.batch)
        write_batch(folder / "check.npz", ours, ours.batch_of(CHECKED_IMAGES))
        peer = Peer(command, folder)
        try:
            yield peer
        finally:
            peer.close()


def request_of(case: Case, ours: Ours) -> dict[str, Any]:
    """What the peer is for, see `torch_peer/service.py`."""
    config = ours.config
    return {
        "network": case.name,
        "classes": ours.setup.dataset.num_classes,
        "dtype": config["train"]["dtype"],
        "threads": machine.cores(),
        "learning_rate": config["schedule"]["learning_rate"],
        "momentum": config["optimizer"].get("momentum", 0.0),
        "weight_decay": config["optimizer"]["weight_decay"],
        "auxiliary_weight": config["task"].get("auxiliary_weight", 0.0),
        "trained": case.trained,
    }


def write_batch(file: Path, ours: Ours, batch: Mapping[str, np.ndarray]) -> None:
    """Puts images, as the network takes them, and labels into a file."""
    np.savez(file, images=normalized(ours.setup, batch), labels=batch["label"])


def flat(variables: tuple[Any, Any]) -> dict[str, np.ndarray]:
    """(params, model_state) -> {'params/conv1/kernel': array}."""
    params, model_state = variables
    leaves: dict[str, Any] = traverse_util.flatten_dict({"params": params, **model_state}, sep="/")
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a network gives for the checked images.

    Attributes:
        outputs: logits, or pixels.
        training: loss and gradient norm in training without dropout; empty where it is not trained.
    """

    outputs: np.ndarray
    training: Mapping[str, float]

    def differences(self, other: "Outcome") -> dict[str, float]:
        """Relative differences by name."""
        outputs = float(np.abs(self.outputs - other.outputs).max() / np.abs(self.outputs).max())
        training = {name: abs(value - other.training[name]) / abs(value) for name, value in self.training.items()}
        return {"outputs": outputs, **training}


def our_outcome(case: Case, ours: Ours) -> Outcome:
    """In float32, whatever is timed."""
    exact = Ours(case.without_dropout().changed("config.train.dtype=float32"), variables=ours.variables)
    task, batch = exact.setup.task, exact.batch_of(CHECKED_IMAGES)

    def forward(params: Any, model_state: Any, images: jax.Array) -> Any:
        return task.model.apply({"params": params, **model_state}, images, train=False)

    def loss(params: Any, model_state: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        return task.loss(params, model_state, batch, parallel.step_key(0, 0))[0]

    outputs = np.asarray(jax.jit(forward)(*exact.variables, normalized(exact.setup, batch)))
    if not case.trained:
        return Outcome(outputs, {})
    positions = {"position": np.arange(CHECKED_IMAGES, dtype=np.int32)}
    value, gradients = jax.jit(jax.value_and_grad(loss))(*exact.variables, {**batch, **positions})
    squares = (float(np.square(np.asarray(leaf, np.float64)).sum()) for leaf in jax.tree.leaves(gradients))
    return Outcome(outputs, {"loss": float(value), "gradient_norm": math.sqrt(sum(squares))})


def check(case: Case, ours: Ours, peer: Peer) -> dict[str, dict[str, float]]:
    """Compares parameters, outputs, loss and gradient of each memory format with ours.

    Returns:
        The relative differences.

    Raises:
        UserError: the networks are not the same.
    """
    parameters = sum(leaf.size for leaf in jax.tree.leaves(ours.variables[0]))
    if peer.about["parameters"] != parameters:
        raise UserError(
            f"{case.name}: the peer's network has {peer.about['parameters']:,} parameters, ours {parameters:,}"
        )
    expected, found = our_outcome(case, ours), {}
    for variant in EAGER:
        answer = peer.ask("check", variant=variant)
        # The peer's channels come first; logits have nothing else.
        outcome = Outcome(np.moveaxis(np.load(peer.folder / "outputs.npy"), 1, -1), answer)
        found[variant] = expected.differences(outcome)
        for name, difference in found[variant].items():
            if not difference <= TOLERANCES[name]:
                raise UserError(
                    f"{case.name} ({variant}): from the peer's {name} to ours it is {difference:.1e}, more than "
                    f"{TOLERANCES[name]:.0e}: it is not the same network"
                )
    return found
