"""Disks that fill up or can no longer be written: mounts that only the run and its children see.

They are made in a mount namespace of the run's own (`unshare --mount`), so nothing outside changes, and the kernel
takes them away with the last process in it.
"""

import functools
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Starts a program in a mount namespace of its own; its process is the program's.
APART = ("unshare", "--mount")


@functools.cache
def allowed() -> bool:
    """Whether this user may mount on this machine."""
    if any(shutil.which(program) is None for program in ("unshare", "nsenter", "mount")):
        return False
    probe = [*APART, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def small(workdir: Path, room: int) -> Sequence[str]:
    """What starts a run whose work directory is on a disk with `room` bytes to spare.

    A tmpfs with a copy of the directory lies over it; what is there when the run ends is copied back.
    """
    used = sum(-(-path.stat().st_size // 4096) * 4096 for path in workdir.rglob("*") if path.is_file())
    folders = 4096 * sum(path.is_dir() for path in workdir.rglob("*"))
    there, aside = (shlex.quote(str(path)) for path in (workdir.absolute(), workdir.absolute().with_suffix(".under")))
    script = f"""
        set -e
        mkdir -p {aside}
        mount --bind {there} {aside}
        mount -t tmpfs -o size={used + folders + room} tmpfs {there}
        cp -a {aside}/. {there}
        set +e
        "$@"
        status=$?
        rm -rf {aside}/* && cp -a {there}/. {aside} || exit 99
        exit $status
    """
    return *APART, "sh", "-c", script, "sh"


def read_only(workdir: Path) -> Sequence[str]:
    """What starts a run whose work directory cannot be written."""
    there = shlex.quote(str(workdir.absolute()))
    script = f'mount --bind {there} {there} && mount -o remount,bind,ro {there} && exec "$@"'
    return *APART, "sh", "-c", script, "sh"


def make_read_only(process: int, folder: Path) -> bool:
    """Lets a folder become read-only for a process that was started `APART`; False if that ended before."""
    there = shlex.quote(str(folder.absolute()))
    # While a file is being written in it, the kernel does not let it become so.
    script = f"mount --bind {there} {there}; for i in $(seq 500); do mount -o remount,bind,ro {there} && exit 0; done"
    inside = ["nsenter", "--mount", "--target", str(process), "sh", "-c", f"{script}; exit 1"]
    return subprocess.run(inside, capture_output=True, check=False).returncode == 0
