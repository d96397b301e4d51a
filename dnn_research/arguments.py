"""What all commands but `main` share: a wrong argument, as any error, ends in one line with status 1."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dnn_research.errors import Interrupted, UserError, one_line, said


class _WithDebug(argparse.ArgumentParser):
    """argparse's, with the option that all commands have; a parser of subcommands makes theirs like itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_argument("--debug", action="store_true", help="shows the traceback of an error")


class Parser(_WithDebug):
    """Without argparse's usage in front of an error and its status 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the command."""
        self.exit(1, f"error: {one_line(message)}; --help lists the options\n")


class CaughtParser(_WithDebug):
    """Whose complaints are the command's, which parses where it catches its errors."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; --help lists the options")


def config_overrides(rest: Sequence[str], *, allowed: bool = True) -> list[str]:
    """The changes of a config, as `config.KEY=VALUE`, from the words that a parser did not know.

    Args:
        rest: the words, in which a change is `--config.KEY=VALUE`.
        allowed: whether the command takes any.

    Raises:
        UserError: a word is something else.
    """
    for word in rest:
        if not (allowed and word.startswith("--config.")):
            raise UserError(f"unknown argument {word}")
    return [word.removeprefix("--") for word in rest]


def check_figure(option: str, path: Path, also: Sequence[str] = ()) -> None:
    """Raises UserError unless matplotlib writes the suffix: where there is none, it would write another file."""
    from matplotlib.backend_bases import FigureCanvasBase  # takes a while to import

    # PGF needs LaTeX.
    known = [f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes() if kind != "pgf"]
    if path.suffix.lower() not in (*known, *also):
        raise UserError(f"{option} {path}: give a file {', '.join(('.png', '.svg', *also))} or .pdf")


def answer(command: Callable[[], int | None], *, debug: bool, interrupted: str = "interrupted") -> int:
    """Runs a command and says on stderr, in one line, what stopped it.

    Args:
        command: returns its exit status; None is 0.
        debug: errors are raised, for their traceback.
        interrupted: what is said after Ctrl-C.

    Returns:
        The command's status; 1 after an error, 130 after Ctrl-C, 75 after a SIGTERM that was obeyed.
    """
    try:
        status = command() or 0
        # Here, not at exit: the reader may be gone.
        sys.stdout.flush()
        return status
    except Interrupted as end:
        print(f"interrupted by {end.signal.name}: {end}; the same command goes on from there", file=sys.stderr)
        return 75 if end.signal.name == "SIGTERM" else 130
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; the interpreter must not try to write the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"error: {said(error)}", file=sys.stderr)
        return 1
