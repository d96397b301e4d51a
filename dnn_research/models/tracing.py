"""What a traced program computes: multiply-adds and receptive fields, followed equation by equation.

Multiply-adds are those of `conv_general_dilated` and `dot_general`: kernels alone, padding included, but not the zeros
between the pixels of a transposed convolution. The body of a loop counts as often as it runs.

A receptive field is the number of input pixels, vertically and horizontally, that one output unit depends on, padding
included: a window of k positions that are `jump` pixels apart adds (k - 1) * jump, a stride multiplies the jump, and
of several inputs the largest counts (Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural
Networks", Distill 2019, for aligned branches).
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from dnn_research.models import initialization
from dnn_research.ops.lowering import stock_operations

# Fields of a unit that sees all pixels, and of one whose pixels this module cannot tell.
ALL, UNKNOWN = math.inf, math.nan

# Equations that keep the shape but mix positions.
MIXING = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "fft"}


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of an array that runs along one of the image's.

    Attributes:
        of_image: 0 vertical, 1 horizontal.
        jump: the pixels from one position to the next.
        whole: whether it still spans the image.
    """

    of_image: int
    jump: int
    whole: bool = True


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a unit of an array depends on.

    Attributes:
        field: in pixels, (vertical, horizontal); `ALL` and `UNKNOWN` are possible.
        axes: for each axis of the array which one of the image's it is, if any.
    """

    field: tuple[float, float]
    axes: tuple[Axis | None, ...]


@dataclasses.dataclass(frozen=True)
class Value:
    """An array of the program: what it sees of the images, if anything, and the kernels between it and the last marks.

    `kernels` are places in `Walk.kernels`.
    """

    seen: Seen | None = None
    kernels: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Output:
    """What is known of one output of a program: its field and the multiply-adds that no earlier output made."""

    field: tuple[float, float]
    macs: int


def multiply_adds(program: ClosedJaxpr) -> int:
    """All multiply-adds of a program, for as many images as it was traced with."""
    walk = Walk()
    walk.run(program.jaxpr, [Value()] * len(program.jaxpr.invars))
    return sum(walk.kernels)


def forward_multiply_adds(model: nn.Module, image_shape: Sequence[int], *, train: bool) -> int:
    """The multiply-adds of a network's forward pass for one image as it runs: scanned, rematerialized, in one piece.

    The count is of the stock operations, whatever formulation a platform runs; with `train` auxiliary heads are in it.
    """

    def forward(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        return model.apply(variables, images, train=train, rngs={"dropout": key}, mutable=["batch_stats"])

    with stock_operations():
        program = jax.make_jaxpr(forward)(
            initialization.shapes(model, image_shape),
            jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),
            jax.eval_shape(lambda: jax.random.key(0)),
        )
    return multiply_adds(program)


def outputs(program: ClosedJaxpr, images: int) -> tuple[list[Output], int]:
    """Follows images [B, H, W, C], the program's argument number `images`, to all its outputs.

    Returns:
        What is known of each output, and the multiply-adds that no output depends on.
    """
    values = [Value()] * len(program.jaxpr.invars)
    values[images] = Value(Seen((1, 1), (None, Axis(0, 1), Axis(1, 1), None)))
    walk, marks = Walk(), {var: frozenset[int]() for var in program.jaxpr.outvars if isinstance(var, Var)}
    found = walk.run(program.jaxpr, values, marks)
    counted: set[int] = set()
    results = []
    for var, value in zip(program.jaxpr.outvars, found, strict=True):
        own = marks.get(var, frozenset()) - counted if isinstance(var, Var) else frozenset()
        counted |= own
        field = value.seen.field if value.seen else (UNKNOWN, UNKNOWN)
        results.append(Output(field, sum(walk.kernels[place] for place in own)))
    return results, sum(walk.kernels) - sum(result.macs for result in results)


class Walk:
    """One pass over a program. `kernels` collects the multiply-adds of every kernel that it meets."""

    def __init__(self) -> None:
        self.kernels: list[int] = []

    def run(
        self,
        jaxpr: Jaxpr,
        arguments: Sequence[Value],
        marks: dict[Var, frozenset[int]] | None = None,
        times: int = 1,
    ) -> list[Value]:
        """Follows a program.

        Args:
            jaxpr: the program.
            arguments: its inputs.
            marks: arrays that own the kernels before them; filled in.
            times: how often it runs.

        Returns:
            Its outputs.
        """
        values: dict[Var, Value] = dict(zip(jaxpr.invars, arguments, strict=True))

        def read(var: Var | Literal) -> Value:
            return values.get(var, Value()) if isinstance(var, Var) else Value()

        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(var) for var in equation.invars], times)
            for var, value in zip(equation.outvars, results, strict=True):
                if marks is not None and var in marks:
                    marks[var] = value.kernels
                    value = Value(value.seen)
                values[var] = value
        return [read(var) for var in jaxpr.outvars]

    def _equation(self, equation: JaxprEqn, inputs: list[Value], times: int) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        kernels = frozenset[int]().union(*(value.kernels for value in inputs))
        if name == "cond":
            # The branches of a choice between platforms compute the same; of any other, the longest counts.
            longest = max(params["branches"], key=lambda branch: len(branch.jaxpr.eqns))
            return self.run(longest.jaxpr, inputs[1:], times=times)
        if name in ("scan", "while"):
            first = len(self.kernels)
            if name == "scan":
                body, times = params["jaxpr"], times * params["length"]
                self.run(body.jaxpr, [Value()] * len(body.jaxpr.invars), times=times)
            else:
                for loop in (params["cond_jaxpr"], params["body_jaxpr"]):
                    self.run(loop.jaxpr, [Value()] * len(loop.jaxpr.invars), times=times)
                if len(self.kernels) > first:
                    raise ValueError("multiply-adds in a while loop cannot be counted: nothing says how often it runs")
            kernels |= set(range(first, len(self.kernels)))
            sees = any(value.seen for value in inputs)
            return [Value(_unknown(var) if sees else None, kernels) for var in equation.outvars]
        called = params.get("jaxpr", params.get("call_jaxpr"))
        # The body of a reduction takes two numbers at a time, not the operands.
        if called is not None and not name.startswith("reduce"):
            return self.run(called.jaxpr if isinstance(called, ClosedJaxpr) else called, inputs, times=times)
        if name in MACS:
            kernels |= {len(self.kernels)}
            self.kernels.append(MACS[name](equation) * times)
        seen = _seen(equation, [value.seen for value in inputs])
        return [Value(one, kernels) for one in seen]


def _shape(var: Var | Literal) -> tuple[int, ...]:
    """An array's; a token has none."""
    return getattr(var.aval, "shape", ())


def _conv_macs(equation: JaxprEqn) -> int:
    kernel = _shape(equation.invars[1])
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    products = math.prod(_shape(equation.outvars[0])) * math.prod(kernel) // features
    return products // math.prod(equation.params["lhs_dilation"])


def _dot_macs(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    sizes = _shape(equation.invars[0])
    return math.prod(_shape(equation.outvars[0])) * math.prod(sizes[axis] for axis in contracted)


MACS: dict[str, Callable[[JaxprEqn], int]] = {"conv_general_dilated": _conv_macs, "dot_general": _dot_macs}


def _seen(equation: JaxprEqn, inputs: list[Seen | None]) -> list[Seen | None]:
    """What the outputs of an equation without a body see."""
    looking = [seen for seen in inputs if seen is not None]
    if not looking:
        return [None] * len(equation.outvars)
    rule = RULES.get(equation.primitive.name)
    if rule is not None and inputs[0] is looking[0] and len(looking) == 1:
        return [rule(equation, looking[0])]
    joined = _joined(looking)
    if equation.primitive.name == "stack":
        place = equation.params["axis"]
        return [Seen(joined.field, (*joined.axes[:place], None, *joined.axes[place:]))]
    return [
        joined if _keeps_positions(equation, inputs, joined, var) else _unknown(var, joined) for var in equation.outvars
    ]


def _keeps_positions(equation: JaxprEqn, inputs: list[Seen | None], joined: Seen, out: Var) -> bool:
    """Whether a unit sees what its inputs at the same place see, as in all that is computed element by element."""
    name, shape = equation.primitive.name, _shape(out)
    if name in MIXING or name in RULES or len(shape) != len(joined.axes):
        return False
    shapes = [_shape(var) for var, seen in zip(equation.invars, inputs, strict=True) if seen is not None]
    tracked = [number for number, axis in enumerate(joined.axes) if axis is not None]
    return all(
        name == "concatenate" or (len(one) == len(shape) and all(one[number] == shape[number] for number in tracked))
        for one in shapes
    )


def _joined(several: list[Seen]) -> Seen:
    """What a unit sees that depends on the units of several arrays at one place."""
    field = several[0].field
    for other in several[1:]:
        field = _larger(field, other.field)
    axes: list[Axis | None] = []
    for places in itertools.zip_longest(*(seen.axes for seen in several)):
        found = [axis for axis in places if axis is not None]
        if len({(axis.of_image, axis.jump) for axis in found}) > 1:
            field = (UNKNOWN, UNKNOWN)
        axes.append(dataclasses.replace(found[0], whole=all(axis.whole for axis in found)) if found else None)
    return Seen(field, tuple(axes))


def _larger(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    def of(pair: tuple[float, float]) -> float:
        return ALL if ALL in pair else UNKNOWN if any(map(math.isnan, pair)) else max(pair)

    return (of((one[0], other[0])), of((one[1], other[1])))


def _unknown(var: Var, seen: Seen | None = None) -> Seen:
    """Of an array that nothing is known of, except that what has seen all still does."""
    before = seen.field if seen else (UNKNOWN, UNKNOWN)
    return Seen(_larger(before, (UNKNOWN, UNKNOWN)), (None,) * len(_shape(var)))


def _slid(seen: Seen, rank: int, windows: Iterable[tuple[int, int, int, int]]) -> Seen:
    """After windows went over axes: (axis, axis of the output, positions from first to last, stride) of each."""
    field = list(seen.field)
    axes: list[Axis | None] = [None] * rank
    for source, target, span, stride in windows:
        axis = seen.axes[source]
        if axis is not None:
            field[axis.of_image] += span * axis.jump
            axes[target] = dataclasses.replace(axis, jump=axis.jump * stride)
    return Seen((field[0], field[1]), tuple(axes))


def _convolved(equation: JaxprEqn, seen: Seen) -> Seen:
    params, out = equation.params, equation.outvars[0]
    numbers = params["dimension_numbers"]
    kernel = [_shape(equation.invars[1])[axis] for axis in numbers.rhs_spec[2:]]
    spans = [(size - 1) * dilation for size, dilation in zip(kernel, params["rhs_dilation"], strict=True)]
    untold = [axis for axis, span in zip(numbers.lhs_spec[2:], spans, strict=True) if span and not seen.axes[axis]]
    if untold or set(params["lhs_dilation"]) != {1}:
        return _unknown(out, seen)
    windows = zip(numbers.lhs_spec[2:], numbers.out_spec[2:], spans, params["window_strides"], strict=True)
    return _slid(seen, len(_shape(out)), windows)


def _windowed(equation: JaxprEqn, seen: Seen) -> Seen:
    params, out = equation.params, equation.outvars[0]
    if set(params["base_dilation"]) != {1}:
        return _unknown(out, seen)
    every = range(len(seen.axes))
    sizes = zip(params["window_dimensions"], params["window_dilation"], strict=True)
    spans = [(size - 1) * dilation for size, dilation in sizes]
    return _slid(seen, len(every), zip(every, every, spans, params["window_strides"], strict=True))


def _sliced(equation: JaxprEqn, seen: Seen) -> Seen:
    params, shape = equation.params, _shape(equation.invars[0])
    every = range(len(shape))
    strides = params["strides"] or (1,) * len(shape)
    slid = _slid(seen, len(shape), zip(every, every, (0,) * len(shape), strides, strict=True))
    ends = zip(slid.axes, params["start_indices"], params["limit_indices"], shape, strides, strict=True)
    return Seen(
        slid.field,
        tuple(
            axis and dataclasses.replace(axis, whole=axis.whole and start < stride and limit > size - stride)
            for axis, start, limit, size, stride in ends
        ),
    )


def _padded(equation: JaxprEqn, seen: Seen) -> Seen:
    pairs = zip(seen.axes, equation.params["padding_config"], strict=True)
    inside = any(axis and between for axis, (_, _, between) in pairs)
    return _unknown(equation.outvars[0], seen) if inside else seen


def _moved(seen: Seen, rank: int, places: Mapping[int, int]) -> Seen:
    """With axes at other places; a unit sees all along an axis that has none."""
    field = list(seen.field)
    axes: list[Axis | None] = [None] * rank
    for source, axis in enumerate(seen.axes):
        if source in places:
            axes[places[source]] = axis
        elif axis is not None:
            field[axis.of_image] = ALL
    return Seen((field[0], field[1]), tuple(axes))


def _reduced(equation: JaxprEqn, seen: Seen) -> Seen:
    gone, shape = tuple(map(int, equation.params["axes"])), _shape(equation.invars[0])
    field, axes = list(seen.field), list(seen.axes)
    for number in gone:
        axis = axes[number]
        if axis is not None and not axis.whole:
            field[axis.of_image] += (shape[number] - 1) * axis.jump
            axes[number] = None
    return _without(Seen((field[0], field[1]), tuple(axes)), gone)


def _squeezed(equation: JaxprEqn, seen: Seen) -> Seen:
    return _without(seen, equation.params["dimensions"])


def _without(seen: Seen, gone: Sequence[int]) -> Seen:
    stay = [number for number in range(len(seen.axes)) if number not in gone]
    return _moved(seen, len(stay), {source: target for target, source in enumerate(stay)})


def _transposed(equation: JaxprEqn, seen: Seen) -> Seen:
    order = equation.params["permutation"]
    return _moved(seen, len(order), {source: target for target, source in enumerate(order)})


def _broadcast(equation: JaxprEqn, seen: Seen) -> Seen:
    before, after = _shape(equation.invars[0]), _shape(equation.outvars[0])
    places = equation.params["broadcast_dimensions"]
    same = tuple(
        axis if size == after[place] else None for axis, size, place in zip(seen.axes, before, places, strict=True)
    )
    return _moved(Seen(seen.field, same), len(after), dict(enumerate(places)))


def _reshaped(equation: JaxprEqn, seen: Seen) -> Seen:
    """An axis stays where as many elements stand before it and as many in it; rows of pixels laid out are all seen."""
    before, after = _shape(equation.invars[0]), _shape(equation.outvars[0])
    places: dict[int, int] = {}
    for source, size in enumerate(before):
        for target in range(max(places.values(), default=-1) + 1, len(after)):
            if after[target] == size and math.prod(after[:target]) == math.prod(before[:source]):
                places[source] = target
                break
    return _moved(seen, len(after), places)


def _multiplied(equation: JaxprEqn, seen: Seen) -> Seen:
    """A matrix product with the images on its left."""
    (contracted, _), (batch, _) = equation.params["dimension_numbers"]
    free = [number for number in range(len(seen.axes)) if number not in (*contracted, *batch)]
    places = {source: target for target, source in enumerate((*batch, *free))}
    return _moved(seen, len(_shape(equation.outvars[0])), places)


# Of equations whose first operand alone sees images; all others either keep positions or end what is known.
RULES: dict[str, Callable[[JaxprEqn, Seen], Seen]] = {
    "conv_general_dilated": _convolved,
    "dot_general": _multiplied,
    "slice": _sliced,
    "pad": _padded,
    "reshape": _reshaped,
    "transpose": _transposed,
    "squeeze": _squeezed,
    "broadcast_in_dim": _broadcast,
    **dict.fromkeys(("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min"), _windowed),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), _reduced),
}
