"""A network and a recipe so small that whole runs fit into a test: batch normalization, dropout, 8x8 images."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from dnn_research.models.layers import BatchNorm, Conv, Dense, Dropout
from dnn_research.recipe import Recipe, load

ROOT = Path(__file__).parent.parent


class TinyNet(nn.Module):
    """Convolution, batch normalization, dropout, head."""

    num_classes: int = 10
    dropout_rate: float = 0.5
    dtype: Any = jnp.float32
    batch_norm_axis: str | None = None

    @nn.compact
    def __call__(self, images, *, train=False):
        x = Conv(8, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, dtype=self.dtype, name="conv1")(images)
        x = nn.relu(BatchNorm(axis_name=self.batch_norm_axis, dtype=self.dtype, name="bn1")(x, train=train))
        x = Dropout(self.dropout_rate)(x.mean((1, 2)), train=train)
        return Dense(self.num_classes, dtype=self.dtype, name="fc")(x)


def recipe(*overrides: str) -> Recipe:
    """The CIFAR recipe on 8x8 synthetic images whose tests put `TinyNet` in its place, 12 steps of 16."""
    base = (
        "model.depth=8", "batch_size=16", "data.source=synthetic", "data.image_size=8", "data.synthetic_examples=60",
        "data.augment.pad=1", "data.num_workers=0", "train.num_steps=12", "train.batch_norm_axis=batch",
        "schedule.warmup_steps=none", "eval.batch_size=25", "eval.every_steps=5", "checkpoint.every_steps=5",
        "record.every_steps=2",
    )  # fmt: skip
    return load(str(ROOT / "configs/resnet110_cifar10.py"), [*base, *overrides])
