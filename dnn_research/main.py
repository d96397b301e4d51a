"""Flags in, one call out.

python -m dnn_research.main --config configs/resnet152.py

Exit status: 0 done, 1 bad input or failure, 3 diverged, 75 saved after SIGTERM (start again), 130 interrupted.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags

from dnn_research import hosts, process, recipe
from dnn_research.errors import Diverged, Interrupted, UserError, said

_CONFIG = flags.DEFINE_string(
    "config", None, "the recipe, FILE[:WORD,...]: configs/resnet152.py or configs/resnet152.py:smoke"
)
_WORKDIR = flags.DEFINE_string("workdir", None, "the work directory; runs/<config file>[-<words>] when not given")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "train (or go on), or evaluate a checkpoint")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "for --mode=eval: latest, best, or a step")
_DEBUG = flags.DEFINE_bool("debug", False, "show tracebacks")
FLAGS = (_CONFIG, _WORKDIR, _MODE, _CHECKPOINT, _DEBUG)

USAGE = """trains or evaluates a network:
  python -m dnn_research.main --config configs/resnet152.py [--workdir D] [--mode train|eval] [--config.KEY=VALUE ...]
The same command goes on with a run that was cut off."""


def main() -> None:
    """The command."""
    if {"-h", "--help", "-help"} & set(sys.argv[1:]):
        print(f"{USAGE}\n\n" + "\n".join(f"  --{flag.name}: {flags.FLAGS[flag.name].help}" for flag in FLAGS))
        return
    overrides, arguments = split_overrides(sys.argv)
    process.show_plain_lines()
    try:
        rest = flags.FLAGS(arguments)
    except flags.Error as error:
        _fail(f"{str(error).splitlines()[0]}; --help lists the flags", 1)
    if len(rest) > 1:
        _fail(f"unexpected argument '{rest[1]}'; a change of the config is --config.KEY=VALUE", 1)
    guard(lambda: _run(overrides), debug=_DEBUG.value)


def _run(overrides: Sequence[str]) -> None:
    if not _CONFIG.value:
        raise UserError("which recipe? --config configs/quickstart.py (configs/ has more)")
    chosen = recipe.load(_CONFIG.value, overrides)
    workdir = Path(_WORKDIR.value or Path("runs") / chosen.name)
    process.use_compilation_cache()
    if chosen.config.train.deterministic:
        process.make_deterministic()
    # Here, not above: they take seconds to import, which a mistyped flag should not cost.
    from dnn_research import divergence, memory, train

    hosts.join(recipe.plain(chosen.config))
    if _MODE.value == "train":
        compiled = train.CompiledSteps()
        try:
            train.train(chosen, workdir, compiled)
        except Diverged as error:
            raise divergence.explained(error, chosen, workdir, compiled, print) from error
        except Exception as error:
            if not memory.is_exhausted(error):
                raise
            raise memory.explained(error, chosen, workdir) from error
    else:
        train.evaluate_run(chosen, workdir, _CHECKPOINT.value, print)


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes `--config.KEY=VALUE` and `--config.KEY VALUE` out of a command line: (`config.KEY=VALUE` ..., the rest)."""
    overrides, rest = [], []
    remaining = iter(arguments)
    for argument in remaining:
        name = argument.lstrip("-")
        if argument.startswith("-") and name.startswith("config."):
            value = None if "=" in name else next(remaining, None)
            overrides.append(name if value is None else f"{name}={value}")
        else:
            rest.append(argument)
    return overrides, rest


def guard(command: Callable[[], None], *, debug: bool) -> None:
    """Runs a command; whatever ends it becomes one line on stderr and the exit status that design gives it."""
    try:
        command()
        hosts.leave()
    except Interrupted as end:
        status = 75 if end.signal.name == "SIGTERM" else 130
        hosts.leave()
        _fail(f"interrupted by {end.signal.name}: {end}; the same command goes on from there", status)
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from the last checkpoint", 130)
    except Diverged as error:
        hosts.leave()
        _fail(str(error), 3, debug)
    except Exception as error:
        _fail(said(error), 1, debug)


def _fail(message: str, status: int, debug: bool = False) -> NoReturn:
    if debug:
        traceback.print_exc()
    line = f"error: {message}" if status in (1, 3) else message
    hosts.fail(status, line)
    print(line, file=sys.stderr, flush=True)
    sys.exit(status)


if __name__ == "__main__":
    process.prepare()
    main()
