"""Learning-rate schedules and optimizers, out of optax.

The learning rate is an argument of the update (`optimizer.update(..., learning_rate=...)`), so that one number is what
the schedule says, what the plateau rule scales, what is applied and what is recorded.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnn_research.errors import UserError, choose, construct

Schedule = Callable[[Any], Any]


# ------------------------------------------------------------------------------------------------------ learning rates


def duration(name: str, epochs: float | None, steps: int | None, steps_per_epoch: Fraction) -> Fraction:
    """A duration that was given as exactly one of `NAME_epochs` and `NAME_steps`, in steps (need not be whole)."""
    if (epochs is None) == (steps is None):
        raise UserError(f"give exactly one of {name}_epochs and {name}_steps, not {epochs} and {steps}")
    length = Fraction(steps) if steps is not None else Fraction(str(epochs)) * steps_per_epoch
    if length <= 0:
        raise UserError(
            f"{name}_{'steps' if epochs is None else 'epochs'} must be positive, not {epochs or steps or 0}"
        )
    return length


@dataclasses.dataclass(frozen=True)
class Length:
    """What a schedule is measured against: the steps of an epoch (need not be whole) and of the whole run."""

    steps_per_epoch: Fraction
    total_steps: int


def constant(length: Length, *, learning_rate: float) -> Schedule:
    """The same rate throughout."""
    return lambda step: jnp.full_like(step, learning_rate, jnp.float32)


def steps(
    length: Length,
    *,
    learning_rate: float,
    factor: float,
    boundary_epochs: tuple[float, ...] | None = None,
    boundary_steps: tuple[int, ...] | None = None,
) -> Schedule:
    """The rate times `factor` from each boundary on; boundaries count from the start of the run, warmup included."""
    if (boundary_epochs is None) == (boundary_steps is None):
        raise UserError(
            "schedule: give exactly one of boundary_epochs and boundary_steps, "
            f"not {boundary_epochs} and {boundary_steps}"
        )
    boundaries = boundary_steps or tuple(
        round(Fraction(str(e)) * length.steps_per_epoch) for e in boundary_epochs or ()
    )
    with np.errstate(over="ignore"):
        rates = np.float32(learning_rate) * np.float32(factor) ** np.arange(len(boundaries) + 1, dtype=np.float32)
    if not np.isfinite(rates).all():
        raise UserError(f"schedule.factor={factor} makes learning rates that are not finite: {rates.tolist()}")
    return lambda step: jnp.asarray(rates)[jnp.sum(step >= jnp.asarray(sorted(boundaries), jnp.int32))]


def cosine(length: Length, *, learning_rate: float, final_learning_rate: float = 0.0) -> Schedule:
    """Half a cosine from `learning_rate` down to `final_learning_rate` (Loshchilov and Hutter 2017)."""

    def rate(step: Any) -> Any:
        share = jnp.clip(step / length.total_steps, 0.0, 1.0)
        return final_learning_rate + (learning_rate - final_learning_rate) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))

    return rate


def polynomial(length: Length, *, learning_rate: float, power: float, final_learning_rate: float = 0.0) -> Schedule:
    """`(1 - step / total) ** power`: linear with power 1; Caffe's quick GoogLeNet solver has power 0.5."""

    def rate(step: Any) -> Any:
        share = jnp.clip(step / length.total_steps, 0.0, 1.0)
        return final_learning_rate + (learning_rate - final_learning_rate) * (1.0 - share) ** power

    return rate


def exponential(
    length: Length,
    *,
    learning_rate: float,
    factor: float,
    every_epochs: float | None = None,
    every_steps: int | None = None,
    staircase: bool = True,
) -> Schedule:
    """The rate times `factor` once every so often: GoogLeNet's 4 % every 8 epochs is factor 0.96, every_epochs 8."""
    every = max(1, round(duration("schedule.every", every_epochs, every_steps, length.steps_per_epoch)))

    def rate(step: Any) -> Any:
        times = step // every if staircase else step / every
        return learning_rate * jnp.asarray(factor, jnp.float32) ** times

    return rate


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Lowers the rate as the papers did by hand: times `factor` after `patience` evaluations without improvement.

    Attributes:
        metric: what is watched, as `split/name` of an evaluation: `eval/loss` or `eval/top1_accuracy`.
        factor: what the rate is multiplied by.
        patience: so many evaluations without improvement are borne; the one after them lowers the rate.
        min_change: an improvement by less does not count.
        min_scale: the product of all factors does not go below this.
    """

    metric: str
    factor: float
    patience: int
    min_change: float = 0.0
    min_scale: float = 1e-4

    @staticmethod
    def start() -> dict[str, np.ndarray]:
        """The state before any evaluation; `best` is NaN until there is one."""
        return {
            "scale": np.ones((), np.float32),
            "best": np.full((), np.nan, np.float32),
            "waited": np.zeros((), np.int32),
        }

    def after(self, state: Mapping[str, Any], results: Mapping[str, float]) -> dict[str, np.ndarray]:
        """The state after an evaluation whose results are named `split/name`."""
        # As precise as the best one is kept, or a value that it was rounded below of would be better than itself.
        value = float(np.float32(results[self.metric]))
        sign = -1.0 if self.metric.endswith("loss") else 1.0
        best, waited, scale = float(state["best"]), int(state["waited"]), float(state["scale"])
        if np.isnan(best) or sign * (value - best) > self.min_change:
            best, waited = value, 0
        else:
            waited += 1
            if waited > self.patience:
                scale, waited = max(scale * self.factor, self.min_scale), 0
        return {
            "scale": np.asarray(scale, np.float32),
            "best": np.asarray(best, np.float32),
            "waited": np.asarray(waited, np.int32),
        }


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "steps": steps,
    "cosine": cosine,
    "polynomial": polynomial,
    "exponential": exponential,
    "plateau": constant,
}


def create_schedule(
    length: Length,
    *,
    name: str,
    learning_rate: float,
    warmup_epochs: float | None = None,
    warmup_steps: int | None = None,
    warmup_shape: str = "linear",
    warmup_learning_rate: float = 0.0,
    **more: Any,
) -> tuple[Schedule, Plateau | None]:
    """The schedule `name` with its warmup, and the plateau rule if that is its name.

    Args:
        length: steps of an epoch and of the run.
        name: one of `SCHEDULES`; `plateau` is constant, scaled by `Plateau`, whose fields it takes.
        learning_rate: the rate after warmup.
        warmup_epochs, warmup_steps: how long the rate rises; neither means no warmup. A schedule that ends with the run
            (cosine, polynomial) spans what is left after it.
        warmup_shape: `linear` from `warmup_learning_rate`, or `constant` at it (ResNet-110: 0.01 for about 400 steps).
        more: what the named schedule takes; None is the same as not given.
    """
    more = {key: value for key, value in more.items() if value is not None}
    plateau = None
    if name == "plateau":
        plateau, more = construct(Plateau, "schedule 'plateau'", more), {}
    create = choose(SCHEDULES, name, "schedule")
    if not learning_rate > 0:
        raise UserError(f"schedule.learning_rate must be positive, not {learning_rate}")

    warmup = 0
    if warmup_epochs or warmup_steps:
        warmup = round(duration("schedule.warmup", warmup_epochs or None, warmup_steps or None, length.steps_per_epoch))
    if warmup >= length.total_steps:
        raise UserError(
            f"the warmup of {warmup} steps is not shorter than the run of {length.total_steps} steps; "
            f"--config.schedule.warmup_steps=0 leaves it out"
        )
    if warmup_shape not in ("linear", "constant"):
        raise UserError(f"schedule.warmup_shape '{warmup_shape}' is unknown; known: linear, constant")
    ends_with_run = create in (cosine, polynomial)
    span = dataclasses.replace(length, total_steps=length.total_steps - warmup) if ends_with_run else length
    main = construct(create, f"schedule '{name}'", more, length=span, learning_rate=learning_rate)
    if not warmup:
        return main, plateau

    def warmed(step: Any) -> Any:
        share = step / warmup if warmup_shape == "linear" else 0.0
        rising = warmup_learning_rate + (learning_rate - warmup_learning_rate) * share
        return jnp.where(step < warmup, rising, main(step - warmup if ends_with_run else step))

    return warmed, plateau


# ---------------------------------------------------------------------------------------------------------- optimizers


def kernels_only(params: Any) -> Any:
    """True for the leaves named `kernel`: the weights of convolutions and fully connected layers."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def not_depthwise(params: Any) -> Any:
    """As `kernels_only`, without the kernels of `dw1`, `dw2`, ...: MobileNet's paper decays those little or not.

    By their names: a full convolution over one gray channel has a kernel of the same shape.
    """

    def decayed(path: Any, _: Any) -> bool:
        return path[-1].key == "kernel" and not re.fullmatch(r"dw\d+", path[-2].key)

    return jax.tree_util.tree_map_with_path(decayed, params)


def everything(params: Any) -> Any:
    """True for every leaf: biases, and scales and offsets of normalisation, too."""
    return jax.tree.map(lambda _: True, params)


def global_norm(tree: Any) -> jax.Array:
    """The norm of all leaves together.

    Small leaves are put into one vector first: reductions one by one, thousands of them in a deep network, take as long
    to compile as the rest of the step (ResNet-302 on CPU, jax 0.12: 24 s instead of 13 s).
    """
    leaves = [leaf.ravel() for leaf in jax.tree.leaves(tree)]
    large = [leaf for leaf in leaves if leaf.size > 2**16]
    small = [leaf for leaf in leaves if leaf.size <= 2**16]
    parts = [*large, jnp.concatenate(small)] if small else large
    return jnp.sqrt(sum(jnp.vdot(part, part) for part in parts))


WEIGHT_DECAY_MASKS: dict[str, Callable[[Any], Any]] = {
    "kernels": kernels_only,
    "not_depthwise": not_depthwise,
    "all": everything,
}


def scale_by_given_learning_rate() -> optax.GradientTransformationExtraArgs:
    """Multiplies by minus the `learning_rate` that the update is called with."""

    def init(params: Any) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None, **given: Any) -> tuple[Any, Any]:
        del params
        return jax.tree.map(lambda u: -given["learning_rate"] * u, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _momentum(momentum: float, nesterov: bool) -> list[optax.GradientTransformation]:
    return [optax.trace(decay=momentum, nesterov=nesterov)] if momentum else []


def sgd(
    decay: list[optax.GradientTransformation], *, momentum: float = 0.0, nesterov: bool = False
) -> list[optax.GradientTransformation]:
    """SGD: v = momentum v + g, w -= rate v. Caffe keeps the rate inside v: the same while the rate is constant."""
    return [*decay, *_momentum(momentum, nesterov)]


def rmsprop(
    decay: list[optax.GradientTransformation],
    *,
    rms_decay: float,
    epsilon: float,
    momentum: float = 0.0,
    initial_scale: float = 1.0,
) -> list[optax.GradientTransformation]:
    """RMSProp as in TensorFlow, the papers' code.

    Epsilon is inside the root (Inception v3 and MobileNet: 1.0), mean squares start at 1, momentum runs over steps that
    hold the rate.
    """
    scale = optax.scale_by_rms(decay=rms_decay, eps=epsilon, initial_scale=initial_scale, eps_in_sqrt=True)
    return [*decay, scale, scale_by_given_learning_rate(), *_momentum(momentum, nesterov=False)]


def adam(
    decay: list[optax.GradientTransformation], *, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8
) -> list[optax.GradientTransformation]:
    """Adam; the weight decay is part of the gradient."""
    return [*decay, optax.scale_by_adam(b1, b2, epsilon)]


def adamw(
    decay: list[optax.GradientTransformation], *, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8
) -> list[optax.GradientTransformation]:
    """AdamW; the weight decay is beside the gradient, times the rate."""
    return [optax.scale_by_adam(b1, b2, epsilon), *decay]


def lars(
    decay: list[optax.GradientTransformation],
    *,
    momentum: float = 0.9,
    trust_coefficient: float = 0.001,
    epsilon: float = 0.0,
) -> list[optax.GradientTransformation]:
    """LARS (You et al. 2017): each kernel's step is scaled by |w| / |g + decay w|; other leaves take the plain step."""
    trust = optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=epsilon)
    return [*decay, optax.masked(trust, kernels_only), scale_by_given_learning_rate(), *_momentum(momentum, False)]


OPTIMIZERS: dict[str, Callable[..., list[optax.GradientTransformation]]] = {
    "sgd": sgd,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "lars": lars,
}
# Those whose momentum runs over steps that hold the rate; those of the others are still to be scaled by it.
RATE_IN_MOMENTUM = ("rmsprop", "lars")


def scale_by_name(factor: Callable[[str], float]) -> optax.GradientTransformation:
    """Multiplies the update of each parameter by the factor of its path ('conv1/kernel')."""

    def scale(updates: Any, params: Any) -> Any:
        del params
        return jax.tree_util.tree_map_with_path(
            lambda path, update: factor(jax.tree_util.keystr(path, simple=True, separator="/")) * update, updates
        )

    return optax.stateless(scale)


@dataclasses.dataclass(frozen=True)
class Update:
    """What a step adds to the parameters: `factor` times `direction`, a tree like theirs.

    They are apart because the norm is asked for, too: that of the direction, which an optimizer with momentum holds
    anyway, is one pass over it. The product would first be written to an array of its own.
    """

    direction: Any
    factor: Any

    def added_to(self, params: Any) -> Any:
        """The parameters after the step."""
        return jax.tree.map(lambda p, d: p + self.factor * d, params, self.direction)

    def norm(self, measure: Callable[[Any], jax.Array]) -> jax.Array:
        """The norm of the whole; `measure` gives that of a tree."""
        return jnp.abs(self.factor) * measure(self.direction)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A chain of transformations whose last step, the scaling by the rate, may be left to `Update`."""

    chain: optax.GradientTransformationExtraArgs
    rate_in_momentum: bool

    def init(self, params: Any) -> optax.OptState:
        """The state before the first step."""
        return self.chain.init(params)

    def update(
        self, grads: Any, state: optax.OptState, params: Any, *, learning_rate: Any
    ) -> tuple[Update, optax.OptState]:
        """What this step adds to the parameters, and the state after it."""
        direction, state = self.chain.update(grads, state, params, learning_rate=learning_rate)
        return Update(direction, 1.0 if self.rate_in_momentum else -learning_rate), state


def create_optimizer(
    *,
    name: str,
    weight_decay: float,
    weight_decay_mask: str,
    clip_norm: float | None = None,
    factor: Callable[[str], float] | None = None,
    **more: Any,
) -> Optimizer:
    """An optimizer that is told the rate of each step.

    Args:
        name: one of `OPTIMIZERS`.
        weight_decay: coefficient of the decay: added to the gradient as weight_decay * w (the gradient of
            weight_decay / 2 * |w|^2), unless the name ends in W, where it is beside the gradient.
        weight_decay_mask: `kernels`, `not_depthwise` (kernels but those of depthwise convolutions) or `all`.
        clip_norm: gradients of a larger global norm are scaled down to it, before anything else.
        factor: path of a parameter -> what multiplies its learning rate; None for 1 everywhere.
        more: what the named optimizer takes; None is the same as not given.
    """
    more = {key: value for key, value in more.items() if value is not None}
    mask = choose(WEIGHT_DECAY_MASKS, weight_decay_mask, "weight_decay_mask")
    decay = [optax.add_decayed_weights(weight_decay, mask)] if weight_decay else []
    chain = construct(choose(OPTIMIZERS, name, "optimizer"), f"optimizer '{name}'", more, decay=decay)
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    factors = [scale_by_name(factor)] if factor else []
    return Optimizer(optax.with_extra_args_support(optax.chain(*clip, *chain, *factors)), name in RATE_IN_MOMENTUM)
