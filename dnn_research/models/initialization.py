"""Initial values: the distributions, and how a whole network gets its values.

Compiling a deep network's own `init` takes longer than compiling its train step. `initialize` therefore only traces
the network, which tells the name, shape and distribution of each leaf, and then draws leaf by leaf with a key made
from the leaf's name. So a leaf's values depend on (key, name, distribution, shape) alone: neither on the order of
layers nor on what else the network holds, which pairs the networks of an ablation.
"""

import contextlib
import contextvars
import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from dnn_research.errors import UserError
from dnn_research.ops.lowering import stock_operations

Shape = tuple[int, ...]

# Numbers of one leaf: 64 GiB of float32; the largest of a paper, VGG's fc6, has 2**27.
MOST_NUMBERS = 2**34


# Draws an array: (key, shape, dtype) -> array. Equal initializers draw equal arrays, and leaves that share one are
# drawn by one compiled function.
Initializer = Callable[[jax.Array, Shape, Any], jax.Array]


@dataclasses.dataclass(frozen=True)
class Constant:
    """All entries equal `value`."""

    value: float

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        del key
        return jnp.full(shape, self.value, dtype)


@dataclasses.dataclass(frozen=True)
class Normal:
    """N(0, std^2), not truncated."""

    std: float

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        return self.std * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """U(-bound, bound); several bounds are those of the entries of the last axis."""

    bound: float | tuple[float, ...]

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        bounds = jnp.broadcast_to(jnp.array(self.bound, dtype), shape)
        return bounds * jax.random.uniform(key, shape, dtype, -1, 1)


@dataclasses.dataclass(frozen=True)
class HeNormal:
    """N(0, 2 / fan_in), not truncated (He et al. 2015, "Delving Deep into Rectifiers", equation 10).

    `fan_in` is the number of inputs of one unit: KH * KW * C / groups of an HWIO kernel.
    """

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        return math.sqrt(2 / math.prod(shape[:-1])) * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class HeNormalFanOut:
    """N(0, 2 / fan_out), not truncated: equation 14 of the same paper, what fb.resnet.torch and torchvision draw.

    `fan_out` is KH * KW * features of an HWIO kernel.
    """

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        fan_out = math.prod(shape[:-2]) * shape[-1]
        return math.sqrt(2 / fan_out) * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class GlorotUniform:
    """U(-b, b) with b^2 = 6 / (fan_in + fan_out) (Glorot and Bengio 2010, equation 16)."""

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        fans = math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]
        return math.sqrt(6 / fans) * jax.random.uniform(key, shape, dtype, -1, 1)


@dataclasses.dataclass(frozen=True)
class CaffeXavier:
    """U(-b, b) with b^2 = 3 / fan_in: what Caffe calls "xavier" and GoogLeNet's published definition uses."""

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        return math.sqrt(3 / math.prod(shape[:-1])) * jax.random.uniform(key, shape, dtype, -1, 1)


@dataclasses.dataclass(frozen=True)
class TruncatedNormal:
    """N(0, std^2) cut off at two `std` on either side and not rescaled, as TensorFlow draws it."""

    std: float

    def __call__(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        return self.std * jax.random.truncated_normal(key, -2, 2, shape, dtype)


zeros = Constant(0.0)
ones = Constant(1.0)
he_normal = HeNormal()
he_normal_fan_out = HeNormalFanOut()
glorot_uniform = GlorotUniform()
caffe_xavier = CaffeXavier()


@dataclasses.dataclass(frozen=True)
class Leaf:
    """How one array of a network's variables comes about.

    `path` starts with the collection: ('params', 'fc', 'bias').
    """

    path: tuple[str, ...]
    initializer: Initializer
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Operation:
    """One step of a network's forward pass, per image.

    `name` is the layer's path in the variables; `kernel`, `strides` and `padding` are empty where they mean nothing;
    `groups` are those of a convolution, 1 for all else;
    shapes are those of one example. Multiply-adds are counted from the traced program; `macs` is the paper's count for
    a layer that runs as a larger operation (LeNet's C3, dense with zeros where there is no connection).
    """

    name: str
    kind: str
    in_shape: Shape
    out_shape: Shape
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    macs: int | None = None
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class Trace:
    """What a network's layers told while they were traced, in execution order, and the traced program.

    The outputs of `program` are those of the operations that `followed` names.
    """

    leaves: list[Leaf]
    operations: list[Operation]
    program: ClosedJaxpr
    followed: list[str]


@dataclasses.dataclass
class _Notes:
    """What is told while a network is being traced; `outputs` are the operations', None until they are known."""

    leaves: list[Leaf] = dataclasses.field(default_factory=list)
    operations: list[Operation] = dataclasses.field(default_factory=list)
    outputs: dict[str, jax.Array | None] = dataclasses.field(default_factory=dict)


_notes: contextvars.ContextVar[_Notes | None] = contextvars.ContextVar("notes", default=None)


def parameter(module: nn.Module, name: str, initializer: Initializer, shape: Shape) -> jax.Array:
    """Makes or reads a float32 parameter of `module`."""
    return module.param(name, _noted(module, "params", name, initializer, shape), shape, jnp.float32)


def statistic(module: nn.Module, name: str, initializer: Initializer, shape: Shape) -> nn.Variable:
    """Makes or reads a float32 variable of `module` in the collection `batch_stats`."""
    draw = _noted(module, "batch_stats", name, initializer, shape)
    # A statistic starts from a constant: unlike a parameter it has no key.
    return module.variable("batch_stats", name, lambda: draw(jax.random.key(0), shape, jnp.float32))


def note_operation(operation: Operation, outputs: jax.Array | None = None) -> None:
    """Adds to the trace of the network, if one is being taken.

    What the operation puts out is by default what the module called `operation.name` returns.
    """
    notes = _notes.get()
    if notes is not None:
        notes.operations.append(operation)
        notes.outputs[operation.name] = outputs


def trace(model: nn.Module, image_shape: Sequence[int]) -> Trace:
    """Traces a network on one image [H, W, C] without computing anything.

    Raises:
        UserError: the network cannot take such images.
    """
    notes = _Notes()
    followed: list[str] = []

    def run(key: jax.Array, images: jax.Array) -> list[jax.Array]:
        with _taking(notes), nn.intercept_methods(_note_outputs):
            model.init(key, images)
        outputs = {name: array for name, array in notes.outputs.items() if array is not None}
        notes.outputs.clear()
        followed.extend(outputs)
        return list(outputs.values())

    with stock_operations():
        program = jax.make_jaxpr(run)(
            jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        )
    for leaf in notes.leaves:
        numbers = math.prod(leaf.shape)
        if numbers > MOST_NUMBERS:
            raise UserError(
                f"{'/'.join(leaf.path[1:])} would have the shape {leaf.shape}, {numbers:.3g} numbers, which no device "
                f"holds; make the network narrower, or the images smaller"
            )
    return Trace(notes.leaves, notes.operations, program, followed)


def initialize(model: nn.Module, key: jax.Array, image_shape: Sequence[int]) -> dict[str, Any]:
    """Initial variables of a network.

    Args:
        model: a network that makes its variables through `parameter` and `statistic`.
        key: a random key.
        image_shape: (H, W, C) of the images that it will see.

    Returns:
        Nested dicts of float32 arrays, `{'params': ..., 'batch_stats': ...}`: the tree of `model.init`, with other
        random numbers.

    Raises:
        UserError: the network cannot take such images.
    """

    def value(leaf: Leaf) -> jax.Array:
        if isinstance(leaf.initializer, Constant):
            # Nothing to compile: half of a deep network's shapes are those of scales and offsets.
            return jnp.asarray(np.full(leaf.shape, leaf.initializer.value, np.float32))
        number = np.uint32(zlib.crc32("/".join(leaf.path).encode()))
        return _drawing(leaf.initializer, leaf.shape)(key, number)

    return _tree({leaf.path: value(leaf) for leaf in trace(model, image_shape).leaves})


def shapes(model: nn.Module, image_shape: Sequence[int]) -> dict[str, Any]:
    """The tree of `initialize` with `jax.ShapeDtypeStruct` leaves: what a checkpoint of this network must hold."""
    leaves = trace(model, image_shape).leaves
    return _tree({leaf.path: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for leaf in leaves})


def _tree(leaves: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree


@functools.cache
def _drawing(initializer: Initializer, shape: Shape) -> Callable[[jax.Array, np.uint32], jax.Array]:
    """The compiled `(key, number) -> array` that all leaves of this distribution and shape share."""

    def draw(key: jax.Array, number: jax.Array) -> jax.Array:
        return initializer(jax.random.fold_in(key, number), shape, jnp.float32)

    # Measured on two CPU cores: fully optimized, a small draw takes 1 s to compile with jax 0.10 and 4 s with 0.12,
    # at this level 0.2 s with either, and the largest kernel is drawn as fast. The numbers are the same.
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(draw, compiler_options=options)


def _noted(module: nn.Module, collection: str, name: str, initializer: Initializer, shape: Shape) -> Initializer:
    """Notes a leaf in the trace, if one is being taken; its values then do not matter."""
    notes = _notes.get()
    if notes is None:
        return initializer
    if module.is_initializing():
        notes.leaves.append(Leaf((collection, *module.path, name), initializer, shape))
    return zeros


def _note_outputs(
    call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
) -> Any:
    """Calls a module's method and notes what it returns, where the module noted an operation."""
    returned = call(*args, **kwargs)
    notes, name = _notes.get(), "/".join(context.module.path)
    if notes is not None and context.method_name == "__call__" and notes.outputs.get(name, returned) is None:
        notes.outputs[name] = returned
    return returned


@contextlib.contextmanager
def _taking(notes: _Notes) -> Iterator[None]:
    token = _notes.set(notes)
    try:
        yield
    finally:
        _notes.reset(token)
