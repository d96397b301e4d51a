"""Batches worked off a few examples at a time, so that what is made of them stays in the cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def fewest_examples(examples: int, *, of_each: int, wanted: int) -> int:
    """The fewest examples, a divisor of `examples`, that have `wanted` together when each has `of_each`; else all."""
    return min((d for d in range(1, examples + 1) if examples % d == 0 and d * of_each >= wanted), default=examples)


def mapped(run: Callable[[Array], Array], images: Array, at_once: int) -> Array:
    """`run(images)`, of [B, ...], with `at_once` examples at a time."""
    if at_once == images.shape[0]:
        return run(images)
    outputs = lax.map(run, images.reshape(-1, at_once, *images.shape[1:]))
    return outputs.reshape(images.shape[0], *outputs.shape[2:])


def summed(run: Callable[[Any], Array], arrays: tuple[Array, ...], at_once: int) -> Array:
    """`run(arrays)`, a sum over examples, with `at_once` of them at a time."""
    if at_once == arrays[0].shape[0]:
        return run(arrays)
    parts = tuple(array.reshape(-1, at_once, *array.shape[1:]) for array in arrays)
    shape = jax.eval_shape(run, tuple(jax.ShapeDtypeStruct(part.shape[1:], part.dtype) for part in parts))
    start = jnp.zeros(shape.shape, shape.dtype)
    return lax.scan(lambda total, part: (total + run(part), None), start, parts)[0]
