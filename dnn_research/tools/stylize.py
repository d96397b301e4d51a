"""Paints pictures in a style: with a trained network, or by optimizing pixels.

    python -m dnn_research.tools.stylize --workdir runs/style_transfer photo.jpg --output painted.jpg
    python -m dnn_research.tools.stylize --workdir runs/style_transfer photos/ --output painted/
    python -m dnn_research.tools.stylize --method optimize --style paint.jpg --loss_network runs/vgg16_torchvision
        photo.jpg --output painted.jpg [--preset gatys] [--size 512] [--iterations 300]

A folder becomes a folder, an animated GIF an animated GIF; a sequence of frames is a folder. Pictures are turned
upright by their EXIF tag and keep their transparency. Nothing is overwritten without --overwrite.
"""

import argparse
import collections
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dnn_research import process
from dnn_research.arguments import CaughtParser, answer
from dnn_research.errors import UserError

PRESETS = ("gatys", "johnson")
# uint8 [h, w, 3], and what the picture is called -> the painted one.
Paint = Callable[[np.ndarray, str], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments

    def command() -> int:
        known = _parser().parse_args(words)
        process.use_compilation_cache()
        jobs = plan(known.paths, known.output, overwrite=known.overwrite)
        # Here, not above: jax takes seconds to import, which a mistyped option should not cost.
        from dnn_research.tools.painting import painters

        paint = (painters.by_network if known.method == "network" else painters.by_optimization)(known)
        return run(jobs, paint, size=known.size, overwrite=known.overwrite)

    return answer(command, debug="--debug" in words)


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
    target, times = collections.Counter(target for _, target in jobs).most_common(1)[0]
    if times > 1:
        raise UserError(f"{times} of the pictures would become {target}; paint them into different folders")
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
            pictures.check_writable(target, overwrite=overwrite, frames=len(picture.frames))
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


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _parser() -> argparse.ArgumentParser:
    parser = CaughtParser(
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
    network.add_argument("--workdir", type=Path, help="of its run; with --method optimize the losses are this run's")
    network.add_argument("--checkpoint", default="latest", help="latest (default), best, or a step")
    network.add_argument("--ema", action="store_true", help="the moving average of the parameters")
    network.add_argument("--tile", type=int, metavar="PIXELS", help="paint in tiles of this side")
    network.add_argument("--memory", type=float, metavar="GIB", help="what may be used (default: half of the free)")
    network.add_argument("--measure", action="store_true", help="print the losses of the run's task")
    pixels = parser.add_argument_group("--method optimize")
    pixels.add_argument("--loss_network", default="random", help="a work directory, or random (default)")
    pixels.add_argument("--preset", choices=PRESETS, default="gatys", help="the losses' defaults")
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
    return parser


if __name__ == "__main__":
    process.prepare()
    sys.exit(main())
