"""Measures input pipelines: images per second, where the time goes, memory, beside tf.data.

    python -m dnn_research.tools.benchmark data --config configs/resnet50.py [--config.data.dir=D ...]
    python -m dnn_research.tools.benchmark data --peer tf.data --peer_python PATH [--files FOLDER] [--json]

With --config, the training batches of a recipe's own data: microseconds of an image in each stage on one thread, then
images a second by number of threads. Without, JPEG files (made for it, or those of a folder): decode, random crop of 8
to 100 % of the area resized bilinearly to 224, mirroring, batches; with a peer the same operations in tf.data, whose
images are compared with ours first, each pipeline in a process of its own with as many threads as there are cores, in
turns and stopped between them. Where TurboJPEG 3 is installed ours decodes the crops alone, and is also measured
without it.
"""

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnn_research import data, recipe
from dnn_research.arguments import CaughtParser, config_overrides
from dnn_research.errors import UserError, construct
from dnn_research.tools.measuring import input_race, input_stages, machine, peer

MAX_PAUSE_SECONDS = 600


def run(words: Sequence[str]) -> None:
    """Runs `tools.benchmark data`.

    Raises:
        UserError: an option or a file is wrong, or a peer fails.
    """
    known, overrides = parse(words)
    if known.config:
        _measure_recipe(known, overrides)
    else:
        _race(known)


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and overrides of the config such as `config.data.num_workers=2`."""
    parser = CaughtParser(
        prog="python -m dnn_research.tools.benchmark data",
        description=(__doc__ or "").splitlines()[0],
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE[:WORD,...]", help="a recipe; --config.KEY=VALUE changes it")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="JPEG files; default: made for the measurement")
    parser.add_argument("--number", type=int, default=1024, metavar="N", help="how many to make (default 1024)")
    parser.add_argument("--peer", help="tf.data: also the same operations there")
    parser.add_argument("--peer_python", metavar="PATH", help="a Python with tensorflow; default: $DNN_PEER_PYTHON")
    parser.add_argument("--batch_size", type=int, metavar="N", help="default: the recipe's, or 64")
    parser.add_argument("--threads", type=int, metavar="N", help="default: as many as there are cores")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each pipeline (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of a turn (default 3)")
    parser.add_argument(
        "--pause",
        type=float,
        metavar="S",
        default=0.0,
        help="before each turn (default 0), for a machine that slows down under load",
    )
    parser.add_argument("--json", action="store_true", help="prints one JSON object; the table goes to stderr")
    known, rest = parser.parse_known_args(words)
    given = config_overrides(rest)
    if given and not known.config:
        raise UserError("--config.KEY=VALUE goes with --config FILE")
    if known.config and (known.peer or known.files or known.pause):
        raise UserError("--peer, --files and --pause are without --config, which measures a recipe's own data")
    if known.peer not in (None, "tf.data"):
        raise UserError(f"--peer is '{known.peer}'; it can be tf.data")
    if known.peer_python and not known.peer:
        raise UserError("--peer_python needs --peer tf.data")
    for option in ("number", "batch_size", "threads", "rounds"):
        value = getattr(known, option)
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}: give 1 or more")
    if not known.seconds > 0:
        raise UserError(f"--seconds is {known.seconds}: give more than 0")
    if not 0 <= known.pause <= MAX_PAUSE_SECONDS:
        raise UserError(f"--pause is {known.pause}: give 0 to {MAX_PAUSE_SECONDS}")
    return known, given


def _measure_recipe(known: argparse.Namespace, overrides: Sequence[str]) -> None:
    chosen = recipe.load(known.config, overrides).config.to_dict()
    dataset = construct(data.create, "config.data", chosen["data"])
    batch_size = known.batch_size or chosen["batch_size"]
    threads = [known.threads] if known.threads else sorted({0, 1, machine.cores(), dataset.num_workers})
    stages = input_stages.measure(
        dataset, batch_size=batch_size, threads=threads, rounds=known.rounds, seconds=known.seconds
    )
    lines = [
        f"{dataset.name} {dataset.version}, split {dataset.train_split}, batches of {batch_size}; us an image:",
        "  ".join(f"{stage} {stages.microseconds[stage]:.0f}" for stage in input_stages.STAGES),
        "",
        "threads  images/s  least..most",
        *(
            f"{number:7}  {stages.median(number):8,.0f}  {min(speeds):,.0f}..{max(speeds):,.0f}"
            for number, speeds in stages.images_per_second.items()
        ),
        f"peak memory of the process {stages.peak_gib:.2f} GiB",
    ]
    _print(known, lines, {"dataset": dataset.name, "batch_size": batch_size, **dataclasses.asdict(stages)})


def _race(known: argparse.Namespace) -> None:
    command = None
    if known.peer:
        command = peer.command(known.peer_python, name="tf.data", library="tensorflow", module=input_race.THEIRS)
    race = input_race.run(
        known.files,
        known.number,
        batch_size=known.batch_size or 64,
        threads=known.threads or machine.cores(),
        rounds=known.rounds,
        seconds=known.seconds,
        pause=known.pause,
        peer_command=command,
    )
    lines = ["pipeline            images/s  least..most      ours is faster by      peak GiB"]
    for pipeline in race.pipelines:
        speeds, ratios = pipeline.images_per_second, pipeline.ratios
        spread = f"{min(speeds):,.0f}..{max(speeds):,.0f}"
        faster = f"{statistics.median(ratios):.2f}, {min(ratios):.2f}..{max(ratios):.2f}"
        lines.append(f"{pipeline.name:18}  {pipeline.median:8,.0f}  {spread:15}  {faster:20}  {pipeline.peak_gib:8.2f}")
    if race.difference is not None:
        lines.append(f"mean difference between the same crops of ours and of tf.data: {race.difference:.3f} of 255")
    found = {"pipelines": [dataclasses.asdict(pipeline) for pipeline in race.pipelines]}
    _print(known, lines, {**found, "difference": race.difference})


def _print(known: argparse.Namespace, lines: Sequence[str], found: dict[str, Any]) -> None:
    heading = f"{machine.processor()}, {machine.cores()} cores"
    print("\n".join([heading, *lines]), file=sys.stderr if known.json else sys.stdout, flush=True)
    if known.json:
        print(json.dumps({**machine.about(), **found}))
