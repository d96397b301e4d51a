"""Data parallelism: the only file that knows `pmap`.

Every device holds the whole state and works on its share of the global batch. The state goes into a step whole and
comes out whole (`in_axes=None`, `out_axes=None`); batches carry a leading device axis. State and batches are placed on
the very mesh that pmap's outputs live on, else the second call would compile the step again.

`out_axes=None` takes the first device's value without a look at the others: whatever leaves a step through it must have
been reduced over `AXIS` inside.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dnn_research.errors import UserError

AXIS = "batch"

Batch = Mapping[str, Any]


def initialize_hosts() -> None:
    """Joins the other processes of a run on many hosts; does nothing on one.

    `DNN_DISTRIBUTED` says how they find each other: `slurm` and `tpu` from their own environment, `env` from
    COORDINATOR_ADDRESS, NUM_PROCESSES and PROCESS_ID (`launch.sh` sets it).
    """
    how = os.environ.get("DNN_DISTRIBUTED", "")
    if how in ("slurm", "tpu"):
        jax.distributed.initialize()
    elif how == "env":
        try:
            address = os.environ["COORDINATOR_ADDRESS"]
            count, index = int(os.environ["NUM_PROCESSES"]), int(os.environ["PROCESS_ID"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"DNN_DISTRIBUTED=env needs COORDINATOR_ADDRESS, NUM_PROCESSES and PROCESS_ID ({error})"
            ) from error
        jax.distributed.initialize(address, num_processes=count, process_id=index)
    elif how:
        raise UserError(f"DNN_DISTRIBUTED is '{how}'; it can be slurm, tpu or env")


def is_primary() -> bool:
    """Whether this process writes the records of the run."""
    return jax.process_index() == 0


def greatest(number: int) -> int:
    """The greatest of all processes' numbers; each of them must call it."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


def local_mesh() -> Mesh:
    """The mesh of this process's devices, as pmap builds it."""
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def replicate(tree: Any) -> Any:
    """Places a host tree whole on every device of this process."""
    sharding = NamedSharding(local_mesh(), PartitionSpec())
    return jax.device_put(tree, sharding)


def check_divides(batch_size: int, name: str) -> None:
    """Raises UserError unless every device gets an equal, non-empty share of a global batch."""
    if batch_size <= 0:
        raise UserError(f"{name} must be positive, not {batch_size}")
    devices = jax.device_count()
    if batch_size % devices:
        near = max(devices, batch_size // devices * devices)
        raise UserError(f"{name}={batch_size} does not divide over {devices} devices; take a multiple such as {near}")


def shard(batch: Batch) -> dict[str, jax.Array]:
    """Splits this process's part of a global batch over its devices and says where in it each example stands.

    Args:
        batch: arrays [B, ...] of equal length; process p of n holds examples p, p + n, p + 2n, ... of the global batch.
            A length that the devices do not divide is filled up with zeros (weight 0 counts for nothing).

    Returns:
        Arrays [devices, B / devices, ...] on the devices, with `position` (int32), the place in the global batch.
    """
    devices = jax.local_device_count()
    length = len(next(iter(batch.values())))
    share = -(-length // devices)
    position = np.arange(share * devices, dtype=np.int32) * jax.process_count() + jax.process_index()
    sharding = NamedSharding(local_mesh(), PartitionSpec(AXIS))

    def split(array: np.ndarray) -> np.ndarray:
        if len(array) < share * devices:
            array = np.concatenate([array, np.zeros((share * devices - len(array), *array.shape[1:]), array.dtype)])
        return array.reshape(devices, share, *array.shape[1:])

    return {
        name: jax.device_put(split(np.asarray(array)), sharding)
        for name, array in {**batch, "position": position}.items()
    }


def on_each_device(step: Callable, *, donate_state: bool = False) -> Any:
    """`step(state, batch) -> tree` over all devices; everything that it returns must be equal on all of them."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=(0,) if donate_state else ())


def mean(tree: Any) -> Any:
    """The mean over all devices, inside a step."""
    return lax.pmean(tree, AXIS) if jax.tree.leaves(tree) else tree


def total(tree: Any) -> Any:
    """The sum over all devices, inside a step."""
    return lax.psum(tree, AXIS) if jax.tree.leaves(tree) else tree


def step_key(seed: int, step: Any) -> jax.Array:
    """The random key of a step: a function of (seed, step), equal on all devices, apart from `initial_key`."""
    return jax.random.fold_in(jax.random.split(jax.random.key(seed))[1], step)


def initial_key(seed: int) -> jax.Array:
    """The random key of the initial values."""
    return jax.random.split(jax.random.key(seed))[0]
