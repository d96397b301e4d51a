"""Runs a network in torch, step by step as it is asked to: a line of JSON in, a line of JSON out.

FOLDER holds `request.json` (the fields of `Request`), `variables.npz` (our initial variables by path; without
it torch draws its own), `batch.npz` (what is timed) and `check.npz` (what is compared): `images`, float32 [B, H, W, C]
as the network takes them, and `labels`.

The first line out says versions, threads and the number of parameters. Then

    {"do": "check", "variant": V}                   -> {"loss": L, "gradient_norm": G}, and the file `outputs.npy`
    {"do": "prepare", "variant": V, "mode": M}      -> {}
    {"do": "run", "variant": V, "at_least": S}      -> {"seconds": [...]}
    {"do": "peak"}                                  -> {"bytes": B}
    anything that fails                             -> {"error": what, in a line}

A variant is a memory format, `channels_last` or `contiguous`, with `compiled_` before it for torch.compile. Between
requests the process waits for its standard input and computes nothing.
"""

import contextlib
import dataclasses
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnn_research.tools.measuring import answering, memory
from dnn_research.tools.measuring.torch_peer import weights

COMPILED = "compiled_"


@dataclasses.dataclass(frozen=True)
class Network:
    """How to make a network for a number of classes; `flattened`: see `weights.converted`."""

    make: Callable[[int], Any]
    flattened: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Request:
    """What the process is for.

    Attributes:
        network: its name; classes: the number of its logits.
        dtype: float32, or bfloat16 for autocast; checks are in float32.
        threads: of torch.
        learning_rate, momentum, weight_decay: of SGD.
        auxiliary_weight: of the loss of each auxiliary head.
        trained: whether it is trained as a classifier; else it is only run, and a check has no loss.
    """

    network: str
    classes: int
    dtype: str
    threads: int
    learning_rate: float
    momentum: float
    weight_decay: float
    auxiliary_weight: float
    trained: bool


class Variant:
    """A network in one memory format, compiled or not."""

    def __init__(self, torch: Any, name: str, network: Any, request: Request, batch: Mapping[str, np.ndarray]) -> None:
        self.torch, self.request = torch, request
        self.compiled = name.startswith(COMPILED)
        self.format = getattr(
            torch, {"channels_last": "channels_last", "contiguous": "contiguous_format"}[name.removeprefix(COMPILED)]
        )
        self.network = network.to(memory_format=self.format)
        self.images, self.labels = self._tensors(batch)
        self.step: Callable[[], Any] = lambda: None

    def _tensors(self, batch: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        images = self.torch.from_numpy(np.ascontiguousarray(batch["images"].transpose(0, 3, 1, 2)))
        return images.to(memory_format=self.format), self.torch.from_numpy(batch["labels"].astype(np.int64))

    def loss(self, images: Any, labels: Any) -> Any:
        """The mean cross-entropy, of auxiliary heads too."""
        outputs = self.network(images)
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        cross_entropy = self.torch.nn.functional.cross_entropy
        others = sum(cross_entropy(other, labels) for other in auxiliary)
        return cross_entropy(logits, labels) + self.request.auxiliary_weight * others

    def prepare(self, mode: str) -> None:
        """Makes `step` a training step or a forward pass."""
        self.step = {"train": self._training, "inference": self._inference}[mode]()

    def _training(self) -> Callable[[], Any]:
        request = self.request
        optimizer = self.torch.optim.SGD(
            self.network.parameters(),
            lr=request.learning_rate,
            momentum=request.momentum,
            weight_decay=request.weight_decay,
            fused=True,
        )
        loss = self.torch.compile(self.loss) if self.compiled else self.loss
        self.network.train()

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with self._precision():
                value = loss(self.images, self.labels)
            value.backward()
            optimizer.step()

        return step

    def _inference(self) -> Callable[[], Any]:
        forward = self.torch.compile(self.network) if self.compiled else self.network
        self.network.eval()

        def step() -> None:
            with self.torch.inference_mode(), self._precision():
                forward(self.images)

        return step

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.request.dtype == "float32":
            return contextlib.nullcontext()
        return self.torch.autocast("cpu", dtype=getattr(self.torch, self.request.dtype))

    def check(self, batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, float]]:
        """Outputs in evaluation, and loss and norm of its gradient in training without dropout."""
        images, labels = self._tensors(batch)
        with self.torch.inference_mode():
            outputs = self.network.eval()(images).numpy()
        if not self.request.trained:
            return outputs, {}
        for module in self.network.train().modules():
            if isinstance(module, self.torch.nn.Dropout):
                module.eval()
        loss = self.loss(images, labels)
        loss.backward()
        norms = [parameter.grad.double().norm() for parameter in self.network.parameters()]
        return outputs, {"loss": loss.item(), "gradient_norm": self.torch.stack(norms).norm().item()}


class Service:
    """The requests by name; variants are made when they are first asked for."""

    def __init__(self, networks: Mapping[str, Network], folder: Path) -> None:
        self.folder, self.torch = folder, importlib.import_module("torch")
        self.request = Request(**json.loads((folder / "request.json").read_text()))
        self.torch.set_num_threads(self.request.threads)
        self.definition = networks[self.request.network]
        self.batch = _arrays(folder / "batch.npz")
        self.variants: dict[str, Variant] = {}

    def greeting(self) -> dict[str, Any]:
        """What is said unasked."""
        with self.torch.device("meta"):
            network = self.definition.make(self.request.classes)
        return {
            "versions": {name: sys.modules[name].__version__ for name in ("torch", "numpy")}
            | {"python": platform.python_version()},
            "threads": self.torch.get_num_threads(),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        }

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a request is answered with."""
        arguments = {name: value for name, value in request.items() if name != "do"}
        return {
            "check": self.check,
            "prepare": self.prepare,
            "run": self.run,
            "peak": self.peak,
        }[request["do"]](**arguments)

    def check(self, variant: str) -> dict[str, Any]:
        """On a network of its own: training changes the running statistics."""
        outputs, training = self._make(variant).check(_arrays(self.folder / "check.npz"))
        np.save(self.folder / "outputs.npy", outputs)
        return training

    def prepare(self, variant: str, mode: str) -> dict[str, Any]:
        """Makes a variant, with its initial values, for a mode."""
        self.variants[variant] = self._make(variant)
        self.variants[variant].prepare(mode)
        return {}

    def run(self, variant: str, at_least: float) -> dict[str, Any]:
        """Takes steps for so many seconds, and one at least."""
        seconds: list[float] = []
        begun = time.perf_counter()
        while not seconds or time.perf_counter() - begun < at_least:
            started = time.perf_counter()
            self.variants[variant].step()
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}

    def peak(self) -> dict[str, Any]:
        """The most memory that the process has had."""
        return {"bytes": memory.peak()}

    def _make(self, variant: str) -> Variant:
        network = self.definition.make(self.request.classes)
        if (self.folder / "variables.npz").exists():
            self._load(network)
        return Variant(self.torch, variant, network, self.request, self.batch)

    def _load(self, network: Any) -> None:
        state = weights.converted(_arrays(self.folder / "variables.npz"), self.definition.flattened)
        theirs = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
        if set(theirs) != set(state):
            raise ValueError(f"the networks have different layers: {sorted(set(theirs) ^ set(state))}")
        network.load_state_dict({name: self.torch.from_numpy(array) for name, array in state.items()}, strict=False)


def serve(networks: Mapping[str, Network], folder: Path) -> None:
    """Answers requests until standard input ends."""
    answering.serve(lambda: Service(networks, folder))


def _arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)
