"""The processes of a run on many hosts: how they find each other, begin together and end together.

`DNN_DISTRIBUTED` says how they find each other (`launch.sh` sets it): `env` from COORDINATOR_ADDRESS, NUM_PROCESSES and
PROCESS_ID, `slurm` from Slurm's variables, `tpu` from those of a TPU pod slice. `DNN_HOST_TIMEOUT` is the silence in
seconds after which a process counts as dead, `DNN_START_TIMEOUT` how long processes wait for each other at the start.
"""

import dataclasses
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from dnn_research.errors import UserError
from dnn_research.recipe import differences
from dnn_research.watch import Hub, Watch, call, relay

HOST_TIMEOUT, START_TIMEOUT = 30.0, 300.0

# Keys of a config that may differ between the hosts of a run: all else decides what is computed, or in which order.
OWN = ("data.dir", "data.num_workers")

_watch: Watch | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    """Which process of how many this is, and where process 0 listens."""

    host: str
    port: int
    count: int
    index: int


def join(config: Mapping[str, Any]) -> None:
    """Joins the other processes of a run on many hosts; does nothing on one.

    Args:
        config: of the run, as JSON's types: processes of another one are refused.

    Raises:
        UserError: the variables are wrong, or a process does not come, or is of another run.
    """
    how = os.environ.get("DNN_DISTRIBUTED", "")
    if not how:
        return
    if how not in ("env", "slurm", "tpu"):
        raise UserError(f"DNN_DISTRIBUTED is '{how}'; it can be slurm, tpu or env")
    silence, patience = _seconds("DNN_HOST_TIMEOUT", HOST_TIMEOUT), _seconds("DNN_START_TIMEOUT", START_TIMEOUT)
    import jax

    # A signal is agreed on in the train step.
    jax.config.update("jax_enable_preemption_service", False)
    if how == "tpu":
        jax.distributed.initialize(initialization_timeout=int(patience), heartbeat_timeout_seconds=int(silence))
        return
    place = from_environment() if how == "env" else from_slurm()
    global _watch
    if place.count == 1:
        return
    watch = Watch(place.index, place.count, silence)
    me = {
        "kind": "member",
        "process": place.index,
        "count": place.count,
        "host": socket.gethostname(),
        "jax": jax.__version__,
        "config": config,
    }
    if place.index == 0:
        port = _free_port()
        Hub(watch, place.host, place.port, ("127.0.0.1", port), lambda other: _differs(me, other)).wait_for_all(
            patience
        )
    else:
        connection, host = call((place.host, place.port), me, patience, watch.tick)
        port = relay((place.host, place.port), place.index)
        watch.add(0, host, connection)
    _watch = watch
    jax.distributed.initialize(
        f"127.0.0.1:{port}",
        num_processes=place.count,
        process_id=place.index,
        coordinator_bind_address=f"127.0.0.1:{port}",
        # Ours comes first and says more.
        heartbeat_timeout_seconds=int(10 * silence),
        shutdown_timeout_seconds=int(2 * silence),
    )


def leave() -> None:
    """To be called at an end that all processes come to: done, diverged, saved after a signal."""
    if _watch is not None:
        _watch.leave()


def fail(status: int, line: str) -> None:
    """To be called at any other end: prints the line and ends this process and the others; on one host does nothing."""
    if _watch is not None and not _watch.leaving:
        _watch.fail(status, line)


def from_environment() -> Place:
    """From COORDINATOR_ADDRESS (host:port), NUM_PROCESSES and PROCESS_ID."""
    try:
        address = os.environ["COORDINATOR_ADDRESS"]
        count, index = int(os.environ["NUM_PROCESSES"]), int(os.environ["PROCESS_ID"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"DNN_DISTRIBUTED=env needs COORDINATOR_ADDRESS, NUM_PROCESSES and PROCESS_ID ({error})"
        ) from error
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"COORDINATOR_ADDRESS is '{address}'; it must be HOST:PORT")
    if not 0 <= index < count:
        raise UserError(f"PROCESS_ID={index} is not from 0 to NUM_PROCESSES - 1 = {count - 1}")
    return Place(host.strip("[]"), int(port), count, index)


def from_slurm() -> Place:
    """From the variables of a step (srun): process 0 is on the first node; the port follows from the job's number."""
    try:
        nodes, job = os.environ["SLURM_STEP_NODELIST"], int(os.environ["SLURM_JOB_ID"])
        count, index = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_PROCID"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"DNN_DISTRIBUTED=slurm needs the variables of a Slurm step, as under srun ({error})"
        ) from error
    # 'node[001-004,7]', 'a1,a2' or 'a1'; the first of them.
    found = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", nodes)
    if found is None:
        raise UserError(f"SLURM_STEP_NODELIST is '{nodes}', which names no node")
    # As many as 4,096 ports at the upper end, so that jobs that share a node get along.
    return Place(found[1] + (found[2] or ""), 61440 + job % 4096, count, index)


def _differs(me: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Why another process cannot be of this run."""
    if other.get("count") != me["count"]:
        return f"counts {other.get('count')} processes, process 0 {me['count']}"
    if other.get("jax") != me["jax"]:
        return f"has jax {other.get('jax')}, process 0 {me['jax']}"
    theirs = other.get("config")
    changes = differences(me["config"], theirs if isinstance(theirs, dict) else {})
    found = [f"{key}: {change}" for key, change in changes.items() if key not in OWN]
    return f"has another config. Differences (process 0 -> there): {'; '.join(found)}" if found else None


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < float("inf"):
        raise UserError(f"{name} is '{text}'; it must be a number of seconds, 1 or more")
    return seconds


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
