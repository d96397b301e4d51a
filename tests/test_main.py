"""The command as its user meets it: exit status, one line for an error, kill -9 and start again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QUICK = (
    "--config", "configs/quickstart.py:smoke", "--config.train.num_steps=40", "--config.checkpoint.every_steps=5",
    "--config.eval.every_steps=10", "--config.record.every_steps=3", "--config.train.ema_decay=0.9",
)  # fmt: skip


def start(*arguments, devices=1, **environment):
    command = [sys.executable, "-m", "dnn_research.main", *map(str, arguments)]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), **environment}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments, **more):
    process = start(*arguments, **more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.slow
def test_kill_9_and_start_again_changes_nothing(tmp_path):
    status, out, err = run(*QUICK, "--workdir", tmp_path / "straight")
    assert status == 0, err
    assert out.splitlines()[-1].startswith("top-1 accuracy ")
    process = start(*QUICK, "--workdir", tmp_path / "killed")
    metrics = tmp_path / "killed/metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 7:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    status, out, err = run(*QUICK, "--workdir", tmp_path / "killed")
    assert status == 0, err
    assert "resuming after step" in out
    assert metrics.read_bytes() == (tmp_path / "straight/metrics.jsonl").read_bytes()
    leaves = [
        json.loads((tmp_path / name / "checkpoints/40/manifest.json").read_text())["leaves"]
        for name in ("straight", "killed")
    ]
    assert leaves[0] == leaves[1]


@pytest.mark.slow
def test_sigterm_saves_and_exits_75(tmp_path):
    process = start(*QUICK, "--config.train.num_steps=100000", "--workdir", tmp_path)
    while not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err.count("\n") == 1
    assert "saved at step" in err
    assert "the same command goes on" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config", "configs/resnet151.py"],
            "no config file configs/resnet151.py; did you mean configs/resnet152.py?",
        ),
        (["--config", "configs/resnet152.py", "--config.modle.depth=3"], "did you mean 'model.depth'?"),
        (["--config", "configs/resnet152.py"], "imagenet2012"),
        (["--confg", "x"], "confg"),
        (["--config", "configs/quickstart.py:smoke", "--workdir", "/proc/nowhere"], "/proc/nowhere"),
        (["--config", "configs/quickstart.py:smoke", "extra"], "unexpected argument 'extra'"),
        ([], "which recipe?"),
    ],
)
def test_bad_input_is_a_line_and_status_1(arguments, message, tmp_path):
    status, _, err = run(*arguments, TFDS_DATA_DIR=str(tmp_path))
    assert status == 1
    assert message in err
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_help_names_the_flags():
    status, out, _ = run("--help")
    assert status == 0
    for flag in ("--config", "--workdir", "--mode", "--checkpoint", "--debug"):
        assert flag in out
