"""A matrix product whose gradients are fast on a CPU."""

import jax
from jax import lax
from jaxtyping import Array, Float

from dnn_research.ops.lowering import by_platform
from dnn_research.ops.products import by_transposed


@jax.custom_vjp
def dense(inputs: Float[Array, "b c"], kernel: Float[Array, "c n"]) -> Float[Array, "b n"]:
    """`inputs @ kernel`.

    JAX gives the gradient of the kernel as the transpose of [N, C], which XLA's CPU compiler never writes out: the
    whole update then reads it across its rows. Here it is made as [C, N]. On two cores, update with momentum of a
    kernel of 9216 x 4096: 27 ms instead of 206 with one example, 41 instead of 52 with 4, 57 instead of 62 with 64.

    Args:
        inputs: [B, C].
        kernel: [C, N], of the inputs' dtype.

    Returns:
        [B, N].
    """
    return inputs @ kernel


def _forward(inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return inputs @ kernel, (inputs, kernel)


def _backward(operands: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = operands
    over_examples, over_features = (((0,), (0,)), ((), ())), (((1,), (1,)), ((), ()))
    of_kernel = by_platform(
        inputs,
        gradient,
        cpu=lambda x, g: lax.dot_general(x, g, over_examples),
        stock=lambda x, g: lax.dot_general(g, x, over_examples).T,
    )
    of_inputs = by_platform(
        kernel,
        gradient,
        cpu=lambda k, g: by_transposed(g, k),
        stock=lambda k, g: lax.dot_general(g, k, over_features),
    )
    return of_inputs, of_kernel


dense.defvjp(_forward, _backward)
