"""Enlarges pictures with a trained super-resolution network.

    python -m dnn_research.tools.upscale --workdir runs/super_resolution photo.jpg --output large.png
    python -m dnn_research.tools.upscale --workdir runs/super_resolution photos/ --output large/ [--match_histogram]

Works through pictures of any size in tiles, which leave no seam. Orientation, transparency, animations, folders and
overwriting are as tools.stylize has them. `--method bicubic` enlarges by interpolation, for comparison.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dnn_research import process
from dnn_research.arguments import CaughtParser, answer
from dnn_research.errors import UserError
from dnn_research.tools.stylize import plan, run

# Pixels of the small picture: a tile's side; and its margin, less two for each residual block: 4 for the first
# convolution, and more than the 3 that those that enlarge see.
TILE, MARGIN = 192, 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments

    def command() -> int:
        known = _parser().parse_args(words)
        process.use_compilation_cache()
        jobs = plan(known.paths, known.output, overwrite=known.overwrite)
        return run(jobs, _painter(known), size=None, overwrite=known.overwrite)

    return answer(command, debug="--debug" in words)


def _painter(known: argparse.Namespace) -> Callable[[np.ndarray, str], np.ndarray]:
    """uint8 [h, w, 3], and what the picture is called -> the enlarged one."""
    import jax
    import jax.numpy as jnp

    from dnn_research import checkpoint
    from dnn_research.data import load_normalization
    from dnn_research.models.transform_net import SuperResolutionNet
    from dnn_research.tasks import image_quality
    from dnn_research.tasks.objective import to_bytes

    checkpoint.read_run_of("super_resolution", known.workdir, "; super_resolution enlarges pictures")
    model, variables = checkpoint.load_network(known.workdir, known.checkpoint, ema=known.ema)
    assert isinstance(model, SuperResolutionNet)
    if model.norm == "instance" and known.method == "network":
        raise UserError(f"{known.workdir} has instance normalization, whose statistics no tile knows; train with batch")
    normalize = load_normalization(known.workdir)
    network = jax.jit(lambda v, x: to_bytes(jnp.asarray(model.apply(v, normalize(x)))))
    bicubic = jax.jit(lambda x: to_bytes(image_quality.enlarge(x.astype(np.float32), model.factor)))

    def enlarge(image: np.ndarray, name: str) -> np.ndarray:
        start = time.perf_counter()
        if known.method == "bicubic":
            made = np.asarray(bicubic(image[None]))[0]
        else:
            margin = MARGIN + 2 * model.residual_blocks
            made = in_tiles(image, model.factor, margin, lambda tile: np.asarray(network(variables, tile[None]))[0])
        if known.match_histogram:
            made = image_quality.match_histogram(made, image)
        sizes = f"{image.shape[1]}x{image.shape[0]} to {made.shape[1]}x{made.shape[0]}"
        print(f"{name}: {sizes}, {time.perf_counter() - start:.1f} s", flush=True)
        return made

    return enlarge


def in_tiles(image: np.ndarray, factor: int, margin: int, enlarge: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Enlarges uint8 [h, w, 3] tile by tile, each with a margin around it: uint8 [factor h, factor w, 3]."""
    from dnn_research.tools.painting.tiles import spans

    height, width = image.shape[:2]
    side = max(TILE, 4 * margin)
    made = np.empty((height * factor, width * factor, 3), np.uint8)
    for rows in spans(height, side, margin):
        for columns in spans(width, side, margin):
            tile = enlarge(image[rows.start : rows.end, columns.start : columns.end])
            (top, bottom), (left, right) = (
                ((span.first - span.start) * factor, (span.last - span.start) * factor) for span in (rows, columns)
            )
            target = made[rows.first * factor : rows.last * factor, columns.first * factor : columns.last * factor]
            target[:] = tile[top:bottom, left:right]
    return made


def _parser() -> argparse.ArgumentParser:
    parser = CaughtParser(
        prog="python -m dnn_research.tools.upscale", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    parser.add_argument("--workdir", type=Path, required=True, help="of the network's run")
    parser.add_argument("--output", type=Path, required=True, help="the picture, or the folder, to write")
    parser.add_argument("--overwrite", action="store_true", help="results may replace files that are there")
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best, or a step")
    parser.add_argument("--ema", action="store_true", help="the moving average of the parameters")
    parser.add_argument("--method", choices=("network", "bicubic"), default="network")
    parser.add_argument("--match_histogram", action="store_true", help="the result's colours become the small one's")
    return parser


if __name__ == "__main__":
    process.prepare()
    sys.exit(main())
