"""A process that does what it is asked to: a line of JSON in, a line of JSON out. It needs the standard library alone.

The first line out is unasked: what the process says of itself. Anything that fails is answered by {"error": what, in a
line}. Between requests the process waits for its standard input and computes nothing.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO


class Service(Protocol):
    """What is asked."""

    def greeting(self) -> dict[str, Any]:
        """What is said unasked."""
        ...

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a request is answered with."""
        ...


def serve(make_service: Callable[[], Service]) -> None:
    """Answers requests until standard input ends."""
    with _own_output() as output:
        service = make_service()
        _say(output, service.greeting())
        for line in sys.stdin:
            try:
                answer = service.answer(json.loads(line))
            except Exception as error:
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"}
            _say(output, answer)


def _own_output() -> TextIO:
    """Standard output for answers alone: whatever else is printed goes to standard error."""
    sys.stdout.flush()
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return output


def _say(output: TextIO, answer: Mapping[str, Any]) -> None:
    output.write(json.dumps(answer) + "\n")
    output.flush()
