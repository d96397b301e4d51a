"""Where an operation's formulation is chosen: by the platform that a program is lowered for.

An operation has one definition, the stock one, and on CPU often a faster formulation of it. Which of them a program
holds is decided when it is lowered, not when it is traced and not by the machine that traces it: the same function
lowered for a TPU on a laptop holds the stock operations.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

from jax import lax

_stock: contextvars.ContextVar[bool] = contextvars.ContextVar("stock", default=False)


@contextlib.contextmanager
def stock_operations() -> Iterator[None]:
    """While a program is traced: the stock operations on every platform, for counting and for comparison.

    A function that was compiled before keeps what it was compiled with.
    """
    token = _stock.set(True)
    try:
        yield
    finally:
        _stock.reset(token)


def by_platform(*operands: Any, cpu: Callable[..., Any], stock: Callable[..., Any]) -> Any:
    """`cpu(*operands)` in a program for CPUs, `stock(*operands)` in one for anything else; both return the same."""
    if _stock.get():
        return stock(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=stock)
