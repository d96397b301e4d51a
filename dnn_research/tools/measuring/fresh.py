"""A fresh process for each contender: its peak memory, and the time from its start to the end of the first step.

    python -m dnn_research.tools.measuring.fresh JSON

is such a process of ours; the peer's is `torch_peer`, with its own initial values. Each is started twice, with an empty
compilation cache and with the one that the first left.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dnn_research import process
from dnn_research.errors import UserError
from dnn_research.tools.measuring import machine, memory
from dnn_research.tools.measuring.networks import Case
from dnn_research.tools.measuring.ours import GIB, Ours
from dnn_research.tools.measuring.peer import Peer, request_of, write_batch

# After the first step; buffers that live from step to step are there in the second.
MORE_STEPS = 2


@dataclasses.dataclass(frozen=True)
class Start:
    """Seconds from a process's start to the end of its first step, and its peak memory after some more."""

    seconds: float
    peak_gib: float


@dataclasses.dataclass(frozen=True)
class Starts:
    """With an empty cache, and with a full one."""

    cold: Start
    warm: Start


def ours(case: Case, mode: str, *, stock: bool, devices: int | None) -> Starts:
    """Starts our process twice."""
    spec = json.dumps({"case": dataclasses.asdict(case), "mode": mode, "stock": stock, "devices": devices})
    with tempfile.TemporaryDirectory() as cache:
        environment = {
            **process.environment_before(),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        }
        return Starts(*(_start_ours(spec, environment) for _ in range(2)))


def _start_ours(spec: str, environment: Mapping[str, str]) -> Start:
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "dnn_research.tools.measuring.fresh", spec],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["it says nothing"]
    if done.returncode:
        raise UserError(f"a fresh process ended with status {done.returncode}: {lines[-1]}")
    found = json.loads(lines[-1])
    return Start(found["ended"] - started, found["peak"] / GIB)


def peers(command: Sequence[str], case: Case, ours: Ours, variant: str, mode: str) -> Starts:
    """Starts the peer's process twice, with initial values of its own."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as cache:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request_of(case, ours)))
        write_batch(folder / "batch.npz", ours, ours.batch)
        environment = {"TORCHINDUCTOR_CACHE_DIR": cache}
        return Starts(*(_start_peer(command, folder, environment, variant, mode) for _ in range(2)))


def _start_peer(command: Sequence[str], folder: Path, environment: Mapping[str, str], variant: str, mode: str) -> Start:
    started = time.time()
    with contextlib.closing(Peer(command, folder, environment)) as peer:
        peer.ask("prepare", variant=variant, mode=mode)
        peer.ask("run", variant=variant, at_least=0.0)
        seconds = time.time() - started
        for _ in range(MORE_STEPS):
            peer.ask("run", variant=variant, at_least=0.0)
        return Start(seconds, peer.ask("peak")["bytes"] / GIB)


def main(spec: str) -> None:
    """Takes a first step, some more, and says when the first ended and how much memory it all took."""
    request = json.loads(spec)
    machine.use_devices(request["devices"])
    program = Ours(Case(**request["case"])).program(request["mode"], stock=request["stock"])
    program.step()
    ended = time.time()
    for _ in range(MORE_STEPS):
        program.step()
    print(json.dumps({"ended": ended, "peak": memory.peak()}))


if __name__ == "__main__":
    process.prepare()
    main(sys.argv[1])
