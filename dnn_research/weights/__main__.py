"""The bridge's commands.

python -m dnn_research.weights import --file resnet50.pth --lineage torchvision --config configs/resnet50.py
    --workdir runs/resnet50_torchvision
python -m dnn_research.weights export --workdir runs/resnet50 --lineage torchvision --output resnet50.safetensors
python -m dnn_research.weights certify --workdir runs/resnet50_torchvision
    --peer_python peers/bin/python --file resnet50.pth
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dnn_research.arguments import Parser, answer, config_overrides
from dnn_research.errors import UserError
from dnn_research.weights import bridge, comparison, conventions


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    known, rest = _parser().parse_known_args(words)

    def command() -> None:
        given = config_overrides(rest, allowed=known.command == "import")
        if known.command == "import":
            bridge.import_weights(
                bridge.Import(
                    known.file,
                    known.lineage,
                    known.config,
                    given,
                    known.workdir,
                    known.mean,
                    known.std,
                    known.channels,
                ),
                _say,
            )
        elif known.command == "export":
            bridge.export_weights(known.workdir, known.checkpoint, known.ema, known.lineage, known.output, _say)
        else:
            bridge.certify(known.workdir, known.output, _peer(known.peer_python, known.file), _say)

    return answer(command, debug="--debug" in words)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dnn_research.weights",
        description="Other people's trained weights in, ours out, and certificates of what a network is.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    lineages = ", ".join(conventions.CONVENTIONS)

    add = commands.add_parser("import", help="make a work directory from a file of weights", allow_abbrev=False)
    add.add_argument("--file", type=Path, required=True, help="torch, safetensors, Keras, Caffe's HDF5 or .npz")
    add.add_argument("--lineage", required=True, help=lineages)
    add.add_argument("--config", required=True, metavar="FILE[:WORD,...]", help="the recipe with the network")
    add.add_argument("--workdir", type=Path, required=True)
    add.add_argument(
        "--mean", type=_numbers, metavar="R,G,B", help="of the training images in 0..255, if not the usual"
    )
    add.add_argument("--std", type=_numbers, metavar="R,G,B", help="likewise")
    add.add_argument("--channels", choices=("rgb", "bgr"), help="what the network was trained on, if not the usual")

    out = commands.add_parser("export", help="write a run's weights as safetensors", allow_abbrev=False)
    out.add_argument("--workdir", type=Path, required=True)
    out.add_argument("--checkpoint", default="latest", help="latest (default), best, or a step")
    out.add_argument("--ema", action="store_true", help="the moving average of the parameters")
    out.add_argument("--lineage", required=True, help="whose names: torchvision or timm")
    out.add_argument("--output", type=Path, required=True)

    certificate = commands.add_parser("certify", help="write what a network is and computes", allow_abbrev=False)
    certificate.add_argument("--workdir", type=Path, required=True)
    certificate.add_argument("--output", type=Path, help=f"default: {bridge.CERTIFICATE} in the work directory")
    certificate.add_argument(
        "--peer_python",
        metavar="PATH",
        help="a Python with the library that the weights are from: compares every layer",
    )
    certificate.add_argument("--file", type=Path, help="with --peer_python: the imported file, which the peer reads")
    return parser


def _peer(python: str | None, file: Path | None) -> comparison.Peer | None:
    if python is None and file is not None:
        raise UserError("--file is what a peer reads; give --peer_python too")
    if python is None:
        return None
    if file is None:
        raise UserError("--peer_python needs --file, the imported file, which the peer reads itself")
    return comparison.Peer(python, file)


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if len(values) != 3:
        raise argparse.ArgumentTypeError("give three numbers: R,G,B")
    return values


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
