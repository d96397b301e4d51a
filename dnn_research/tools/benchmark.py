"""Measures train step and inference: speed, memory, compile and start-up time, beside PyTorch and stock operations.

    python -m dnn_research.tools.benchmark --network all --peer torch --peer_python PATH [--compiled] [--stock]
    python -m dnn_research.tools.benchmark --network resnet50,nin --batch_sizes 1,16 --mode inference --devices 2
    python -m dnn_research.tools.benchmark --config configs/nin.py --compare model.mlpconv=True,False
    python -m dnn_research.tools.benchmark data --help                    # input pipelines

Everything runs in one process, step by step in turn, so that a busy machine bears on all alike: contenders of ours, and
a child process in the peer's Python that waits while we compute. The peer's networks mirror ours layer by layer: the
same weights must give the same outputs and, where it is trained, loss and gradient, else nothing is measured.
Synthetic images; nothing is written.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from dnn_research import process
from dnn_research.arguments import CaughtParser, answer, config_overrides
from dnn_research.errors import UserError
from dnn_research.tools.measuring import networks
from dnn_research.tools.measuring.networks import DTYPES, Entry

MODES = ("train", "inference")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)

    def command() -> None:
        if words[:1] == ["data"]:
            # Here, not above: it imports what decodes images.
            from dnn_research.tools.measuring import inputs

            inputs.run(words[1:])
        else:
            _measure(*parse(words))

    return answer(command, debug="--debug" in words)


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and overrides of the config such as `config.batch_size=32`."""
    parser = CaughtParser(
        prog="python -m dnn_research.tools.benchmark", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--network", metavar="NAME,...", help="benchmark networks at their native size, or all")
    parser.add_argument("--config", metavar="FILE[:WORD,...]", help="a recipe instead; --config.KEY=VALUE changes it")
    parser.add_argument("--compare", metavar="KEY=VALUE,VALUE", help="measure these values of a field of the config")
    parser.add_argument("--mode", metavar="MODE,...", help="train, inference (default: both; with --config, train)")
    parser.add_argument("--batch_sizes", metavar="N,...", help="default: each network's own")
    parser.add_argument("--dtype", help="float32 or bfloat16 to compute in")
    parser.add_argument("--devices", type=int, metavar="N", help="CPU devices to make, or accelerators to use")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="turns of each contender (default 5)")
    parser.add_argument("--stock", action="store_true", help="also our network with JAX's stock operations")
    parser.add_argument("--peer", help="torch: also the same network in PyTorch, eager in both memory formats")
    parser.add_argument("--peer_python", metavar="PATH", help="the peer's Python; default: $DNN_PEER_PYTHON, or this")
    parser.add_argument("--compiled", action="store_true", help="the peer's better format by torch.compile, too")
    parser.add_argument("--quick", action="store_true", help="no fresh processes: no peak memory, no start-up times")
    parser.add_argument("--json", action="store_true", help="prints one JSON object; the table goes to stderr")
    known, rest = parser.parse_known_args(arguments)
    given = config_overrides(rest)
    _check(known, given)
    return known, given


def _check(known: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Raises UserError for options that do not go together."""
    if bool(known.network) == bool(known.config):
        raise UserError("give either --network (a name, or all) or --config FILE")
    if known.network and (known.compare or overrides):
        raise UserError("--compare and --config.KEY=VALUE go with --config FILE: a benchmark network is what it is")
    if known.config and known.peer:
        raise UserError("--peer goes with --network: it mirrors the benchmark networks alone")
    if known.peer not in (None, "torch"):
        raise UserError(f"--peer is '{known.peer}'; it can be torch")
    for option in ("compiled", "peer_python"):
        if getattr(known, option) and not known.peer:
            raise UserError(f"--{option} needs --peer torch")
    for option in ("steps", "devices"):
        value = getattr(known, option)
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}: give 1 or more")
    if known.dtype not in (None, *DTYPES):
        raise UserError(f"--dtype is '{known.dtype}'; it can be {' or '.join(DTYPES)}")


def _measure(known: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Measures and prints."""
    modes = _words("--mode", known.mode or ("train" if known.config else ",".join(MODES)), MODES)
    groups = contenders(known, overrides)
    for case in (entries[0].case for entries in groups):
        if known.mode and "train" in modes and not case.trained:
            raise UserError(f"{case.name} is measured in inference alone: give --mode inference")
    # Here, not above: they take seconds to import, which a mistyped option should not cost.
    import jax

    from dnn_research import parallel
    from dnn_research.tools.measuring import machine, measurement, peer, report

    command = peer.command(known.peer_python) if known.peer else None
    # A step that was compiled before would be read from the cache in no time.
    jax.config.update("jax_enable_compilation_cache", False)
    machine.use_devices(known.devices)
    for entries in groups:
        parallel.check_divides(entries[0].case.batch_size, "batch_size")

    about = machine.about()
    options = measurement.Options(known.steps, command, known.compiled, not known.quick, known.devices)
    measuring, results = measurement.Measuring(options), []
    stream = sys.stderr if known.json else sys.stdout
    print(report.heading(about, known.steps), file=stream, flush=True)
    for entries in groups:
        for mode in modes if entries[0].case.trained else ["inference"]:
            measured = measuring.measure(entries, mode)
            print(report.group(measured), file=stream, flush=True)
            results += [dataclasses.asdict(m) for m in measured]
    if known.json:
        print(json.dumps({**about, "peer": measuring.peer_about, "check": measuring.differences, "results": results}))


def contenders(known: argparse.Namespace, overrides: Sequence[str]) -> list[list[Entry]]:
    """Our contenders, by network and batch size."""
    sizes = [_size(word) for word in known.batch_sizes.split(",")] if known.batch_sizes is not None else [None]
    if known.network:
        cases = [
            networks.benchmark(name, size, known.dtype or DTYPES[0])
            for name in networks.names(known.network)
            for size in sizes
        ]
    else:
        cases = [networks.of_recipe(known.config, overrides, size, known.dtype) for size in sizes]
    groups = []
    for case in cases:
        entries = [Entry(name, case.changed(*change)) for name, change in _variants(known.compare).items()]
        if known.stock:
            entries.append(Entry("stock", entries[0].case, stock=True))
        groups.append(entries)
    return groups


def _variants(compare: str | None) -> dict[str, list[str]]:
    """Name -> overrides of each value to compare."""
    if compare is None:
        return {"ours": []}
    key, equals, values = compare.partition("=")
    if not equals:
        raise UserError(f"--compare {compare} lacks its values; write it as --compare KEY=VALUE,VALUE")
    return {f"{key}={value}": [f"config.{key}={value}"] for value in values.split(",")}


def _words(option: str, given: str, known: Sequence[str]) -> list[str]:
    words = given.split(",")
    for word in words:
        if word not in known:
            raise UserError(f"{option} holds '{word}'; it can hold {', '.join(known)}")
    return words


def _size(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise UserError(f"--batch_sizes holds '{word}': give whole numbers of 1 or more")
    return int(word)


if __name__ == "__main__":
    process.prepare()
    sys.exit(main())
