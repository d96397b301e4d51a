"""TensorBoard's event files, written by the thread that has something to say.

tensorboardX's own writer hands events to a thread; when that meets a full disk it dies, and the run waits for it
forever. Here the error is the caller's.
"""

import socket
import time
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyrefly: ignore [missing-module-attribute]
from tensorboardX.record_writer import RecordWriter

# Whoever looks at a run that is training sees what is at most so old.
FLUSH_SECONDS = 30.0


class EventFile:
    """One file of events; each process that goes on with a run begins another.

    Args:
        directory: where they are.
        purge_step: events of earlier files from this step on do not count; None where there are none.
    """

    def __init__(self, directory: Path, *, purge_step: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads them in the order of their names, which otherwise hold nothing but the time: a clock that
        # was set back would turn the order around.
        part = len(list(directory.glob("*.tfevents.*")))
        name = f"events.part{part:04d}" if part else "events"
        self._writer = RecordWriter(str(directory / f"{name}.out.tfevents.{int(time.time())}.{socket.gethostname()}"))
        self._flushed = time.monotonic()
        self._write(Event(file_version="brain.Event:2"))
        if purge_step is not None:
            self._write(Event(step=purge_step, file_version="brain.Event:2"))
            self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, summary: Any, step: int | None) -> None:
        """Writes a `Summary` of `tensorboardX.summary`; raises OSError when it cannot be written."""
        self._write(Event(step=step, summary=summary))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Puts on the disk what was added."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Closes the file, also when what is left to be written cannot be."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
