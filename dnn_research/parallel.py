"""Data parallelism: the only file that knows `pmap`.

Every device holds the whole state and works on its share of the global batch. The state goes into a step whole and
comes out whole (`in_axes=None`, `out_axes=None`); batches carry a leading device axis. State and batches are placed on
the very mesh that pmap's outputs live on, else the second call would compile the step again.

`out_axes=None` takes the first device's value without a look at the others: whatever leaves a step through it must have
been reduced over `AXIS` inside.

A network in towers (`Layout`) is the exception: neighbouring devices hold its halves. Those leaves go into a step and
come out with a leading device axis, and are put together again (`whole`) wherever they leave the devices.

Equal blocks that a step loops over lie on the devices in one array for each of their variables (`Layout.stacks`), so
that neither the program nor the number of arrays grows with them; they too leave the devices under their own names.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dnn_research import process
from dnn_research.errors import UserError

AXIS = "batch"

Batch = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the parameters lie on the devices.

    Attributes:
        towers: so many neighbouring devices share one copy of the network and work on the same examples; beside that,
            data parallelism over devices / towers such groups.
        axes: path of a parameter -> the axis along which the towers hold its parts; every device holds all others
            whole. Whatever belongs to a parameter in the state (momentum, moving average) lies as it does.
        stacks: path of a stack ('stage1/blocks') -> the names of its members ('block2', ...), trees of equal shapes
            beside it, which lie stacked along a new first axis in their place.
    """

    towers: int = 1
    axes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    stacks: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def axis_of(self, path: tuple[Any, ...]) -> int | None:
        """The axis along which the leaf at `path` of a state is split; None for a leaf that is whole."""
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return next((axis for key, axis in self.axes.items() if f"/{name}".endswith(f"/{key}")), None)

    def groups(self) -> list[list[int]]:
        """The devices that share a copy of the network."""
        return np.arange(device_count()).reshape(-1, self.towers).tolist()

    def peers(self) -> list[list[int]]:
        """The devices that hold the same part."""
        return np.arange(device_count()).reshape(-1, self.towers).T.tolist()


WHOLE = Layout()

_elsewhere: contextvars.ContextVar[Sequence[jax.Device] | None] = contextvars.ContextVar("elsewhere", default=None)


@contextlib.contextmanager
def compiling_for(devices: Sequence[jax.Device]) -> Iterator[None]:
    """While it lasts, steps are those of these devices, which need not be here: to be lowered from shapes and compiled.

    This process stands for all that would run on them.
    """
    token = _elsewhere.set(tuple(devices))
    try:
        yield
    finally:
        _elsewhere.reset(token)


def device_count() -> int:
    """All devices that a step runs on."""
    elsewhere = _elsewhere.get()
    return jax.device_count() if elsewhere is None else len(elsewhere)


def _local_device_count() -> int:
    """Those of them that are this process's."""
    elsewhere = _elsewhere.get()
    return jax.local_device_count() if elsewhere is None else len(elsewhere)


def is_primary() -> bool:
    """Whether this process writes the records of the run."""
    return jax.process_index() == 0


def greatest(number: int) -> int:
    """The greatest of all processes' numbers; each of them must call it."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


def check_equal(number: int, what: str) -> None:
    """Raises UserError unless all processes have the same number; each of them must call it."""
    if jax.process_count() > 1:
        numbers = multihost_utils.process_allgather(np.int32(number)).tolist()
        if len(set(numbers)) > 1:
            raise UserError(f"{what}: the processes find {', '.join(map(str, numbers))}")


def local_mesh() -> Mesh:
    """The mesh of this process's devices, as pmap builds it."""
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def replicate(tree: Any, layout: Layout = WHOLE) -> Any:
    """Places a host tree on every device of this process, stacked as the layout says: whole, or its tower's part."""
    tree = _stacked(tree, layout, lambda leaves: np.stack([np.asarray(leaf) for leaf in leaves]))
    everywhere = NamedSharding(local_mesh(), PartitionSpec())
    if not layout.axes:
        return jax.device_put(tree, everywhere)
    copies = jax.local_device_count() // layout.towers

    def place(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        axis = layout.axis_of(path)
        if axis is None:
            return jax.device_put(leaf, everywhere)
        parts = np.stack(np.split(np.asarray(leaf), layout.towers, axis) * copies)
        return jax.device_put(parts, NamedSharding(local_mesh(), PartitionSpec(AXIS)))

    return jax.tree_util.tree_map_with_path(place, tree)


def placed_shapes(tree: Any, layout: Layout = WHOLE) -> Any:
    """The shapes that `replicate` gives to a tree of arrays or shapes."""
    tree = _stacked(tree, layout, lambda leaves: jax.ShapeDtypeStruct((len(leaves), *leaves[0].shape), leaves[0].dtype))

    def shape(path: tuple[Any, ...], leaf: Any) -> jax.ShapeDtypeStruct:
        axis = layout.axis_of(path)
        if axis is None:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        part = list(leaf.shape)
        part[axis] //= layout.towers
        return jax.ShapeDtypeStruct((_local_device_count(), *part), leaf.dtype)

    return jax.tree_util.tree_map_with_path(shape, tree)


def whole(tree: Any, layout: Layout) -> Any:
    """A tree as `replicate` placed it, with the towers' parts put together and stacks taken apart on the host."""
    tree = _unstacked(tree, layout)
    if not layout.axes:
        return tree

    def join(path: tuple[Any, ...], leaf: Any) -> Any:
        axis = layout.axis_of(path)
        if axis is None:
            return leaf
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)[: layout.towers]
        return np.concatenate([np.asarray(shard.data)[0] for shard in shards], axis)

    return jax.tree_util.tree_map_with_path(join, tree)


def _stacked(tree: Any, layout: Layout, stack: Callable[[Sequence[Any]], Any]) -> Any:
    """The tree with one leaf in place of those at the same place in all members of a stack."""

    def change(node: dict[str, Any], name: str, members: Sequence[str]) -> None:
        trees = [node.pop(member) for member in members if member in node]
        if trees:
            node[name] = jax.tree.map(lambda *leaves: stack(leaves), *trees)

    return _with_changed_stacks(tree, layout, change)


def _unstacked(tree: Any, layout: Layout) -> Any:
    """The tree with the members of its stacks under their own names, as views of an array on the host."""

    def change(node: dict[str, Any], name: str, members: Sequence[str]) -> None:
        if name in node:
            stack = jax.tree.map(np.asarray, node.pop(name))
            for number, member in enumerate(members):
                node[member] = jax.tree.map(lambda leaf, number=number: leaf[number], stack)

    return _with_changed_stacks(tree, layout, change)


def _with_changed_stacks(
    tree: Any, layout: Layout, change: Callable[[dict[str, Any], str, Sequence[str]], None]
) -> Any:
    """The tree after `change(parent, name, members)` of every stack, on copies of the dictionaries on the way to it."""
    if not layout.stacks:
        return tree

    def is_dict(node: Any) -> bool:
        return isinstance(node, dict)

    def walk(node: dict[str, Any], above: str) -> dict[str, Any]:
        node = {name: among(below, f"{above}/{name}") for name, below in node.items()}
        for path, members in layout.stacks.items():
            parent, _, name = path.rpartition("/")
            if above.endswith(f"/{parent}"):
                change(node, name, members)
        return node

    def among(below: Any, above: str) -> Any:
        return jax.tree.map(lambda node: walk(node, above) if is_dict(node) else node, below, is_leaf=is_dict)

    return among(tree, "")


def check_layout(layout: Layout) -> None:
    """Raises UserError unless every process has whole groups of towers."""
    devices = _local_device_count()
    if devices % layout.towers:
        raise UserError(
            f"model.towers={layout.towers} needs a multiple of {layout.towers} devices, not {devices}; on CPU, "
            f"JAX_NUM_CPU_DEVICES={layout.towers} makes as many"
        )


def check_divides(batch_size: int, name: str, layout: Layout = WHOLE) -> None:
    """Raises UserError unless every device, or group of towers, gets an equal, non-empty share of a global batch."""
    if batch_size <= 0:
        raise UserError(f"{name} must be positive, not {batch_size}")
    shares = device_count() // layout.towers
    if batch_size % shares:
        near = max(shares, batch_size // shares * shares)
        over = "devices" if layout.towers == 1 else f"groups of {layout.towers} devices"
        raise UserError(f"{name}={batch_size} does not divide over {shares} {over}; take a multiple such as {near}")


def shard(batch: Batch, layout: Layout = WHOLE) -> dict[str, jax.Array]:
    """Splits this process's part of a global batch over its devices and says where in it each example stands.

    The towers of a group get the same examples.

    Args:
        batch: arrays [B, ...] of equal length; process p of n holds examples p, p + n, p + 2n, ... of the global batch.
            A length that the devices do not divide is filled up with zeros (weight 0 counts for nothing).

    Returns:
        Arrays [devices, B / devices, ...] on the devices, with `position` (int32), the place in the global batch.
    """
    shares = jax.local_device_count() // layout.towers
    length = len(next(iter(batch.values())))
    share = -(-length // shares)
    position = np.arange(share * shares, dtype=np.int32) * jax.process_count() + jax.process_index()
    sharding = NamedSharding(local_mesh(), PartitionSpec(AXIS))

    def split(array: np.ndarray) -> np.ndarray:
        if len(array) < share * shares:
            array = np.concatenate([array, np.zeros((share * shares - len(array), *array.shape[1:]), array.dtype)])
        array = array.reshape(shares, share, *array.shape[1:])
        return np.repeat(array, layout.towers, axis=0) if layout.towers > 1 else array

    return {
        name: jax.device_put(split(np.asarray(array)), sharding)
        for name, array in {**batch, "position": position}.items()
    }


def shard_shapes(batch: Batch, batch_size: int, layout: Layout = WHOLE) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes that `shard` gives to a batch of `batch_size` examples like those of `batch`, of any number."""
    devices = _local_device_count()
    share = -(-batch_size // (devices // layout.towers))
    shapes = {name: jax.ShapeDtypeStruct((devices, share, *x.shape[1:]), x.dtype) for name, x in batch.items()}
    return {**shapes, "position": jax.ShapeDtypeStruct((devices, share), np.int32)}


def on_each_device(step: Callable, *, donate_state: bool = False, layout: Layout = WHOLE, state: Any = None) -> Any:
    """`step(state, batch)` over all devices.

    Everything that it returns must be equal on all of them, but for the leaves of the state that the layout splits: a
    step of such a state returns (state, report), or with `donate_state=False` something that is equal.

    Args:
        step: what every device runs.
        donate_state: the step takes over the buffers of the state that it is given.
        layout: how the parameters lie.
        state: where the layout splits some, a tree like the state.
    """
    how: dict[str, Any] = {
        "axis_name": AXIS,
        "devices": _elsewhere.get(),
        "donate_argnums": (0,) if donate_state else (),
    }
    if not layout.axes:
        return jax.pmap(step, in_axes=(None, 0), out_axes=None, **how)
    axes = _device_axes(state, layout)
    out_axes = (axes, None) if donate_state else None
    return jax.pmap(step, in_axes=(axes, 0), out_axes=out_axes, **how)


class Compiled:
    """A step of `on_each_device`, compiled before it is first run.

    In between malloc hands back what compiling took, which would else lie beside what the step takes. In a run of
    several processes the first step compiles: what pmap lowers there does not have the shapes that it runs with.
    """

    def __init__(self, step: Any) -> None:
        self._step = step
        self._called = False

    def __call__(self, state: Any, batch: Any) -> Any:
        """`step(state, batch)`."""
        if not self._called and jax.process_count() == 1:
            self._step.lower(state, batch).compile()
            process.hand_back_memory()
        self._called = True
        return self._step(state, batch)


def on_local_devices(step: Callable, *, reduced: bool, layout: Layout = WHOLE, state: Any = None) -> Any:
    """`step(state, batch)` over the devices of this process alone: the others need not run it, nor on equal shapes.

    Args:
        step: what every device runs.
        reduced: what it returns is equal on all devices of the process; else it keeps a leading device axis, as the
            batch has one.
        layout: how the parameters lie.
        state: where the layout splits some, a tree like the state.
    """
    axes = _device_axes(state, layout) if layout.axes else None
    out_axes = None if reduced else 0
    return jax.pmap(step, axis_name=AXIS, in_axes=(axes, 0), out_axes=out_axes, devices=jax.local_devices())


def _device_axes(state: Any, layout: Layout) -> Any:
    """For each leaf of a placed state, 0 if it has a leading device axis, None if it is whole on every device."""
    state = _stacked(state, layout, lambda leaves: leaves[0])
    return jax.tree_util.tree_map_with_path(lambda path, _: None if layout.axis_of(path) is None else 0, state)


def sum_over_processes(sums: Mapping[str, Any]) -> dict[str, Any]:
    """The sums of all processes together; each of them must call it, with leaves of the same shapes."""
    if jax.process_count() == 1:
        return dict(sums)
    gathered = multihost_utils.process_allgather(jax.tree.map(np.asarray, dict(sums)))
    return jax.tree.map(lambda leaf: leaf.sum(axis=0).item() if leaf.ndim == 1 else leaf.sum(axis=0), gathered)


def mean(tree: Any) -> Any:
    """The mean over all devices, inside a step."""
    if not jax.tree.leaves(tree):
        return tree
    # XLA copies what it reduces over a single device; without the barrier it computes gradients anew for each use.
    return lax.pmean(tree, AXIS) if lax.axis_size(AXIS) > 1 else lax.optimization_barrier(tree)


def mean_gradient(grads: Any, layout: Layout = WHOLE) -> Any:
    """The gradient of the mean loss over the global batch, inside a step, from each device's gradient of its own loss.

    Differentiating inside pmap differentiates the sum of all devices' losses. What a tower passes to its neighbour
    comes back from both, which compute the same loss: the gradient of a part is `towers` times too large.
    """
    if not layout.axes:
        return mean(grads)

    def reduce(path: tuple[Any, ...], grad: jax.Array) -> jax.Array:
        if layout.axis_of(path) is None:
            return lax.pmean(grad, AXIS)
        return lax.pmean(grad, AXIS, axis_index_groups=layout.peers()) / layout.towers

    return jax.tree_util.tree_map_with_path(reduce, grads)


def total(tree: Any, layout: Layout = WHOLE) -> Any:
    """The sum over all devices, inside a step; of a group of towers, which compute the same, only the first counts."""
    if not jax.tree.leaves(tree) or lax.axis_size(AXIS) == 1:
        return tree
    if layout.towers > 1:
        first = lax.axis_index(AXIS) % layout.towers == 0
        tree = jax.tree.map(lambda x: jnp.where(first, x, jnp.zeros_like(x)), tree)
    return lax.psum(tree, AXIS)


def maximum(tree: Any) -> Any:
    """The greatest value of each entry over all devices, inside a step."""
    return lax.pmax(tree, AXIS) if lax.axis_size(AXIS) > 1 else tree


def norm(tree: Any, measure: Callable[[Any], jax.Array], layout: Layout = WHOLE) -> jax.Array:
    """The norm of a tree of parameters inside a step; `measure` gives that of leaves that are all here."""
    if not layout.axes:
        return measure(tree)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    parts = [leaf for path, leaf in leaves if layout.axis_of(path) is not None]
    shared = [leaf for path, leaf in leaves if layout.axis_of(path) is None]
    squares = lax.psum(jnp.square(measure(parts)), AXIS, axis_index_groups=layout.groups())
    return jnp.sqrt(squares + (jnp.square(measure(shared)) if shared else 0.0))


def step_key(seed: Any, step: Any) -> jax.Array:
    """The random key of a step: a function of (seed, step), equal on all devices, apart from `initial_key`."""
    return jax.random.fold_in(jax.random.split(jax.random.key(seed))[1], step)


def initial_key(seed: int) -> jax.Array:
    """The random key of the initial values."""
    return jax.random.split(jax.random.key(seed))[0]
