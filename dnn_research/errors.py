"""The exceptions that end a command with one line for a person, and the two look-ups that raise them most.

Every module may import this one.
"""

import difflib
import inspect
import signal
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Something that the user can mend. The message is one line: what is wrong, with which value, what to do."""


class Diverged(UserError):
    """The loss or a gradient became NaN or infinite; `step` says when, `evaluating` whether an evaluation found it."""

    def __init__(self, message: str, step: int, *, evaluating: bool = False) -> None:
        super().__init__(message)
        self.step, self.evaluating = step, evaluating


class Interrupted(Exception):
    """SIGTERM or SIGINT came, and the state was saved; the message says where."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal.Signals(number)


def choose(table: Mapping[str, T], key: str, what: str) -> T:
    """`table[key]`, or one clear line that lists what there is; `what` says what is chosen."""
    if key not in table:
        raise UserError(f"unknown {what} '{key}'{suggest(key, table)}; known: {', '.join(table)}")
    return table[key]


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
    return constructor(**section, **more)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _takes_none(annotation: Any) -> bool:
    return annotation in (Any, inspect.Parameter.empty) or type(None) in typing.get_args(annotation)


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when there is something near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
