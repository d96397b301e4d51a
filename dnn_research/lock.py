"""One work directory, one run: a lock that the kernel frees when its process ends, however it ends.

What only reads (evaluation, prediction, TensorBoard) takes no lock and is not hindered by one.
"""

import datetime
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dnn_research.errors import UserError

NAME = "lock"

# What flock says where the file system, not another process, is the reason.
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def hold(workdir: Path, say: Callable[[str], None]) -> IO[str]:
    """Takes the lock of a work directory, for as long as the file that comes back is open.

    The file says who holds it. On a file system without locks `say` says so, and the run goes on without one.

    Raises:
        UserError: another process holds it; the message says which.
        OSError: the file cannot be opened.
    """
    # Not "w", which would wipe out the holder's name.
    file = open(workdir / NAME, "a+")  # noqa: SIM115, the caller closes it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _describe(file)
        file.close()
        raise UserError(f"another process is training in {workdir}: {holder}; wait for it or stop it") from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            file.close()
            raise
        say(f"{workdir} cannot be locked ({error.strerror}): see to it that no second process trains in it")
    file.seek(0)
    file.truncate()
    json.dump(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        },
        file,
    )
    file.flush()
    return file


def _describe(file: IO[str]) -> str:
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']} since {holder['started']}, {holder['command']}"
    except (ValueError, TypeError, KeyError):
        return "it has not written its name yet"
