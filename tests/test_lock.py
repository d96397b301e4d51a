"""One work directory, one run: the second is told who holds it; only those that write are held up."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from dnn_research import lock
from dnn_research.errors import UserError


@pytest.fixture
def said():
    return []


def test_the_second_is_refused_and_told_who_holds_it(tmp_path, said):
    with lock.hold(tmp_path, said.append):
        with pytest.raises(UserError) as refused:
            lock.hold(tmp_path, said.append)
        with pytest.raises(UserError, match=f"process {os.getpid()} on "):  # the first refusal changed nothing
            lock.hold(tmp_path, said.append)
    message = str(refused.value)
    assert message.startswith(f"another process is training in {tmp_path}: process {os.getpid()} on ")
    assert " since 20" in message and "pytest" in message and "\n" not in message
    lock.hold(tmp_path, said.append).close()
    assert said == []


def test_the_kernel_frees_it_when_a_process_is_killed(tmp_path, said):
    program = "import pathlib, sys; from dnn_research import lock\n"
    program += "held = lock.hold(pathlib.Path(sys.argv[1]), print); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on "):
            lock.hold(tmp_path, said.append)
        holder.kill()
    lock.hold(tmp_path, said.append).close()


def test_a_file_system_without_locks_is_said_once_and_the_run_goes_on(tmp_path, said, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock.hold(tmp_path, said.append).close()
    assert len(said) == 1 and "cannot be locked (No locks available)" in said[0]


def test_any_other_failure_is_not_taken_for_a_lock(tmp_path, said, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"):
        lock.hold(tmp_path, said.append)
