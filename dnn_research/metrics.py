"""Metrics as sums over examples, divided once at the end: exact for any batch size, device count and padding."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Sums = dict[str, Any]

# What `finish` gives beside the number of examples.
NAMES = ("loss", "top1_accuracy", "top5_accuracy")


def zeros() -> Sums:
    """The sums of no examples: `examples`, `top1`, `top5` are counts (int32), `loss` is a float32 sum."""
    return {
        "examples": np.zeros((), np.int32),
        "loss": np.zeros((), np.float32),
        "top1": np.zeros((), np.int32),
        "top5": np.zeros((), np.int32),
    }


def classification(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, "batch"],
    losses: Float[Array, "batch"],
    weights: Float[Array, "batch"],
) -> Sums:
    """The sums of a batch. Examples of weight 0 (padding) count for nothing.

    An example is right in the top k when fewer than k classes rank before its label; classes with equal logits rank in
    their order. With fewer than five classes the top 5 holds them all. A NaN is never right.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    earlier = jnp.arange(logits.shape[1])[None, :] < labels[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & earlier), axis=1)
    counted = weights > 0
    valid = counted & ~jnp.isnan(logits).any(axis=1)
    return {
        "examples": jnp.sum(counted, dtype=jnp.int32),
        "loss": jnp.sum(jnp.where(counted, losses, 0.0), dtype=jnp.float32),
        "top1": jnp.sum(valid & (rank < 1), dtype=jnp.int32),
        "top5": jnp.sum(valid & (rank < 5), dtype=jnp.int32),
    }


def confusion(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"], weights: Float[Array, "batch"]
) -> Int[Array, "classes classes"]:
    """How many examples of each class (rows) were taken for each class (columns), int32.

    Of classes with equal logits the first is taken, so the diagonal adds up to `top1`. Examples of weight 0 and those
    with a NaN are not in it.
    """
    counted = (weights > 0) & ~jnp.isnan(logits).any(axis=1)
    empty = jnp.zeros((logits.shape[1], logits.shape[1]), jnp.int32)
    return empty.at[labels, jnp.argmax(logits, axis=1)].add(counted.astype(jnp.int32))


def add(one: Sums, other: Sums) -> Sums:
    """The sums of two disjoint sets of examples."""
    return jax.tree.map(lambda a, b: a + b, one, other)


def add_on_host(one: Mapping[str, Any], other: Sums) -> dict[str, Any]:
    """As `add`, in Python's integers and double precision, arrays in int64: for sums over whole data sets."""
    return {name: one[name] + _exact(np.asarray(value)) for name, value in other.items()}


def _exact(value: np.ndarray) -> Any:
    return value.astype(np.int64) if value.ndim else value.item()


def finish(sums: Mapping[str, Any]) -> dict[str, float]:
    """Means over the examples: `examples`, `loss`, `top1_accuracy` and `top5_accuracy` (0..1)."""
    examples = int(sums["examples"])
    if examples == 0:
        raise ValueError("no examples were counted")
    return {
        "examples": examples,
        "loss": float(sums["loss"]) / examples,
        "top1_accuracy": int(sums["top1"]) / examples,
        "top5_accuracy": int(sums["top5"]) / examples,
    }


def brief(result: Mapping[str, float]) -> str:
    """A few words for a progress bar."""
    return f"loss {result['loss']:.3f}, top-1 {100 * result['top1_accuracy']:.1f} %"


def sentence(result: Mapping[str, float]) -> str:
    """The line that ends a training run or an evaluation."""
    return (
        f"top-1 accuracy {100 * result['top1_accuracy']:.2f} %, top-5 accuracy {100 * result['top5_accuracy']:.2f} %, "
        f"loss {result['loss']:.4f} ({result['examples']:,} examples)"
    )
