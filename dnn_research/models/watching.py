"""Looking at what a network's layers put out while it runs as it always does."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax

_unwatched: contextvars.ContextVar[bool] = contextvars.ContextVar("unwatched", default=False)


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Around a loop (`lax.map`, `lax.fori_loop`) that calls networks: what they put out cannot leave it."""
    token = _unwatched.set(True)
    try:
        yield
    finally:
        _unwatched.reset(token)


@contextlib.contextmanager
def watching(model: nn.Module, note: Callable[[str, jax.Array], None]) -> Iterator[None]:
    """While networks are traced: calls `note(layer, outputs)` for every layer, in the order in which they are computed.

    First comes what the network is given, `input`. A block comes after its layers: its outputs differ from those of its
    last layer by what the block does itself, the addition of the shortcut, say. Layers of another network than `model`
    have its class before their names, and the second call of a layer has `(2)` after it. What happens between layers
    (pools, activations) shows in the layer that follows. Blocks that are scanned or rematerialized run as functions
    whose insides cannot be seen; other loops say that they are `unwatched`.
    """
    calls: dict[str, int] = {}

    def look(name: str, array: Any) -> None:
        if isinstance(array, jax.Array):
            calls[name] = calls.get(name, 0) + 1
            note(name if calls[name] == 1 else f"{name} ({calls[name]})", array)

    def watch(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        if _unwatched.get():
            return call(*args, **kwargs)
        module = context.module
        root = module
        while isinstance(root.parent, nn.Module):
            root = root.parent
        prefix = "" if type(root) is type(model) else f"{type(root).__name__}/"
        if module is root:
            if context.method_name in ("__call__", "features"):
                look(f"{prefix}input", args[0])
            return call(*args, **kwargs)
        made = call(*args, **kwargs)
        if context.method_name == "__call__":
            # A stage gives what it puts out, and what its blocks did.
            look(prefix + "/".join(module.path), made[0] if isinstance(made, tuple) else made)
        return made

    with nn.intercept_methods(watch):
        yield
