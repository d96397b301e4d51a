"""The network whose activations a perceptual loss compares: trained, imported or random, and never changed."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dnn_research import checkpoint, models
from dnn_research.data import images
from dnn_research.data.builtin import photo_patches
from dnn_research.errors import UserError, check_seed, choose
from dnn_research.models.layers import Activations
from dnn_research.tasks.task import Tree

RANDOM = "random"
# Pixels that a network with random weights takes with all its layers.
RANDOM_SIZE = 96
# What such a network is shown: RGB about its mean, as large as Caffe's networks had it.
RANDOM_MEAN, RANDOM_STD = (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)
# The side in pixels of the photographs' centres that activations are measured on.
MEASURED = 128
FAINTEST = 0.01
RESCALINGS = ("none", "layers", "filters")


@dataclasses.dataclass(frozen=True)
class LossNetwork:
    """A network with fixed weights.

    Attributes:
        model: the network.
        constants: what `features` computes with, host arrays: `variables` of the layers in use, and `scales`, what the
            activations of each layer are multiplied by.
        layers: the activations in use, in the network's order.
        mean: of R, G and B, in units of 0..255, that its images are normalized by.
        std: likewise.
        facts: what it is and where its weights are from, with their SHA-256.
    """

    model: nn.Module
    constants: Tree
    layers: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    facts: Mapping[str, Any]

    def features(
        self, constants: Tree, pixels: Float[Array, "b h w 3"], layers: Sequence[str] | None = None
    ) -> Activations:
        """The activations of pictures, 0..255, by layer; of `layers` alone where they are given."""
        wanted = [name for name in self.layers if layers is None or name in layers]
        return _features(self.model, constants, pixels, wanted, self.mean, self.std)


def create(
    *,
    weights: str,
    step: str,
    model: Mapping[str, Any],
    pooling: str | None,
    rescale: str,
    seed: int,
    layers: Sequence[str],
    dtype: DTypeLike,
) -> LossNetwork:
    """Loads or draws a loss network.

    Args:
        weights: a work directory, of a run or of imported weights; or `random`.
        step: of the run: `latest`, `best` or a step.
        model: name and fields of the network with random weights; a run's own are in the run.
        pooling: `max` or `average` instead of what the network has (VGG); None leaves it.
        rescale: `layers` divides the activations of each layer by their mean over the built-in photographs, so that
            the weights of the losses mean the same whatever weights the network has; `filters` does so for every map
            (Gatys et al.); `none`.
        seed: of random weights.
        layers: the activations that are wanted.
        dtype: what is computed in.

    Raises:
        UserError: no such run, network or layer.
    """
    choose(dict.fromkeys(RESCALINGS), rescale, "task.loss_network.rescale")
    check_seed(seed, "task.loss_network.seed")
    if weights == RANDOM:
        network = models.create(**model)
        size, mean, std = RANDOM_SIZE, RANDOM_MEAN, RANDOM_STD
        variables = models.initialize(network, jax.random.key(seed), (size, size, 3))
        origin = f"random weights (seed {seed})"
    else:
        network, variables, size, mean, std, origin = _from_run(Path(weights), step)
    if pooling is not None:
        if "pooling" not in {field.name for field in dataclasses.fields(network)}:
            raise UserError(f"task.loss_network.pooling={pooling} is for vgg; {type(network).__name__} has its own")
        network = network.clone(pooling=pooling)
    network = network.clone(dtype=dtype)
    axes = _axes(network, variables, size)
    for name in layers:
        if name not in axes:
            raise UserError(f"{type(network).__name__} has no activation '{name}'; it has {', '.join(axes)}")
        if axes[name] != 4:
            maps = ", ".join(name for name in axes if axes[name] == 4)
            raise UserError(f"'{name}' of {type(network).__name__} has no maps to compare; take some of {maps}")
    ordered = tuple(name for name in axes if name in layers)
    used = _used(network, variables, ordered, max(size, RANDOM_SIZE))
    constants = {"variables": used, "scales": {name: np.ones((), np.float32) for name in ordered}}
    if rescale != "none":
        constants["scales"] = _scales(network, constants, ordered, mean, std, rescale)
    facts = {
        "network": type(network).__name__,
        "weights": origin,
        "layers": list(ordered),
        "rescale": rescale,
        "sha256": _digest(variables),
    }
    return LossNetwork(network, constants, ordered, mean, std, facts)


def _from_run(workdir: Path, step: str) -> tuple[Any, Tree, int, tuple[float, ...], tuple[float, ...], str]:
    if not (workdir / "run.json").exists():
        raise UserError(
            f"task.loss_network.weights: there is no run in {workdir}; train one (python -m dnn_research.main --config "
            f"configs/loss_network.py), import weights (python -m dnn_research.weights import), or take 'random'"
        )
    config = checkpoint.read_run(workdir)["config"]
    if config["task"]["name"] != "classification":
        raise UserError(f"task.loss_network.weights: {workdir} is a run of {config['task']['name']}, not a classifier")
    network, variables = checkpoint.load_network(workdir, step)
    section = config["data"]
    if section["normalization"] != "channel" or section["channels"] != 3:
        raise UserError(
            f"task.loss_network.weights: {workdir} was trained with data.normalization={section['normalization']} and "
            f"data.channels={section['channels']}; a loss network is shown RGB less its mean: take a run with "
            "data.normalization=channel and data.channels=3"
        )
    folder = checkpoint.find(workdir, step)
    return (
        network, variables, section["image_size"], tuple(section["mean"]), tuple(section["std"]),
        f"{workdir}, step {folder.name}",
    )  # fmt: skip


def _features(
    model: Any,
    constants: Tree,
    pixels: Array,
    layers: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
) -> Activations:
    center, spread = (jnp.asarray(values, jnp.float32).reshape(1, 1, 1, 3) for values in (mean, std))
    made = model.apply(constants["variables"], (pixels - center) / spread, method="features", upto=layers[-1])
    return {name: made[name].astype(jnp.float32) * _across(constants["scales"][name]) for name in layers}


def _across(scale: Array) -> Array:
    """A number, or one for each map."""
    return scale.reshape(1, 1, 1, -1)


def _axes(model: Any, variables: Tree, size: int) -> dict[str, int]:
    """The number of axes of each activation, in the network's order (JAX would sort the keys of what it returns)."""
    found: dict[str, int] = {}

    def run(variables: Tree) -> None:
        made = model.apply(variables, jnp.zeros((1, size, size, 3)), method="features")
        found.update({name: activation.ndim for name, activation in made.items()})

    jax.eval_shape(run, variables)
    return found


def _used(model: Any, variables: Tree, layers: Sequence[str], size: int) -> Tree:
    """The variables that the activations depend on, as host arrays."""
    leaves, structure = jax.tree.flatten(variables)

    def run(leaves: list[Array]) -> Activations:
        tree = jax.tree.unflatten(structure, leaves)
        made = model.apply(tree, jnp.zeros((1, size, size, 3)), method="features", upto=layers[-1])
        return {name: made[name] for name in layers}

    program = jax.make_jaxpr(run)(leaves).jaxpr
    read = {var for equation in program.eqns for var in equation.invars if not hasattr(var, "val")}
    flags = jax.tree.unflatten(structure, [var in read for var in program.invars])
    return jax.tree.map(np.asarray, _pruned(variables, flags))


def _pruned(tree: Tree, flags: Tree) -> Tree:
    """Nested dicts without the leaves that are not flagged."""
    kept = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            inner = _pruned(value, flags[name])
            kept |= {name: inner} if inner else {}
        elif flags[name]:
            kept[name] = value
    return kept


def _scales(
    model: nn.Module,
    constants: Tree,
    layers: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    rescale: str,
) -> dict[str, np.ndarray]:
    """One over the mean activation over the built-in photographs' centres.

    A map that hardly ever speaks counts as one of `FAINTEST` of its layer's mean, else the little that it says would
    outweigh all others.
    """
    photos = []
    for name in photo_patches.PHOTOS:
        photo = photo_patches.read_photo(name)
        side = min(photo.shape[:2])
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        photos.append(images.resize(photo[top : top + side, left : left + side], MEASURED, MEASURED))

    @jax.jit
    def means(constants: Tree, pixels: Array) -> dict[str, Array]:
        made = _features(model, constants, pixels.astype(jnp.float32), layers, mean, std)
        return {name: jnp.abs(maps).mean((0, 1, 2)) for name, maps in made.items()}

    parts = [means(constants, np.stack(photos[n : n + 4])) for n in range(0, len(photos), 4)]
    measured = {name: np.mean([np.asarray(part[name]) for part in parts], axis=0) for name in layers}
    if rescale == "layers":
        measured = {name: value.mean(keepdims=True) for name, value in measured.items()}
    floors = {name: FAINTEST * float(value.mean()) or 1.0 for name, value in measured.items()}
    return {name: (1 / np.maximum(value, floors[name])).astype(np.float32) for name, value in measured.items()}


def _digest(variables: Tree) -> str:
    """SHA-256 of names, shapes and values."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        total.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()
