"""What a stylized picture is measured by: content, style and total variation through one loss network."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research.errors import UserError, choose, construct
from dnn_research.models.layers import Activations
from dnn_research.tasks import loss_network, means, perceptual
from dnn_research.tasks.loss_network import LossNetwork
from dnn_research.tasks.task import Tree

LOSSES = means.Means(("loss", "content_loss", "style_loss", "tv_loss"))
# What a style loss is to be read against: that of the photographs as they are.
EVALUATED = means.Means((*LOSSES.names, "photograph_style_loss"))


@dataclasses.dataclass(frozen=True)
class Objective:
    """The weighted sum of the losses.

    Attributes:
        network: the loss network.
        content_layer: compared with the photograph's.
        style_layers: whose Gram matrices are compared with the style's; their losses are summed, for the normalization
            `gatys` averaged (w_l = 1/5 there).
        content_weight: of the content loss.
        style_weight: of the style loss.
        tv_weight: of the total variation.
        normalization: of the losses, see `perceptual`.
    """

    network: LossNetwork
    content_layer: str
    style_layers: tuple[str, ...]
    content_weight: float
    style_weight: float
    tv_weight: float
    normalization: str

    def constants(self, styles: Sequence[np.ndarray]) -> Tree:
        """What `measure` computes with, as host arrays.

        Args:
            styles: uint8 [h, w, 3] each.
        """

        @jax.jit
        def grams(constants: Tree, pixels: Array) -> dict[str, Array]:
            found = self.network.features(constants, pixels.astype(jnp.float32), self.style_layers)
            return {layer: perceptual.gram(found[layer], self.normalization) for layer in self.style_layers}

        each = [jax.device_get(grams(self.network.constants, style[None])) for style in styles]
        joined = {layer: np.concatenate([one[layer] for one in each]) for layer in self.style_layers}
        return {"loss_network": self.network.constants, "styles": joined}

    def content(self, constants: Tree, photos: Float[Array, "b h w 3"]) -> Float[Array, "b hf wf c"]:
        """What the content layer makes of photographs, 0..255."""
        return self.network.features(constants["loss_network"], photos, [self.content_layer])[self.content_layer]

    def measure(
        self,
        constants: Tree,
        made: Float[Array, "b h w 3"],
        wanted: Float[Array, "b hf wf c"],
        mixture: Float[Array, "b s"],
    ) -> dict[str, Float[Array, " b"]]:
        """The losses of each picture.

        Args:
            constants: as `constants` gives them.
            made: pictures, 0..255.
            wanted: `content` of their photographs.
            mixture: the weight of each style, for each picture.
        """
        found = self.network.features(constants["loss_network"], made)
        content = perceptual.content_loss(found[self.content_layer], wanted, self.normalization)
        style = self._style(constants, found, mixture)
        variation = perceptual.total_variation(made, self.normalization)
        total = self.content_weight * content + self.style_weight * style + self.tv_weight * variation
        return {"loss": total, "content_loss": content, "style_loss": style, "tv_loss": variation}

    def style(
        self, constants: Tree, pixels: Float[Array, "b h w 3"], mixture: Float[Array, "b s"]
    ) -> Float[Array, " b"]:
        """The style loss of pictures, 0..255, by itself."""
        found = self.network.features(constants["loss_network"], pixels, self.style_layers)
        return self._style(constants, found, mixture)

    def _style(self, constants: Tree, found: Activations, mixture: Array) -> Array:
        losses = [
            perceptual.style_loss(
                perceptual.gram(found[layer], self.normalization),
                jnp.tensordot(mixture, constants["styles"][layer], 1),
                self.normalization,
            )
            for layer in self.style_layers
        ]
        return sum(losses[1:], losses[0]) / (len(losses) if self.normalization == "gatys" else 1)


def create(
    *,
    content_layer: str,
    style_layers: Sequence[str],
    content_weight: float,
    style_weight: float,
    tv_weight: float,
    normalization: str,
    network: Mapping[str, Any],
    dtype: DTypeLike,
) -> Objective:
    """An objective; see `Objective` and, for `network`, `loss_network.create`.

    Raises:
        UserError: a weight is negative, or there is no such network, layer or normalization.
    """
    choose(dict.fromkeys(perceptual.NORMALIZATIONS), normalization, "task.normalization")
    for name, value in {"content": content_weight, "style": style_weight, "tv": tv_weight}.items():
        if value < 0:
            raise UserError(f"task.{name}_weight must not be negative: {value}")
    if not style_layers:
        raise UserError("task.style_layers must name at least one activation")
    made = construct(
        loss_network.create, "config.task.loss_network", network, layers=(content_layer, *style_layers), dtype=dtype
    )
    return Objective(made, content_layer, tuple(style_layers), content_weight, style_weight, tv_weight, normalization)


def sentence(result: Mapping[str, float]) -> str:
    """The line that ends a training run or an evaluation."""
    own = f" (the photographs' own {result['photograph_style_loss']:.4g})" if "photograph_style_loss" in result else ""
    return (
        f"style loss {result['style_loss']:.4g}{own}, content loss {result['content_loss']:.4g}, total variation "
        f"{result['tv_loss']:.4g}, loss {result['loss']:.4g} ({result['examples']:,} pictures)"
    )


def brief(result: Mapping[str, float]) -> str:
    """A few words for a progress bar."""
    return f"style {result['style_loss']:.3g}, content {result['content_loss']:.3g}"


def to_bytes(pixels: Float[Array, "*b c"]) -> Array:
    """Pixels rounded into 0..255, uint8."""
    return jnp.clip(jnp.rint(pixels), 0, 255).astype(jnp.uint8)
