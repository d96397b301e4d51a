"""Paints pictures in a style: with a trained network, or by optimizing pixels.

    python -m dnn_research.tools.stylize --workdir runs/style_transfer photo.jpg --output painted.jpg
    python -m dnn_research.tools.stylize --workdir runs/style_transfer photos/ --output painted/
    python -m dnn_research.tools.stylize --method optimize --style paint.jpg --loss_network runs/vgg16_torchvision
        photo.jpg --output painted.jpg [--preset gatys] [--size 512] [--iterations 300]

A folder becomes a folder, an animated GIF an animated GIF; a sequence of frames is a folder. Pictures are turned
upright by their EXIF tag and keep their transparency. Nothing is overwritten without --overwrite.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dnn_research import process
from dnn_research.errors import UserError

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
        "style_weight": 1.0,
        "tv_weight": 1e-7,
        "rescale": "layers",
        "variant": "D",
        "pooling": "max",
    },
}

# uint8 [h, w, 3], and what the picture is called -> the painted one.
Paint = Callable[[np.ndarray, str], np.ndarray]


class Parser(argparse.ArgumentParser):
    """Whose complaints are the command's."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the options")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    try:
        known = _parser().parse_args(arguments)
        process.use_compilation_cache()
        jobs = plan(known.paths, known.output, overwrite=known.overwrite)
        paint = _by_network(known) if known.method == "network" else _by_optimization(known)
        return run(jobs, paint, size=known.size, overwrite=known.overwrite)
    except (UserError, OSError) as error:
        if "--debug" in (arguments or sys.argv):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def plan(paths: Sequence[Path], output: Path, *, overwrite: bool) -> list[tuple[Path, Path]]:
    """What becomes what: (picture, painted picture) pairs. A folder, or several pictures, become a folder.

    Raises:
        UserError: nothing to paint, or a result would overwrite something.
    """
    from dnn_research.data import pictures
    from dnn_research.tools.predict import find_files

    files = find_files(paths)
    many = len(files) > 1 or any(path.is_dir() for path in paths)
    if not many:
        target = output / files[0].name if output.is_dir() else output
        pictures.check_writable(target, overwrite=overwrite)
        return [(files[0], target)]
    if output.exists() and not output.is_dir():
        raise UserError(f"{len(files)} pictures go into a folder, but {output} is a file; give another --output")
    folders = [path for path in paths if path.is_dir()]
    jobs = []
    for file in files:
        inside = next((file.relative_to(folder) for folder in folders if file.is_relative_to(folder)), Path(file.name))
        jobs.append((file, output / inside))
    twice = [target for number, (_, target) in enumerate(jobs) if target in [other for _, other in jobs[:number]]]
    if twice:
        raise UserError(f"two of the pictures would become {twice[0]}; paint them into different folders")
    for _, target in jobs:
        if target.exists() and not overwrite:
            raise UserError(f"{target} exists; give another --output, or --overwrite")
    for _, target in jobs:
        target.parent.mkdir(parents=True, exist_ok=True)
    return jobs


def run(jobs: Sequence[tuple[Path, Path]], paint: Paint, *, size: int | None, overwrite: bool) -> int:
    """Paints every picture; one that cannot be painted is one line, and the others go on. Returns the exit status."""
    from dnn_research.data import pictures

    failed = 0
    for source, target in jobs:
        try:
            picture = pictures.read(source)
            frames = []
            for number, frame in enumerate(picture.frames):
                of = f", frame {number + 1} of {len(picture.frames)}" if len(picture.frames) > 1 else ""
                frames.append(paint(frame if size is None else pictures.fit(frame, size), f"{source}{of}"))
            alphas = tuple(
                None if alpha is None else _like(alpha, frame)
                for alpha, frame in zip(picture.alphas, frames, strict=True)
            )
            made = dataclasses.replace(picture, frames=tuple(frames), alphas=alphas)
            pictures.write(target, made, overwrite=overwrite)
        except UserError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    if failed and len(jobs) > 1:
        print(f"{failed} of {len(jobs)} pictures could not be painted", file=sys.stderr)
    return 1 if failed else 0


def _like(alpha: np.ndarray, frame: np.ndarray) -> np.ndarray:
    from dnn_research.data import images

    return images.resize(alpha[..., None], *frame.shape[:2])[..., 0]


# ------------------------------------------------------------------------------------------------------- by a network


def _by_network(known: argparse.Namespace) -> Paint:
    """Painting by the network of a run."""
    from dnn_research import checkpoint
    from dnn_research.models.transform_net import TransformNet
    from dnn_research.tasks import pixels
    from dnn_research.tools import tiles

    if known.workdir is None:
        raise UserError("--workdir, of a trained network, is missing; --method optimize needs none")
    run = checkpoint.read_run(known.workdir)
    config = run["config"]
    if config["task"]["name"] != "style_transfer":
        raise UserError(f"{known.workdir} is a run of {config['task']['name']}; style_transfer paints pictures")
    names = config["task"]["style_images"]
    model, variables = checkpoint.load_network(known.workdir, known.checkpoint, ema=known.ema)
    assert isinstance(model, TransformNet)
    mixture = _mixture(known.style, names)
    memory = None if known.memory is None else int(known.memory * 2**30)
    painter = tiles.Painter(
        model, variables, tuple(config["data"]["mean"]), tuple(config["data"]["std"]), tile=known.tile, memory=memory
    )
    measure = _measure(config["task"], names, mixture) if known.measure else None
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
    from dnn_research.data import pictures

    short = pictures.names(names)
    mixture = np.zeros(len(names), np.float32)
    for name, weight in _weighted(given or [short[0]]):
        if name not in (*short, *names):
            raise UserError(f"the network has no style '{name}'; it has {', '.join(short)}")
        mixture[short.index(name) if name in short else list(names).index(name)] += weight
    return mixture / mixture.sum()


def _weighted(words: Sequence[str]) -> Iterator[tuple[str, float]]:
    for word in words:
        name, equals, text = word.rpartition("=")
        try:
            weight = float(text) if equals else 1.0
        except ValueError:
            name, weight = word, 1.0
        if not weight > 0:
            raise UserError(f"--style {word}: a weight must be positive")
        yield (name if equals and name else word), weight


def _measure(section: dict[str, Any], names: Sequence[str], mixture: np.ndarray) -> Callable[..., str]:
    """(photograph, painted) -> the losses of both, as the run's task has them."""
    import jax
    import jax.numpy as jnp

    from dnn_research.data import pictures
    from dnn_research.tasks import objective

    goal = objective.create(
        **{key: section[key] for key in ("content_layer", "content_weight", "style_weight", "tv_weight")},
        normalization=section["normalization"], style_layers=tuple(section["style_layers"]),
        network=section["loss_network"], dtype=np.float32,
    )  # fmt: skip
    styles = [pictures.fit(pictures.read_still(name), section["style_size"]) for name in names]
    constants = goal.constants(styles)
    run = jax.jit(lambda c, made, photo: goal.measure(c, made, goal.content(c, photo), jnp.asarray(mixture[None])))

    def measure(photo: np.ndarray, made: np.ndarray) -> str:
        shown = photo[None].astype(np.float32)
        painted = run(constants, made[None].astype(np.float32), shown)
        own = run(constants, shown, shown)
        return (
            f"style loss {float(painted['style_loss'][0]):.4g} (the photograph's own {float(own['style_loss'][0]):.4g})"
            f", content loss {float(painted['content_loss'][0]):.4g}, loss {float(painted['loss'][0]):.4g}"
        )

    return measure


def _about(facts: dict[str, Any]) -> str:
    return f"losses by {facts['network']}, {facts['weights']}"


# ---------------------------------------------------------------------------------------------------- by optimization


def _by_optimization(known: argparse.Namespace) -> Paint:
    """Painting by optimizing pixels."""
    from dnn_research.data import pictures
    from dnn_research.tasks import objective, pixels

    if not known.style:
        raise UserError("--style, a picture to take the style from, is missing: a path, or builtin:tissue")
    preset = PRESETS[known.preset]
    chosen = {
        key: preset[key] if getattr(known, key) is None else getattr(known, key)
        for key in ("content_layer", "style_layers", "content_weight", "style_weight", "tv_weight", "normalization")
    }
    pooling = known.pooling or preset["pooling"]
    goal = objective.create(
        **chosen,
        network={
            "weights": known.loss_network, "step": "latest", "pooling": pooling,
            "model": {"name": "vgg", "variant": preset["variant"], "width_factor": known.width_factor},
            "rescale": known.rescale or preset["rescale"], "seed": known.seed,
        },
        dtype=np.float32,
    )  # fmt: skip
    weighted = list(_weighted(known.style))
    styles, mixture = [pictures.read_still(name) for name, _ in weighted], [weight for _, weight in weighted]
    print(f"styles {', '.join(name for name, _ in weighted)}; {_about(dict(goal.network.facts))}", flush=True)

    def paint(image: np.ndarray, name: str) -> np.ndarray:
        longest = max(image.shape[:2])
        sizes = tuple(size for size in known.scales if size < longest)
        options = pixels.Options(
            known.optimizer, known.iterations, known.learning_rate, known.start, (*sizes, longest), known.colors,
            known.seed,
        )  # fmt: skip
        if longest > 2048:
            raise UserError(f"{name}: {longest} pixels are too many to optimize; --size 512 scales it down")
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
                    stem = Path(name.partition(",")[0]).stem
                    pictures.write(known.progress / f"{stem}_{number:05d}.png", still, overwrite=True)

        return pixels.optimize(image, styles, mixture, goal, options, report)

    return paint


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dnn_research.tools.stylize", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    parser.add_argument("--output", type=Path, required=True, help="the picture, or the folder, to write")
    parser.add_argument("--overwrite", action="store_true", help="results may replace files that are there")
    parser.add_argument("--method", choices=("network", "optimize"), default="network")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="scale to this longer side first")
    parser.add_argument(
        "--style", action="append", metavar="NAME[=WEIGHT]",
        help="of the network's styles; with --method optimize a picture. Several are blended",
    )  # fmt: skip
    parser.add_argument("--colors", choices=("style", "histogram", "luminance"), default="style",
                        help="luminance: the photograph's colours; histogram: the style gets them first")  # fmt: skip
    network = parser.add_argument_group("a trained network")
    network.add_argument("--workdir", type=Path, help="of its run")
    network.add_argument("--checkpoint", default="latest", help="latest (default), best, or a step")
    network.add_argument("--ema", action="store_true", help="the moving average of the parameters")
    network.add_argument("--tile", type=int, metavar="PIXELS", help="paint in tiles of this side")
    network.add_argument("--memory", type=float, metavar="GIB", help="what may be used (default: half of the free)")
    network.add_argument("--measure", action="store_true", help="print the losses of the run's task")
    pixels = parser.add_argument_group("--method optimize")
    pixels.add_argument("--loss_network", default="random", help="a work directory, or random (default)")
    pixels.add_argument("--preset", choices=tuple(PRESETS), default="gatys", help="the losses' defaults")
    pixels.add_argument("--optimizer", choices=("lbfgs", "adam"), default="lbfgs")
    pixels.add_argument("--iterations", type=int, default=300, help="at each size (default 300)")
    pixels.add_argument("--learning_rate", type=float, default=10.0, help="of adam, in 0..255 (default 10)")
    pixels.add_argument("--start", choices=("content", "noise"), default="content")
    pixels.add_argument("--scales", type=_numbers, default=(), metavar="PIXELS,...", help="smaller sizes to begin with")
    pixels.add_argument("--every", type=int, default=25, help="report once in so many iterations (default 25)")
    pixels.add_argument("--progress", type=Path, metavar="FOLDER", help="keep the picture of each report")
    pixels.add_argument("--pooling", choices=("max", "average"))
    pixels.add_argument("--content_layer")
    pixels.add_argument("--style_layers", type=_words, metavar="NAME,...")
    pixels.add_argument("--content_weight", type=float)
    pixels.add_argument("--style_weight", type=float)
    pixels.add_argument("--tv_weight", type=float)
    pixels.add_argument("--normalization", choices=("paper", "released", "gatys"))
    pixels.add_argument("--rescale", choices=("none", "layers", "filters"))
    pixels.add_argument("--width_factor", type=float, default=1.0, help="of a random loss network (default 1)")
    pixels.add_argument("--seed", type=int, default=0, help="of noise and of a random loss network")
    parser.add_argument("--debug", action="store_true", help="shows the traceback of an error")
    return parser


if __name__ == "__main__":
    process.use_huge_pages()
    sys.exit(main())
