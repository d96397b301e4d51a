"""What tools.stylize paints with: the network of a run, or the optimization of pixels."""

import argparse
import collections
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnn_research import checkpoint, recipe
from dnn_research.data import load_normalization, pictures
from dnn_research.errors import UserError, check_seed
from dnn_research.models.transform_net import TransformNet
from dnn_research.tasks import objective, pixels
from dnn_research.tools.painting import tiles
from dnn_research.tools.stylize import Paint

# What --method optimize minimizes unless told otherwise. `gatys`: VGG-19 with average pooling, alpha / beta = 1e-3, no
# total variation. `johnson`: the losses of the networks here, as configs/style_transfer.py has them.
PRESETS: dict[str, dict[str, Any]] = {
    "gatys": {
        "normalization": "gatys",
        "content_layer": "relu4_2",
        "style_layers": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
        "content_weight": 1e-3,
        "style_weight": 1.0,
        "tv_weight": 0.0,
        "rescale": "filters",
        "variant": "E",
        "pooling": "average",
    },
    "johnson": {
        "normalization": "paper",
        "content_layer": "relu2_2",
        "style_layers": ("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
        "content_weight": 1.0,
        "style_weight": 10.0,
        "tv_weight": 1e-9,
        "rescale": "layers",
        "variant": "D",
        "pooling": "max",
    },
}
LOSSES = ("content_layer", "style_layers", "content_weight", "style_weight", "tv_weight", "normalization")
# Beyond it an optimization takes hours.
LARGEST = 2048


# ------------------------------------------------------------------------------------------------------- by a network


def by_network(known: argparse.Namespace) -> Paint:
    """Painting by the network of a run."""
    if known.workdir is None:
        raise UserError("--workdir, of a trained network, is missing; --method optimize needs none")
    run = checkpoint.read_run_of("style_transfer", known.workdir, "; style_transfer paints pictures")
    config = run["config"]
    names = config["task"]["style_images"]
    model, variables = checkpoint.load_network(known.workdir, known.checkpoint, ema=known.ema)
    assert isinstance(model, TransformNet)
    mixture = _mixture(known.style, names)
    if known.memory is not None and not 0 < known.memory < math.inf:
        raise UserError(f"--memory is {known.memory}: give GiB, a positive number")
    memory = None if known.memory is None else int(known.memory * 2**30)
    painter = tiles.Painter(model, variables, load_normalization(known.workdir), tile=known.tile, memory=memory)
    measure = _measure(known.workdir, run, mixture) if known.measure else None
    print(f"{known.workdir}: styles {', '.join(names)}; {_about(run['task']['loss_network'])}", flush=True)

    def paint(image: np.ndarray, name: str) -> np.ndarray:
        height, width = image.shape[:2]
        side, needed = painter.plan(height, width)
        how = "in one piece" if side is None else f"in tiles of {side} pixels"
        print(f"{name}: {width}x{height}, {how}, {needed / 2**30:.2f} GiB", flush=True)
        start = time.perf_counter()
        made = painter.paint(image, mixture)
        line = f"{name}: {time.perf_counter() - start:.1f} s"
        print(f"{line}; {measure(image, made)}" if measure else line, flush=True)
        return pixels.keep_chrominance(made, image) if known.colors == "luminance" else made

    if known.colors == "histogram":
        raise UserError("--colors histogram is for --method optimize: a trained network has its style's colours")
    return paint


def _mixture(given: Sequence[str] | None, names: Sequence[str]) -> np.ndarray:
    """The weight of each of a network's styles, from `NAME[=WEIGHT]` words; none: the first style."""
    short = pictures.names(names)
    mixture = np.zeros(len(names))
    for name, weight in _weighted(given or [short[0]]):
        if name not in (*short, *names):
            raise UserError(f"the network has no style '{name}'; it has {', '.join(short)}")
        mixture[short.index(name) if name in short else list(names).index(name)] += weight
    return (mixture / mixture.sum()).astype(np.float32)


def _weighted(words: Sequence[str]) -> Iterator[tuple[str, float]]:
    for word in words:
        name, equals, text = word.rpartition("=")
        try:
            weight = float(text) if equals else 1.0
        except ValueError:
            name, weight = word, 1.0
        if not 0 < weight < math.inf:
            raise UserError(f"--style {word}: a weight must be positive and finite")
        yield (name if equals and name else word), weight


def _measure(workdir: Path, run: dict[str, Any], mixture: np.ndarray) -> Callable[..., str]:
    """(photograph, painted) -> the losses of both, as the run's task has them."""
    goal = _goal_of(workdir, run)
    constants = goal.constants(_styles_of(workdir, run))
    weights = jnp.asarray(mixture[None])
    losses = jax.jit(lambda c, made, photo: goal.measure(c, made, goal.content(c, photo), weights))
    style = jax.jit(lambda c, photo: goal.style(c, photo, weights))

    def measure(photo: np.ndarray, made: np.ndarray) -> str:
        shown = photo[None].astype(np.float32)
        painted = losses(constants, made[None].astype(np.float32), shown)
        own = float(style(constants, shown)[0])
        return (
            f"style loss {float(painted['style_loss'][0]):.4g} (the photograph's own {own:.4g})"
            f", content loss {float(painted['content_loss'][0]):.4g}, loss {float(painted['loss'][0]):.4g}"
        )

    return measure


def _goal_of(workdir: Path, run: dict[str, Any]) -> objective.Objective:
    """The losses of a run's task.

    Raises:
        UserError: its loss network is another now.
    """
    section = run["config"]["task"]
    goal = objective.create(
        **{key: section[key] for key in ("content_layer", "content_weight", "style_weight", "tv_weight")},
        normalization=section["normalization"], style_layers=tuple(section["style_layers"]),
        network=section["loss_network"], dtype=jnp.float32,
    )  # fmt: skip
    changes = recipe.differences(run["task"]["loss_network"], goal.network.facts)
    recipe.refuse(changes, f"{workdir} was trained with another loss network of that name")
    return goal


def _styles_of(workdir: Path, run: dict[str, Any]) -> list[np.ndarray]:
    """The style pictures of a run's task, [H, W, 3] each.

    Raises:
        UserError: one of them is another now.
    """
    section = run["config"]["task"]
    names = section["style_images"]
    styles = [pictures.fit(pictures.read_still(name), section["style_size"]) for name in names]
    digests = {name: pictures.digest(style) for name, style in zip(names, styles, strict=True)}
    changes = recipe.differences(run["task"]["style_images"], digests)
    recipe.refuse(changes, f"{workdir} was trained with another style picture of that name")
    return styles


def _about(facts: dict[str, Any]) -> str:
    return f"losses by {facts['network']}, {facts['weights']}"


# ---------------------------------------------------------------------------------------------------- by optimization


def by_optimization(known: argparse.Namespace) -> Paint:
    """Painting by optimizing pixels."""
    if known.every < 1:
        raise UserError(f"--every is {known.every}: give 1 or more")
    check_seed(known.seed, "--seed")
    if known.progress and not known.overwrite and any(known.progress.glob("*.png")):
        raise UserError(f"{known.progress} holds pictures; give another --progress, or --overwrite")
    painted: collections.Counter[str] = collections.Counter()
    goal, styles, style_size = _wanted(known)
    weighted = list(_weighted(styles))
    images, mixture = [pictures.read_still(name) for name, _ in weighted], [weight for _, weight in weighted]
    print(f"styles {', '.join(name for name, _ in weighted)}; {_about(dict(goal.network.facts))}", flush=True)

    def paint(image: np.ndarray, name: str) -> np.ndarray:
        longest = max(image.shape[:2])
        sizes = tuple(size for size in known.scales if size < longest)
        options = pixels.Options(
            known.optimizer, known.iterations, known.learning_rate, known.start, (*sizes, longest), known.colors,
            known.seed, style_size,
        )  # fmt: skip
        if longest > LARGEST:
            raise UserError(f"{name}: {longest} pixels are too many to optimize; --size 512 scales it down")
        # With a number before those after the first that would be called the same.
        shown = re.sub(r"[^\w.-]+", "_", Path(name).name)
        painted[shown] += 1
        shown = shown if painted[shown] == 1 else f"{painted[shown]}_{shown}"
        start = time.perf_counter()

        def report(number: int, losses: dict[str, float], picture: Callable[[], np.ndarray]) -> None:
            if number == 1 or number % known.every == 0:
                print(
                    f"{name}: iteration {number:,}, {time.perf_counter() - start:.1f} s, style loss "
                    f"{losses['style_loss']:.4g}, content loss {losses['content_loss']:.4g}, loss "
                    f"{losses['loss']:.4g}",
                    flush=True,
                )
                if known.progress is not None:
                    known.progress.mkdir(parents=True, exist_ok=True)
                    still = pictures.Picture((picture(),), (None,))
                    pictures.write(known.progress / f"{shown}_{number:05d}.png", still, overwrite=True)

        return pixels.optimize(image, images, mixture, goal, options, report)

    return paint


def _wanted(known: argparse.Namespace) -> tuple[objective.Objective, Sequence[str], int | None]:
    """The losses, the style pictures as `--style` words, and the size to scale those to (None: the result's)."""
    if known.workdir is not None:
        run = checkpoint.read_run_of("style_transfer", known.workdir, "; style_transfer has losses of styles")
        section = run["config"]["task"]
        if not known.style:
            _styles_of(known.workdir, run)  # refuses others than the run's
        return _goal_of(known.workdir, run), known.style or section["style_images"], section["style_size"]
    if not known.style:
        raise UserError("--style, a picture to take the style from, is missing: a path, or builtin:tissue")
    preset = PRESETS[known.preset]
    losses = {key: preset[key] if getattr(known, key) is None else getattr(known, key) for key in LOSSES}
    network = {
        "weights": known.loss_network,
        "step": "latest",
        "model": {"name": "vgg", "variant": preset["variant"], "width_factor": known.width_factor},
        "pooling": known.pooling or preset["pooling"],
        "rescale": known.rescale or preset["rescale"],
        "seed": known.seed,
    }
    return objective.create(**losses, network=network, dtype=jnp.float32), known.style, None
