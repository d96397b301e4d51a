"""Measures the contenders of a case: ours, with stock operations too, and the peer's."""

import contextlib
import dataclasses
import gc
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from dnn_research import models, parallel, train
from dnn_research.models import tracing
from dnn_research.tools.compiling.step import Step
from dnn_research.tools.measuring import fresh, machine, peer, turns
from dnn_research.tools.measuring.networks import Case, Entry
from dnn_research.tools.measuring.ours import Ours, shaken
from dnn_research.tools.measuring.turns import Contender, OurContender, PeerContender

# The gradients of inputs and of kernels take as many multiply-adds each as the outputs.
PASSES = {"train": 3, "inference": 1}
PRODUCT = "matrix product"


@dataclasses.dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        steps: turns of each contender.
        peer: the command of the peer, None for no peer; compiled: torch.compile, too.
        fresh: a fresh process of each, too.
        devices: how many JAX was told to make; None: as many as there are.
    """

    steps: int
    peer: Sequence[str] | None = None
    compiled: bool = False
    fresh: bool = True
    devices: int | None = None


@dataclasses.dataclass
class Measurement:
    """What one contender reached; None where it does not apply or was not measured.

    Attributes:
        network, batch_size, dtype, mode: what was run.
        contender, kind, variant: by whom, see `turns.Contender`.
        seconds: of every step; step_seconds: their median; quartiles: the lower and the upper.
        images_per_second, gflops: at the median. Floating-point operations are twice the multiply-adds of convolutions
            and fully connected layers, in training times 3; where a step computes with more than its network (a loss
            network), those of the step.
        product_gflops: what a product of large matrices reached in turn with the others, at its median.
        trace_seconds, compile_seconds: of the step; the peer compiles in its first step, less a median one.
        temporary_gib: what the compiled step takes beside inputs and outputs.
        starts: of fresh processes.
        versus: how many times as fast it is as the peer's better `eager` format, as `compiled` and as `stock`.
    """

    network: str
    batch_size: int
    dtype: str
    mode: str
    contender: str
    kind: str
    variant: str
    seconds: list[float]
    step_seconds: float
    quartiles: tuple[float, float]
    images_per_second: float
    gflops: float
    product_gflops: float
    trace_seconds: float | None = None
    compile_seconds: float | None = None
    temporary_gib: float | None = None
    starts: fresh.Starts | None = None
    versus: dict[str, float] = dataclasses.field(default_factory=dict)


class Measuring:
    """Measures cases one after the other.

    Attributes:
        differences: network -> memory format -> how far the peer's results are from ours; a network is compared once.
        peer_about: the peer's versions and threads.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.differences: dict[str, dict[str, dict[str, float]]] = {}
        self.peer_about: dict[str, Any] = {}

    def measure(self, entries: Sequence[Entry], mode: str) -> list[Measurement]:
        """All contenders of a case; the peer mirrors the first entry."""
        case, ours = entries[0].case, [Ours(entry.case) for entry in entries]
        found = self._race(entries, ours, mode)
        gc.collect()  # JAX's closures hold each other, and with them the memory of all that is over
        if self.options.fresh:
            for entry, measurement in zip(entries, found, strict=False):
                _say(case, mode, f"fresh processes of {measurement.contender}")
                measurement.starts = fresh.ours(entry.case, mode, stock=entry.stock, devices=self.options.devices)
            for measurement in found[len(entries) :]:
                _say(case, mode, f"fresh processes of {measurement.contender}")
                command, variant = self.options.peer or (), measurement.variant
                measurement.starts = fresh.peers(command, case, ours[0], variant, mode)
        compare(found)
        return found

    def _race(self, entries: Sequence[Entry], ours: Sequence[Ours], mode: str) -> list[Measurement]:
        """All but the fresh processes: the contenders are gone before those start."""
        case, setup = entries[0].case, ours[0].setup
        product, product_gflop = machine.matrix_product(case.dtype)
        contenders: list[Contender] = [OurContender(PRODUCT, PRODUCT, product)]
        with contextlib.ExitStack() as stack:
            process = stack.enter_context(self._peer(case, ours[0])) if self.options.peer else None
            for entry, own in zip(entries, ours, strict=True):
                _say(case, mode, f"compiling {entry.name}")
                program = own.program(mode, stock=entry.stock)
                contenders.append(OurContender(entry.name, "stock" if entry.stock else "ours", program.step, program))
            if process:
                contenders += [PeerContender(process, variant, mode) for variant in peer.EAGER]
            _say(case, mode, "measuring")
            first = turns.warm_up(contenders)
            if process and self.options.compiled:
                better = turns.fastest([contender for contender in contenders if contender.kind == "eager"])
                contenders.append(PeerContender(process, peer.COMPILED + better.variant, mode))
                first |= turns.warm_up(contenders[-1:])
            seconds = turns.take(contenders, self.options.steps)
        speed = product_gflop / statistics.median(seconds[PRODUCT])
        macs = _multiply_adds(setup, mode)
        return [_measurement(case, mode, c, seconds[c.name], first[c.name], macs, speed) for c in contenders[1:]]

    @contextlib.contextmanager
    def _peer(self, case: Case, ours: Ours) -> Any:
        """The peer's process, once it has shown that it holds the same network."""
        ours.variables = shaken(ours.variables)
        with peer.started(self.options.peer or (), case, ours) as process:
            self.peer_about = process.about
            if case.name not in self.differences:
                _say(case, "check", "comparing the peer's network with ours")
                self.differences[case.name] = peer.check(case, ours, process)
            yield process


def _multiply_adds(setup: train.Setup, mode: str) -> int:
    """Of one image's forward pass; where the step computes with more than its network, a third of the step's."""
    if mode == "train" and setup.task.constants:
        step = Step(setup, *train.step_and_shapes(setup))
        return round(step.multiply_adds() * parallel.device_count() / setup.batch_size / PASSES[mode])
    shape = models.input_shape(setup.task.model, setup.dataset.image_shape)
    return tracing.forward_multiply_adds(setup.task.model, shape, train=mode == "train")


def _measurement(
    case: Case, mode: str, contender: Contender, seconds: list[float], first: float, macs: int, product: float
) -> Measurement:
    step = statistics.median(seconds)
    quartiles = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [step] * 3
    operations = 2 * PASSES[mode] * macs * case.batch_size
    found = Measurement(
        case.name, case.batch_size, case.dtype, mode, contender.name, contender.kind, contender.variant,
        seconds, step, (quartiles[0], quartiles[2]), case.batch_size / step, operations / step / 1e9, product,
    )  # fmt: skip
    if contender.program is not None:
        found.trace_seconds = contender.program.trace_seconds
        found.compile_seconds = contender.program.compile_seconds
        found.temporary_gib = contender.program.temporary_gib
    elif contender.kind == "compiled":
        found.compile_seconds = max(0.0, first - step)
    return found


def compare(measurements: Sequence[Measurement]) -> None:
    """Fills in `versus` of our contenders."""
    for kind in ("eager", "compiled", "stock"):
        others = [m.step_seconds for m in measurements if m.kind == kind]
        for measurement in measurements:
            if others and measurement.kind in ("ours", "stock") and measurement.kind != kind:
                measurement.versus[kind] = min(others) / measurement.step_seconds


def _say(case: Case, mode: str, what: str) -> None:
    print(f"{case.name}, batch {case.batch_size}, {mode}: {what} ...", file=sys.stderr, flush=True)
