"""Out of memory is one line, with what would fit."""

import os
import subprocess
import sys

import jax
import pytest

from dnn_research import memory, models
from tests import tiny


@pytest.fixture
def tiny_run(monkeypatch, devices):
    devices(2)
    monkeypatch.setattr(models, "create", lambda *_, num_classes, **__: tiny.TinyNet(num_classes))
    return tiny.recipe("batch_size=256", "data.synthetic_examples=256")


def exhausted(wanted="12.5GiB"):
    return jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: Out of memory while trying to allocate {wanted}.")


def test_only_what_says_so_is_out_of_memory():
    assert memory.is_exhausted(exhausted()) and memory.is_exhausted(MemoryError())
    assert not memory.is_exhausted(jax.errors.JaxRuntimeError("INTERNAL: something else"))
    assert not memory.is_exhausted(ValueError("RESOURCE_EXHAUSTED"))


def test_a_step_takes_what_its_line_says(tiny_run, tmp_path):
    """The line through two small batches meets the asked one."""
    takes = memory.need(tiny_run, tmp_path)
    there = memory.step_bytes(tiny_run, tmp_path, 256)
    assert takes.of(128) == pytest.approx(there, rel=0.1)
    assert takes.most(takes.of(77)) == 77


@pytest.mark.parametrize(
    ("fits", "line"),
    [
        (50, "what fits: --config.batch_size=100 or --config.train.accumulate_steps=4; or try --config.model.remat"),
        (0.5, "not even one image fits; try --config.model.remat_blocks=True or a smaller data.image_size"),
        (200, "something else holds the rest; try a smaller eval.batch_size"),
    ],
)
def test_what_would_fit_is_named(tiny_run, tmp_path, monkeypatch, fits, line):
    takes = memory.Need(1000.0, 3.0)
    monkeypatch.setattr(memory, "need", lambda *_: takes)
    monkeypatch.setattr(memory, "room", lambda: int(takes.of(fits)))
    said = str(memory.explained(exhausted(), tiny_run, tmp_path))
    assert said.startswith("out of memory, 12.5 GiB more were wanted: a step of batch_size=256 takes about ")
    assert line in said and "\n" not in said


def test_what_cannot_be_computed_does_not_hide_the_error(tiny_run, tmp_path, monkeypatch):
    def broken(*_):
        raise exhausted("1 bytes")

    monkeypatch.setattr(memory, "need", broken)
    said = str(memory.explained(exhausted("1073741824 bytes"), tiny_run, tmp_path))
    assert said.startswith("out of memory, 1.00 GiB more were wanted: try a smaller batch_size")


@pytest.mark.slow
def test_a_process_with_a_limit_ends_with_one_line(tmp_path):
    """The limit is a real one, of the address space; large pages would make of a refusal a failure of malloc."""
    command = (
        f"ulimit -v 6000000; exec {sys.executable} -m dnn_research.main --config configs/quickstart.py:smoke "
        f"--config.batch_size=16384 --config.model.depth=8 --config.model.scan_blocks=False "
        f"--config.data.num_workers=0 --workdir {tmp_path}"
    )
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tiny.ROOT,
        env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0", "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: out of memory, 8.24 GiB more were wanted: a step of batch_size=16384 takes")
    assert "what fits: --config.batch_size=" in done.stderr
