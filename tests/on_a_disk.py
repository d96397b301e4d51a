"""What the tests of faults run in a mount namespace of its own, with a disk of two megabytes at its working directory.

    unshare --mount sh -c 'mount -t tmpfs -o size=2m tmpfs DIR && cd DIR && exec python on_a_disk.py NAME'

Each scenario ends with what it found as JSON on the last line of stdout.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from dnn_research import checkpoint, record
from dnn_research.errors import UserError

HERE = Path.cwd()
STATE = {
    "params": {"fc": {"kernel": np.frombuffer(np.random.default_rng(0).bytes(400_000), np.int32)}},
    "step": np.int32(1),
}
LINE = {"step": 1, "epoch": 0.5, "split": "train", "examples": 8, "loss": 1.0}


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def fill(leave: int) -> Path:
    """A file that takes all of the disk but `leave` bytes."""
    statistics = os.statvfs(HERE)
    path = HERE / "filler"
    path.write_bytes(bytes(statistics.f_bavail * statistics.f_frsize - leave))
    return path


def message(act) -> str:
    try:
        act()
    except UserError as error:
        return str(error)
    return ""


def save(writer: checkpoint.Writer, step: int) -> None:
    writer.save(step, {**STATE, "step": np.int32(step)}, {}, {})
    writer.wait()


def full_while_saving(writer: checkpoint.Writer) -> dict:
    """The first save fits; the second finds no room before it begins, the third while it writes."""
    save(writer, 1)
    filler = fill(leave=200_000)
    before = message(lambda: save(writer, 2))
    filler.unlink()
    fill(leave=404_000)  # as much as the arrays take, so that it begins
    during = message(lambda: save(writer, 3))
    left = checkpoint.steps(HERE / "checkpoints")
    filler.unlink()
    save(writer, 4)
    return {"before": before, "during": during, "left": left, "after": checkpoint.steps(HERE / "checkpoints")}


def read_only_while_saving(writer: checkpoint.Writer) -> dict:
    """Read-only between the directory of a step and what goes into it, then from the start."""
    save(writer, 1)
    make_room = writer._make_room

    def then_read_only(folder: Path, needed: int) -> None:
        make_room(folder, needed)
        mount("-o", "remount,ro", str(HERE))

    writer._make_room = then_read_only
    during = message(lambda: save(writer, 2))
    writer._make_room = make_room
    before = message(lambda: save(writer, 3))
    mount("-o", "remount,rw", str(HERE))
    save(writer, 4)
    return {"before": before, "during": during, "after": [s for s, _ in checkpoint.finished(HERE / "checkpoints")]}


def unmounted_while_saving(writer: checkpoint.Writer) -> dict:
    """The disk is taken away, and is there again."""
    with record.Recorder(HERE / "disk/run", record.Options(every_steps=1), primary=True) as recorder:
        recorder.start({"config": {"seed": 0}, "seed": 0}, step=0, total_steps=9, batch_size=8, records={})
        recorder.metrics(LINE)
        recorder.position()
        subprocess.run(["umount", "--lazy", str(HERE / "disk")], check=True)
        gone = message(recorder.position)
        (HERE / "disk/run").mkdir()
        other = message(recorder.position)
    return {"gone": gone, "other": other, "made": sorted(path.name for path in (HERE / "disk/run").iterdir())}


def full_while_recording(writer: checkpoint.Writer) -> dict:
    """Metrics, then TensorBoard alone, on a full disk; what was flushed before is there."""
    run = {"config": {"seed": 0}, "seed": 0}
    found = {}
    for name in ("metrics", "tensorboard"):
        workdir, position = HERE / name, {}
        workdir.mkdir()

        def begin(workdir=workdir, name=name, position=position) -> None:
            with record.Recorder(workdir, record.Options(every_steps=1), primary=True) as recorder:
                recorder.start(run, step=0, total_steps=9, batch_size=8, records={})
                recorder.metrics(LINE)
                position |= recorder.position()
                fill(leave=0)
                while True:
                    recorder.metrics(LINE) if name == "metrics" else recorder.norms(1, {"gradient_norm": 1.0})

        found[name] = message(begin)
        (HERE / "filler").unlink()
        with record.Recorder(workdir, record.Options(every_steps=1), primary=True) as recorder:
            recorder.start(run, step=1, total_steps=9, batch_size=8, records=position)
            recorder.metrics({**LINE, "step": 2})
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        found[f"{name} after"] = [json.loads(line)["step"] for line in lines]
    return found


def main() -> None:
    """Runs a scenario."""
    scenario = globals()[sys.argv[1]]
    if scenario is unmounted_while_saving:
        (HERE / "disk").mkdir()
        mount("-t", "tmpfs", "tmpfs", str(HERE / "disk"))
        (HERE / "disk/run").mkdir()
    started = time.monotonic()
    with checkpoint.Writer(HERE / "checkpoints", checkpoint.Policy(9, "eval/loss"), print) as writer:
        found = scenario(writer)
    waiting = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.name != "MainThread"]
    print(json.dumps({**found, "seconds": time.monotonic() - started, "waiting": waiting}))


if __name__ == "__main__":
    main()
