"""How commands end: a status that a script can tell, and one line that a person understands."""

import importlib
import signal
import subprocess
import sys

import pytest

from dnn_research.arguments import answer
from dnn_research.errors import Interrupted, UserError


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("no run.json in runs/x"), 1, "error: no run.json in runs/x\n"),
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), 1, "error: a.jpg: No such file or directory\n"),
        (OSError("no space"), 1, "error: the system: no space\n"),
        (ZeroDivisionError("by zero\nin two lines"), 1, "error: ZeroDivisionError: by zero (--debug shows where)\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (
            Interrupted(signal.SIGTERM, "saved at step 3"),
            75,
            "interrupted by SIGTERM: saved at step 3; the same command goes on from there\n",
        ),
        (
            Interrupted(signal.SIGINT, "saved at step 3"),
            130,
            "interrupted by SIGINT: saved at step 3; the same command goes on from there\n",
        ),
    ],
)
def test_what_stops_a_command_is_one_line(error, status, said, capsys):
    assert answer(raising(error), debug=False, interrupted="stopped") == status
    assert capsys.readouterr().err == said


def test_raises_errors_when_debugging():
    with pytest.raises(UserError, match="wrong"):
        answer(raising(UserError("wrong")), debug=True)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tools.benchmark", ["--network", "nothing"]),
        ("tools.collectives", ["--config", "nothing"]),
        ("tools.compare", ["nothing", "nothing"]),
        ("tools.curves", ["nothing", "--output", "curves.png"]),
        ("tools.data", ["show", "--config", "nothing", "--output", "images.png"]),
        ("weights", ["export", "--workdir", "nothing", "--lineage", "timm", "--output", "weights.safetensors"]),
    ],
)
def test_commands_show_the_traceback_when_asked(name, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = importlib.import_module(f"dnn_research.{name}" if "." in name else f"dnn_research.{name}.__main__")
    assert command.main(arguments) == 1
    for words in (["--debug", *arguments], [*arguments, "--debug"]):
        with pytest.raises(UserError):
            command.main(words)


@pytest.mark.parametrize("status", [None, 0, 1])
def test_returns_the_status_of_the_command(status):
    assert answer(lambda: status, debug=False) == (status or 0)


def test_a_reader_that_has_seen_enough_is_no_error():
    script = (
        "import sys; from dnn_research.arguments import answer\n"
        "sys.exit(answer(lambda: print('line\\n' * 100_000), debug=False))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout.readline() == "line\n"
        command.stdout.close()
        assert command.wait(timeout=60) == 0
        assert command.stderr.read() == ""
