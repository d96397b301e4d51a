"""Steps compiled for accelerators that are not here."""

import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest

from dnn_research import parallel
from dnn_research.errors import UserError
from dnn_research.tools import aot, summary
from dnn_research.tools.compiling import chips, estimate, step

ROOT = Path(__file__).parents[2]
NEEDS_CUDA = pytest.mark.skipif(
    all(importlib.util.find_spec(f"jax_cuda{version}_plugin") is None for version in (12, 13)),
    reason="needs a compiler for GPUs (jax-cuda12-plugin, jax-cuda12-pjrt, nvidia-cuda-nvcc-cu12)",
)
NEEDS_LIBTPU = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra aot (libtpu)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "v5e:9x9"], "unknown topology 'v5e:9x9'"),
        (["--topology", "h300:8"], "unknown chip 'h300'"),
        (["--topology", "h100:16"], "unknown topology 'h100:16'"),
        (["--topology", "v5e:2x4", "--what"], "unknown argument --what"),
        (["--topology", "v5e:2x4", "--tries", "0"], "--tries must be at least 1, not 0"),
    ],
)
def test_bad_arguments_end_in_one_line(capsys, arguments, message):
    assert aot.main(["--config", "configs/quickstart.py", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_compiler_that_crashes_is_one_line(capfd):
    def crash():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(children[0].pid, signal.SIGSEGV)

    threading.Thread(target=crash).start()
    assert aot.main(["--config", "configs/quickstart.py", "--topology", "v6e:2x4"]) == 1
    error = capfd.readouterr().err
    assert "error: the compiler for v6e crashed (SIGSEGV)" in error and error.count("\n") == 1


def test_without_the_compiler_the_line_says_what_to_install(monkeypatch):
    def missing(*_, **__):
        raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr(chips.topologies, "get_topology_desc", missing)
    with pytest.raises(UserError, match=r"pip install -e '\.\[aot\]'"):
        chips.devices(chips.named("v5e:2x4"))


def test_without_the_compiler_for_gpus_the_line_says_what_to_install(monkeypatch):
    def missing(*_, **__):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(chips.topologies, "get_topology_desc", missing)
    with pytest.raises(UserError, match=rf"jax-cuda12-plugin=={jax.__version__} .*nvidia-cuda-nvcc-cu12"):
        chips.devices(chips.named("h100:8"))


def test_the_step_is_that_of_the_devices_it_is_compiled_for():
    devices = jax.devices()[:4]
    with parallel.compiling_for(devices):
        made = step.of_recipe("configs/quickstart.py", ["batch_size=24", "data.num_workers=0"])
        assert made.batch["image"].shape == (4, 6, 28, 28, 1) and made.batch["position"].shape == (4, 6)
        with pytest.raises(UserError, match="batch_size=6 does not divide over 4 devices"):
            step.of_recipe("configs/quickstart.py", ["batch_size=6", "data.num_workers=0"])
    # Forward, gradient of activations and of kernels, but for the images' own gradient.
    rows = summary.count(made.setup.task.model, made.setup.dataset.image_shape)
    forward = made.forward_multiply_adds()
    assert made.multiply_adds() / 6 == pytest.approx(3 * forward - rows[0].macs, rel=0.06)


def test_towers_are_laid_out_over_the_devices_that_are_elsewhere(devices):
    all_devices = jax.devices()
    devices(1)
    with parallel.compiling_for(all_devices[:4]):
        overrides = ["model.towers=2", "batch_size=8", "data.num_workers=0"]
        made = step.of_recipe("configs/alexnet.py:laptop", overrides)
    assert made.setup.layout.towers == 2
    assert made.batch["label"].shape == (4, 4)
    kernel = made.state.params["conv2"]["kernel"].shape
    assert kernel[0] == 4


def test_the_report_names_what_bounds_the_step(monkeypatch):
    monkeypatch.setattr(aot.metadata, "version", lambda _: "0.0")
    memory = estimate.Memory(2**30, 0, 3 * 2**30, 0)
    made = aot.Compiled(estimate.Cost(256, 10**12, 819 * 10**8, 10**6, "float32"), memory, 10**10, 1e12, 5e10, [], 12.0)
    text = aot.report("configs/x.py", made, chips.named("v5e:2x4"))
    assert "4.00 GiB of 16 GiB (25 %)" in text
    assert "bounded by memory bandwidth: a step takes at least 100.00 ms, at most 2,560 images/s" in text
    assert "3.12 times that" in text  # 10**12 for 32 images of 10**10 forward


def test_the_report_for_a_gpu_tells_what_is_not_known_of_it(monkeypatch):
    monkeypatch.setattr(aot.metadata, "version", lambda _: "0.0")
    memory = estimate.Memory(2**30, 0, 2**30, 0)
    made = aot.Compiled(estimate.Cost(8, 247 * 10**9, 1, 1, "float32"), memory, 10**9, 0.0, 0.0, [], 1.0)
    text = aot.report("configs/x.py", made, chips.named("h100:8"))
    assert "2.00 GiB of 59.25 GiB" in text and "without the room that cuDNN takes" in text
    assert "1.00 ms at 494 TFLOP/s" in text and "by XLA" not in text  # TF32; XLA counts nothing for GPUs


def test_a_step_that_does_not_fit_is_none(devices):
    devices(1)
    arguments = "configs/quickstart.py", ["batch_size=8", "data.num_workers=0"], jax.devices()[:1]
    assert aot.compile_step(*arguments, capacity=2**20) is None
    fitting = aot.compile_step(*arguments, capacity=2**40)
    assert fitting is not None and 2**20 < fitting.memory.total < 2**40


def test_the_recipes_own_step_is_told_before_others_are_compiled(monkeypatch):
    """Each may take minutes."""
    events = []

    def compile_step(config, overrides, devices, capacity):
        size = int(overrides[-1].removeprefix("batch_size="))
        events.append(size)
        memory = estimate.Memory(0, 0, size * 2**20, 0)
        return aot.Compiled(estimate.Cost(size, 1, 1, 1, "float32"), memory, 1, 1.0, 1.0, [], 1.0)

    monkeypatch.setattr(chips, "devices", lambda on: jax.devices())
    monkeypatch.setattr(aot, "compile_step", compile_step)
    own, largest, _ = aot.search(
        "configs/quickstart.py", ["batch_size=64"], chips.named("v5e:2x4"), 2, lambda made: events.append(made)
    )
    assert events == [64, own, largest.cost.batch_size] and largest.cost.batch_size > 64


@NEEDS_CUDA
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "topology", "overrides"),
    [
        ("configs/quickstart.py", "h100:8", ["--config.batch_size=64"]),
        ("configs/quickstart.py", "a100:2", ["--config.batch_size=64", "--config.train.dtype=bfloat16"]),
        ("configs/alexnet.py:laptop", "h100:2", ["--config.model.towers=2"]),
        ("configs/style_transfer.py:smoke", "a100:4", ["--config.batch_size=8"]),
    ],
)
def test_compiles_for_gpus(config, topology, overrides):
    found = compiled_elsewhere(config, topology, overrides)
    assert found["cost"]["multiply_adds"] > 0 and found["memory"]["temporaries"] > 0


@NEEDS_LIBTPU
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "topology", "overrides"),
    [
        ("configs/quickstart.py", "v5e:2x4", ["--config.batch_size=64"]),
        ("configs/quickstart.py", "v4:2x2x1", ["--config.batch_size=64", "--config.train.dtype=bfloat16"]),
        ("configs/alexnet.py:laptop", "v5p:2x2x1", ["--config.model.towers=2"]),
        ("configs/quickstart.py", "v6e:2x4", ["--config.batch_size=64"]),
        ("configs/style_transfer.py:smoke", "v5e:2x4", ["--config.batch_size=8"]),
    ],
)
def test_compiles_for_tpus(config, topology, overrides):
    found = compiled_elsewhere(config, topology, overrides)
    assert found["cost"]["dtype"] == ("bfloat16" if overrides[-1].endswith("bfloat16") else "float32")


def compiled_elsewhere(config, topology, overrides):
    """What the command finds of the recipe's own step."""
    command = [sys.executable, "-m", "dnn_research.tools.aot", "--config", config, "--topology", topology]
    done = subprocess.run(
        [*command, "--tries", "1", "--json", *overrides],
        cwd=ROOT, env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)["own"]
    assert found["cost"]["traffic"] > found["memory"]["arguments"] / 2
    assert any(c["kind"] == "all-reduce" for c in found["collectives"])
    assert found["estimate"]["images_per_second"] > 0
    return found
