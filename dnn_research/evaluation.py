"""Evaluation: a network or an ensemble, over the whole evaluation split, under a protocol; every example exactly once.

By one view of each image all devices of all processes take a batch together, as in training. By several views, whose
sizes may differ from image to image, each process works off its own examples, and sums are added up at the end.

Softmax outputs are averaged over views and over the members of an ensemble as logarithms, so that none of them is
rounded to zero; the result is logits again, whose softmax is the mean.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from dnn_research import metrics, parallel
from dnn_research.data import Dataset, MultiView, conditions, protocols
from dnn_research.data.view_batches import view_batches
from dnn_research.errors import UserError
from dnn_research.tasks.task import Classifier, Logits, Sums, Task

# A batch's result is looked at so many batches later, so that the devices never wait for the host.
LAG = 2

Network = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        values: named results, as the task's `finish` gives them.
        confusion: how many examples of each class (rows) were taken for each (columns), int64; None if not counted.
        views: of each image, mirrored ones included.
        pixels: of all views of an image together, the mean over the images.
    """

    values: dict[str, float]
    confusion: np.ndarray | None
    views: int
    pixels: float


class Evaluator:
    """Evaluates networks of the same tasks, again and again; compiles once for each size of views.

    Args:
        dataset: whose evaluation split is read.
        protocol: how images are seen.
        tasks: one, or each member's of an ensemble.
        batch_size: images of the network's own size at a time, on all devices together.
        confusion: whether to count which class is taken for which.

    Raises:
        UserError: the protocol is not for these networks, or the batch does not divide over the processes.
    """

    def __init__(
        self, dataset: Dataset, protocol: MultiView, tasks: Sequence[Task], batch_size: int, *, confusion: bool = False
    ) -> None:
        self.conditions = conditions.conditions(dataset, protocol)
        self._dataset, self.protocol, self._tasks = dataset, protocol, list(tasks)
        # With a reader of its own, for what it finds damaged may be another process's to count.
        self._of_pictures = dataclasses.replace(dataset)
        self._batch_size, self._confusion = batch_size, confusion
        self._layouts = [parallel.Layout(task.towers, task.tower_axes) for task in tasks]
        self._single = protocols.single(protocol) if len(self._tasks) == 1 else None
        self._steps: list[Any] = []
        if batch_size < 1 or batch_size % jax.process_count():
            raise UserError(f"eval.batch_size={batch_size} is no positive multiple of {jax.process_count()} processes")
        for task in self._tasks:
            if self._single is None and task.classifier is None:
                raise UserError(f"evaluation by {protocol.description} needs a task that classifies")
            if any(one.dense for one in protocol.passes):
                _classifier(task).dense()

    def __call__(self, networks: Sequence[Network]) -> Outcome:
        """Results over the whole split; where damaged examples are skipped, `skipped` says how many count for nothing.

        Args:
            networks: (params, model_state) of each task, on the devices.

        Raises:
            UserError: an image is damaged, or all that are skipped are.
        """
        if self._single is not None:
            sums, views, pixels = self._by_one_view(self._single, networks[0])
        else:
            sums, views, pixels = self._by_views(networks)
        confusion = sums.pop("confusion", None)
        skipped = parallel.sum_over_processes({"skipped": self._dataset.eval_left_out})["skipped"]
        if skipped == self._dataset.num_eval:
            raise UserError(f"all {skipped:,} evaluation images of {self._dataset.name} are damaged: look at the files")
        values = self._tasks[0].finish(sums)
        if values["examples"] + skipped != self._dataset.num_eval:
            raise RuntimeError(f"{values['examples']} of {self._dataset.num_eval} examples were evaluated")
        pixels /= values["examples"]
        if self._dataset.skip_damaged:
            values = {**values, "skipped": skipped}
        return Outcome(values, confusion, views, pixels)

    def first_images(self, count: int) -> np.ndarray:
        """At most so many of the first images of the split, as the network sees them: uint8 [N, H, W, C]."""
        if self._single is None:
            raise UserError(f"{self.protocol.description} shows several views of an image: pictures need one")
        count = min(count, self._batch_size, self._dataset.num_eval)
        with self._of_pictures.eval_batches(protocol=self._single, batch_size=count) as batches:
            return next(batches)["image"]

    def _by_one_view(self, protocol: protocols.Protocol, network: Network) -> tuple[dict[str, Any], int, int]:
        layout = self._layouts[0]
        if not self._steps:
            step = make_eval_step(self._tasks[0], layout, confusion=self._confusion)
            self._steps = [parallel.Compiled(parallel.on_each_device(step, layout=layout, state=network))]
        sums = _Sums(self._empty())
        with self._dataset.eval_batches(
            protocol=protocol,
            batch_size=self._batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ) as batches:
            for batch in batches:
                sums.add(self._steps[0](network, parallel.shard(batch, layout)))
        total = sums.total()
        return total, 1, int(total["examples"]) * math.prod(self._dataset.image_shape[:2])

    def _by_views(self, networks: Sequence[Network]) -> tuple[dict[str, Any], int, int]:
        layout = self._layouts[0]
        if not self._steps:
            self._steps = self._steps_by_views(networks)
        *steps, measure = self._steps
        turns = [2 if one.mirrored else 1 for one in self.protocol.passes]
        sums, views, pixels = _Sums(self._empty()), 0, 0
        for batch in view_batches(
            self._dataset,
            protocol=self.protocol,
            pixels=self._batch_size // jax.process_count() * self._dataset.image_shape[0] ** 2,
            shares=jax.local_device_count() // layout.towers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ):
            stacks = batch.pop("views")
            shapes = [stack.shape[1:4] for stack in stacks]
            views = sum(turn * shape[0] for turn, shape in zip(turns, shapes, strict=True))
            seen = sum(turn * math.prod(shape) for turn, shape in zip(turns, shapes, strict=True))
            pixels += int(batch["weight"].sum()) * seen
            placed = [parallel.shard({"views": stack}, layout) for stack in stacks]
            scores = [
                step(network, stack)
                for network, own in zip(networks, steps, strict=True)
                for step, stack in zip(own, placed, strict=True)
            ]
            sums.add(measure({}, {"scores": scores, **parallel.shard(batch, layout)}))
        total = parallel.sum_over_processes({**sums.total(), "pixels": pixels})
        pixels = total.pop("pixels")
        return total, parallel.greatest(views), pixels

    def _steps_by_views(self, networks: Sequence[Network]) -> list[Any]:
        """For each member the steps of its passes, and last the one that measures."""
        share = -(-self._batch_size // (jax.device_count() // self._layouts[0].towers))
        steps = []
        for task, layout, network in zip(self._tasks, self._layouts, networks, strict=True):
            made = [
                make_view_step(
                    _classifier(task).dense() if one.dense else _classifier(task).logits,
                    mirrored=one.mirrored,
                    share=one.share / len(self._tasks),
                    pixels=share * self._dataset.image_shape[0] ** 2,
                )
                for one in self.protocol.passes
            ]
            steps.append([parallel.on_local_devices(s, reduced=False, layout=layout, state=network) for s in made])
        measure = make_measure_step(_classifier(self._tasks[0]), self._layouts[0], confusion=self._confusion)
        return [*steps, parallel.on_local_devices(measure, reduced=True)]

    def _empty(self) -> dict[str, Any]:
        task = self._tasks[0]
        names = [*(task.zero_eval_sums or task.zero_sums)(), *(["confusion"] if self._confusion else [])]
        return dict.fromkeys(names, 0)


class _Sums:
    """Sums over batches, added on the host some batches after they were computed."""

    def __init__(self, empty: dict[str, Any]) -> None:
        self._sums, self._pending = empty, collections.deque[Any]()

    def add(self, sums: Any) -> None:
        self._pending.append(sums)
        while len(self._pending) > LAG:
            self._sums = metrics.add_on_host(self._sums, jax.device_get(self._pending.popleft()))

    def total(self) -> dict[str, Any]:
        while self._pending:
            self._sums = metrics.add_on_host(self._sums, jax.device_get(self._pending.popleft()))
        return self._sums


def _classifier(task: Task) -> Classifier:
    if task.classifier is None:
        raise UserError("several views, ensembles and confusion matrices need a task that classifies")
    return task.classifier


# ----------------------------------------------------------------------------------------------------- compiled steps


def make_eval_step(task: Task, layout: parallel.Layout = parallel.WHOLE, *, confusion: bool = False) -> Any:
    """`((params, model_state), batch) -> sums over all devices`, of one view of each image."""

    def eval_step(network: Network, batch: Mapping[str, jax.Array]) -> Sums:
        params, model_state = network
        if not confusion:
            return parallel.total(task.evaluate(params, model_state, batch), layout)
        classifier = _classifier(task)
        logits = classifier.logits(params, model_state, batch["image"])
        sums = {**classifier.measure(logits, batch), "confusion": classifier.confusion(logits, batch)}
        return parallel.total(sums, layout)

    return eval_step


def make_view_step(logits: Logits, *, mirrored: bool, share: float, pixels: int) -> Any:
    """`((params, model_state), {"views"}) -> [B, classes]`: log(share * mean of softmax over the views of an image).

    Args:
        logits: of the network, see `Classifier`.
        mirrored: each view also mirrored.
        share: see above.
        pixels: so many, of all images together, are in the network at a time; but always one view of each image.
    """

    def view_step(network: Network, batch: Mapping[str, jax.Array]) -> jax.Array:
        def log_softmax(images: jax.Array) -> jax.Array:
            return jax.nn.log_softmax(logits(*network, images))

        return math.log(share) + mean_over_views(log_softmax, batch["views"], mirrored=mirrored, pixels=pixels)

    return view_step


def mean_over_views(
    log_softmax: Callable[[jax.Array], jax.Array], views: UInt8[Array, "b v h w c"], *, mirrored: bool, pixels: int
) -> Float[Array, "b classes"]:
    """The logarithm of the mean of the softmax over an image's views, some views at a time."""
    batch, count, height, width, channels = views.shape
    room = max(1, pixels // (batch * height * width))
    at_a_time = max(n for n in range(1, count + 1) if count % n == 0 and n <= max(1, room))
    turns = count // at_a_time * (2 if mirrored else 1)

    def seen(turn: jax.Array | int) -> jax.Array:
        """The logarithm of the sum over the views of one turn; every second turn they are mirrored."""
        first = turn // 2 if mirrored else turn
        some = lax.dynamic_slice_in_dim(views, first * at_a_time, at_a_time, axis=1)
        images = some.reshape(batch * at_a_time, height, width, channels)
        if mirrored:
            images = jnp.where(turn % 2 == 0, images, images[:, :, ::-1])
        return jax.nn.logsumexp(log_softmax(images).reshape(batch, at_a_time, -1), axis=1)

    if turns == 1:
        total = seen(0)
    else:
        # One network in the program, however many turns.
        start = jnp.full(jax.eval_shape(seen, 0).shape, -jnp.inf)
        total, _ = lax.scan(lambda so_far, turn: (jnp.logaddexp(so_far, seen(turn)), None), start, jnp.arange(turns))
    return total - math.log(at_a_time * turns)


def make_measure_step(classifier: Classifier, layout: parallel.Layout, *, confusion: bool) -> Any:
    """`({}, batch with "scores": parts of a mean as logarithms) -> sums over the devices of this process`."""

    def measure_step(_: Any, batch: Mapping[str, Any]) -> Sums:
        logits = jax.nn.logsumexp(jnp.stack(batch["scores"]), axis=0)
        sums = classifier.measure(logits, batch)
        if confusion:
            sums = {**sums, "confusion": classifier.confusion(logits, batch)}
        return parallel.total(sums, layout)

    return measure_step
