"""Means over pictures of what a task measures of each, as sums that are divided once at the end."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dnn_research.tasks.task import Sums


@dataclasses.dataclass(frozen=True)
class Means:
    """What is measured, by name; beside the number of `examples`."""

    names: tuple[str, ...]

    def zero_sums(self) -> Sums:
        """The sums of no pictures."""
        return {"examples": np.zeros((), np.int32), **{name: np.zeros((), np.float32) for name in self.names}}

    def sums(self, each: Mapping[str, Float[Array, " b"]], weights: Float[Array, " b"]) -> Sums:
        """The sums of a batch; pictures of weight 0 (padding) count for nothing."""
        counted = weights > 0
        sums = {name: jnp.sum(jnp.where(counted, each[name], 0.0), dtype=jnp.float32) for name in self.names}
        return {"examples": jnp.sum(counted, dtype=jnp.int32), **sums}

    def finish(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Means over the pictures of what was summed, and their number as `examples`."""
        examples = int(sums["examples"])
        if examples == 0:
            raise ValueError("no examples were counted")
        return {"examples": examples, **{name: float(sums[name]) / examples for name in self.names if name in sums}}
