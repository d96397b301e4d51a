"""Stages of equal blocks, and the ways to run them: unrolled, scanned, rematerialized.

How a stage runs is not what it is: variables, initial values and results are the unrolled ones in any case.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dnn_research.models.layers import Activations, layers_are_frozen

Maker = Callable[..., nn.Module]

# The name under which a stage finds the variables of blocks 2 to n where they are stacked already.
STACK = "blocks"

# On two CPU cores a loop over fewer blocks gains nothing but compile time. With 4 equal blocks a stage (CIFAR
# ResNet-32, this number lowered for it) compiling took 0.75 times as long and the step was 0.88 to 1.02 times as fast;
# with 8 (ResNet-56) compiling took 0.4 times as long and the step was 1.2 times as fast; with 5 in one stage alone
# (ResNet-50) 0.9 and 1.06:
# python -m dnn_research.tools.benchmark --config configs/resnet110_cifar10.py --config.batch_size=32 --mode train
#     --quick --config.model.depth=56 --compare model.scan_blocks=False,True
FEWEST_TO_SCAN = 6


def stacks(stages: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Of the stages that are scanned: path of the stack of their equal blocks -> the names of these.

    Args:
        stages: name -> number of blocks.
    """
    return {
        f"{stage}/{STACK}": tuple(_names(2, length)) for stage, length in stages.items() if length - 1 >= FEWEST_TO_SCAN
    }


def _names(first: int, last: int) -> list[str]:
    return [f"block{number}" for number in range(first, last + 1)]


class Stage(nn.Module):
    """Blocks `block1` (with the strides) to `block<length>` (all equal), one after the other.

    `scan_blocks` compiles the body of blocks 2 to n once and loops over it, where they are many enough to gain by it;
    `remat_blocks` keeps only the blocks' inputs for the backward pass. The variables stand under the same names in any
    case. A scanned stage also takes those of blocks 2 to n stacked along a first axis, as `STACK`: a training loop that
    holds them so (see `stacks`) compiles a program whose size does not depend on their number.
    """

    make_block: Maker
    length: int
    strides: tuple[int, int]
    scan_blocks: bool
    remat_blocks: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool, upto: int | None = None, keep: bool = False
    ) -> tuple[Float[Array, "b h_out w_out n"], Activations]:
        """Runs the first `upto` blocks (default: all).

        Returns:
            What the last block puts out and, with `keep`, what each does, by name.
        """
        names = _names(1, upto or self.length)
        # A block run as a function does not know its path, by which layers are frozen.
        if self.is_initializing() or layers_are_frozen() or not (self.scan_blocks or self.remat_blocks):
            return self._run_unrolled(images, names, train=train, keep=keep)
        return self._run_functions(images, names, train=train, keep=keep)

    def _run_unrolled(self, x: Array, names: list[str], *, train: bool, keep: bool) -> tuple[Array, Activations]:
        kept = {}
        for name in names:
            x = self.make_block(strides=self.strides if name == "block1" else (1, 1), name=name)(x, train=train)
            if keep:
                kept[name] = x
        return x, kept

    def _run_functions(self, x: Array, names: list[str], *, train: bool, keep: bool) -> tuple[Array, Activations]:
        """Runs blocks as functions of their variables, which stay where the unrolled submodules have them."""
        updates: dict[str, Any] = {}
        kept: Activations = {}
        x, updates["block1"] = self._function(self.strides, train=train, in_loop=False)(x, self._variables_of("block1"))
        if keep:
            kept["block1"] = x
        rest = names[1:]
        stacked = self._variables_of(STACK)
        if stacked or (self.scan_blocks and len(rest) >= FEWEST_TO_SCAN):
            run = self._function((1, 1), train=train, in_loop=True)

            def body(x: Array, of_block: Any) -> tuple[Array, Any]:
                x, update = run(x, of_block)
                return x, (update, x if keep else None)

            if stacked:
                blocks = jax.tree.map(lambda leaf: leaf[: len(rest)], stacked)
            else:
                blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(self._variables_of, rest))
            x, (stacked_updates, outputs) = lax.scan(body, x, blocks)
            if keep:
                kept |= {name: outputs[number] for number, name in enumerate(rest)}
            if stacked:
                updates[STACK] = {
                    collection: jax.tree.map(_replace_first, stacked[collection], update)
                    for collection, update in stacked_updates.items()
                }
            else:
                for number, name in enumerate(rest):
                    updates[name] = jax.tree.map(
                        lambda leaf, i=number: lax.index_in_dim(leaf, i, keepdims=False), stacked_updates
                    )
        else:
            run = self._function((1, 1), train=train, in_loop=False)
            for name in rest:
                x, updates[name] = run(x, self._variables_of(name))
                if keep:
                    kept[name] = x
        for name, update in updates.items():
            for collection, tree in update.items():
                self.put_variable(collection, name, tree)
        return x, kept

    def _function(self, strides: tuple[int, int], *, train: bool, in_loop: bool) -> Callable[[Array, Any], Any]:
        """A block as `(images, variables) -> (outputs, updated variables)`."""
        block = self.make_block(strides=strides, parent=None)

        def run(images: Array, variables: Any) -> Any:
            return block.apply(variables, images, train=train, mutable=["batch_stats"] if train else [])

        # In a loop nothing can be merged with the forward pass, so no barrier has to prevent it.
        return jax.checkpoint(run, prevent_cse=not in_loop) if self.remat_blocks else run

    def _variables_of(self, block: str) -> dict[str, Any]:
        return {collection: tree[block] for collection, tree in self.variables.items() if block in tree}


def _replace_first(stack: Array, update: Array) -> Array:
    """The stack with its first members replaced, or all of them."""
    return jnp.concatenate([update, stack[len(update) :]]) if len(update) < len(stack) else update
