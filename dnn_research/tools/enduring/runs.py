"""Real runs, each in a process of its own that can be watched and killed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from dnn_research import process
from dnn_research.errors import UserError

# Between two looks at a run, and the longest without an end or what is waited for: then it hangs.
LOOK_SECONDS = 0.003
HANGS_SECONDS = 1800.0


def leave_none_behind() -> None:
    """SIGTERM to this process ends it as Ctrl-C does: attempts that are running end with it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run as its command line gives it.

    Attributes:
        config: FILE[:WORD,...].
        overrides: such as `config.train.num_steps=8`.
        workdir: its work directory.
    """

    config: str
    overrides: tuple[str, ...]
    workdir: Path

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.workdir / "checkpoints"

    def finished(self) -> list[int]:
        """The steps of its finished checkpoints, oldest first."""
        from dnn_research import checkpoint  # takes seconds, which a mistyped flag should not cost

        return [step for step, _ in checkpoint.finished(self.checkpoints)]

    def recorded_step(self) -> int:
        """The last step in metrics.jsonl, 0 before the first."""
        try:
            lines = (self.workdir / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        except OSError:
            return 0
        whole = [line for line in lines[-2:] if line.endswith(b"\n")]
        return json.loads(whole[-1])["step"] if whole else 0

    def command(self) -> list[str]:
        """`python -m dnn_research.main ...`."""
        return [
            *(sys.executable, "-m", "dnn_research.main", "--config", self.config),
            *(f"--{override}" for override in self.overrides),
            *("--workdir", str(self.workdir)),
        ]


@dataclasses.dataclass(frozen=True)
class End:
    """How a process ended: its exit status (a signal that killed it is negative), and what it printed."""

    status: int
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The last line on stderr, else on stdout."""
        return next((text.strip().splitlines()[-1] for text in (self.err, self.out) if text.strip()), "nothing")


class Attempt:
    """A process that trains; use it as a context manager, which leaves none behind.

    Args:
        run: what it trains.
        before: a program that starts it, such as `("unshare", "--mount")`.
    """

    def __init__(self, run: Run, before: Sequence[str] = ()) -> None:
        self.run = run
        self._out: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by __exit__
        self._err: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        environment = {
            **process.environment_before(),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self.process = subprocess.Popen(
            [*before, *run.command()], env=environment, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err
        )

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self._err.close()

    def training(self) -> bool:
        """Whether it has read what was there and has begun to train."""
        return "compiling ..." in self._read(self._out)

    def until(self, condition: Callable[[], bool]) -> bool:
        """Waits for something to become true; False when the process ended before.

        Raises:
            UserError: neither happens for half an hour.
        """
        started = time.monotonic()
        while self.process.poll() is None:
            if condition():
                return True
            if time.monotonic() - started > HANGS_SECONDS:
                raise UserError(f"{' '.join(self.run.command())} hangs; its last words: {self._read(self._err)}")
            time.sleep(LOOK_SECONDS)
        return False

    def end(self) -> End:
        """Waits for its end."""
        self.until(lambda: False)
        return End(self.process.returncode, self._read(self._out), self._read(self._err))

    @staticmethod
    def _read(file: IO[str]) -> str:
        # Its position is the process's, which writes there.
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")
