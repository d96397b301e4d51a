"""The exceptions that end a command with one line for a person, and the look-ups that raise them most.

Every module may import this one.
"""

import difflib
import inspect
import json
import signal
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


MOST_CHARACTERS = 1500


class UserError(Exception):
    """Something that the user can mend. The message is one line: what is wrong, with which value, what to do.

    `commands` that are to be copied stand below it, a line each.
    """

    def __init__(self, message: str, commands: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.commands = tuple(commands)

    def __str__(self) -> str:
        return "\n    ".join((one_line(super().__str__()), *map(one_line, self.commands)))


class Diverged(UserError):
    """The loss or a gradient became NaN or infinite; `step` says when, `evaluating` whether an evaluation found it."""

    def __init__(self, message: str, step: int, *, evaluating: bool = False) -> None:
        super().__init__(message)
        self.step, self.evaluating = step, evaluating


class Interrupted(Exception):
    """SIGTERM or SIGINT came, and nothing is lost; the message says where it was saved, or what was not begun."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal.Signals(number)


def said(error: Exception) -> str:
    """What a person is told of an error: of the system's, which file and what; of one that nobody foresaw, its kind."""
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {first_line(error)} (--debug shows where)"


def choose(table: Mapping[str, T], key: str, what: str) -> T:
    """`table[key]`, or one clear line that lists what there is; `what` says what is chosen."""
    if key not in table:
        raise UserError(f"unknown {what} '{key}'{suggest(key, table)}; known: {', '.join(table)}")
    return table[key]


def check_seed(seed: int, name: str) -> None:
    """Raises UserError for a seed that random numbers cannot be made from; `name` is how the user knows it."""
    if not 0 <= seed < 2**32:
        raise UserError(f"{name} is {seed}: give 0 or more, and less than 2**32")


def construct(constructor: Callable[..., T], name: str, section: Mapping[str, Any], **more: Any) -> T:
    """Calls `constructor(**section, **more)`; a key that it does not know or that is missing becomes one clear line.

    Args:
        name: how the user knows the section, such as `config.train`.
    """
    parameters = inspect.signature(constructor).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    named = {key: p for key, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD and key not in more}
    for key in section:
        if key in more or (key not in named and not open_ended):
            raise UserError(f"{name} does not know '{key}'{suggest(key, named)}; known: {', '.join(named)}")
    for key, parameter in named.items():
        if key not in section and parameter.default is inspect.Parameter.empty:
            raise UserError(f"{name} lacks '{key}'")
        if section.get(key, parameter.default) is None and not _takes_none(parameter.annotation):
            raise UserError(f"{name}.{key} cannot be none")
        if key in section and not _fits(section[key], parameter.annotation):
            shown = repr(section[key])[:100]
            raise UserError(f"{name}.{key} cannot be {shown}: it takes {_shown(parameter.annotation)}")
    return constructor(**section, **more)


def parse_json(text: str | bytes) -> Any:
    """What JSON says; text that no reader could print or that is nested without end is no JSON here.

    Raises:
        ValueError: it is none.
    """
    try:
        body = json.loads(text)
        json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair
    except RecursionError:
        raise ValueError("brackets without end") from None
    return body


def read_json(path: Path, advice: str = "") -> dict[str, Any]:
    """The JSON object in a file; `advice` is what to do where it is none."""
    do = f"; {advice}" if advice else ""
    try:
        body = parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}){do}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({first_line(error)}){do}") from error
    if not isinstance(body, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object){do}")
    return body


def field(held: Any, path: str, kind: type[T] | tuple[type[T], ...], where: object) -> T:
    """The value at a dotted path of what a file held, checked; `where` is the file.

    Raises:
        UserError: it is not there, or of another kind.
    """
    for key in path.split("."):
        if not isinstance(held, Mapping) or key not in held:
            raise UserError(f"{where} lacks '{path}': it is damaged, or of another version")
        held = held[key]
    if not isinstance(held, kind) or (isinstance(held, bool) and kind is not bool):
        raise UserError(f"{where} is damaged: '{path}' cannot be {repr(held)[:60]}")
    return held


def one_line(message: str) -> str:
    """A message in one line of a length that can be read, whatever the values in it are."""
    line = " ".join(part for part in message.splitlines() if part).replace("\0", "\\0")
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 4]} ..."


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value of a config is of the type that a parameter is declared with.

    A whole number is a number, a list of JSON is a tuple; what no config holds is not looked at.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    listed = (tuple, list)
    if origin in (tuple, Sequence) and isinstance(value, listed):
        if origin is not tuple or arguments[1:] == (...,):
            return all(_fits(one, arguments[0]) for one in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    kinds = {
        float: (int, float),
        int: int,
        str: str,
        bool: bool,
        tuple: listed,
        Sequence: listed,
        type(None): type(None),
    }
    kind = kinds.get(annotation if origin is None else origin)
    if kind is None:
        return True
    return isinstance(value, kind) and (annotation is bool or not isinstance(value, bool))


def _shown(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    # What configs and command lines have.
    return str(annotation).replace("collections.abc.Sequence", "tuple")


def _takes_none(annotation: Any) -> bool:
    return annotation in (Any, inspect.Parameter.empty) or type(None) in typing.get_args(annotation)


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when there is something near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
