"""What a process is set to before jax is imported, tried in processes of their own."""

import io
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import absl.logging
import numpy as np
import pytest

from dnn_research import process
from dnn_research.errors import UserError

ROOT = Path(__file__).parent.parent


def run(program, *arguments, **environment):
    """The lines that a program prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "GLIBC_", "DNN_"))}
    return subprocess.run(
        [sys.executable, program, *arguments],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def test_a_second_command_in_one_process_says_everything_once(monkeypatch):
    """And only to the output that it has: the first one's may be closed."""
    logger = logging.getLogger("dnn_research")
    before = logger.handlers, logger.level, logger.propagate, absl.logging.get_verbosity()
    try:
        outputs = io.StringIO(), io.StringIO()
        for number, output in enumerate(outputs):
            monkeypatch.setattr(sys, "stdout", output)
            process.show_plain_lines()
            logging.getLogger("dnn_research.lab").info("run %d", number)
        assert [output.getvalue() for output in outputs] == ["run 0\n", "run 1\n"]
    finally:
        logger.handlers, logger.level, logger.propagate = before[:3]
        absl.logging.set_verbosity(before[3])


HUGE = """
import os, resource, sys, threading
from pathlib import Path
from dnn_research import process

if {told!r}:
    process.HUGE_PAGES = Path({told!r})
process.use_huge_pages()
print(sys.argv[1:], os.environ.get("GLIBC_TUNABLES"), process.environment_before().get("GLIBC_TUNABLES"))

def take():
    bytearray(b"x") * (64 << 20)

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=take)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = (64 << 20) // os.sysconf("SC_PAGE_SIZE")

ON_DEMAND = pytest.mark.skipif(
    not process._on_demand(), reason="this system gives large pages to all or to none, or its C library cannot ask"
)


@pytest.fixture
def program(tmp_path):
    """A program that asks for large pages, where Linux is set to what is given."""

    def make(told=""):
        setting = tmp_path / "enabled"
        setting.write_text(told)
        script = tmp_path / "program.py"
        script.write_text(HUGE.format(told=str(setting) if told else ""))
        return script

    return make


REDUCTIONS = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, REDUCTIONS),
        ({"XLA_FLAGS": "--xla_cpu_enable_fast_min_max=false"}, f"--xla_cpu_enable_fast_min_max=false {REDUCTIONS}"),
        ({"XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type="}, "--xla_cpu_experimental_ynn_fusion_type="),
    ],
)
def test_matrix_products_are_left_to_eigen_unless_the_user_chose(tmp_path, given, found):
    script = tmp_path / "program.py"
    script.write_text(
        "import os; from dnn_research import process; process.prepare(); "
        "print(os.environ['XLA_FLAGS']); print(process.environment_before().get('XLA_FLAGS')); "
        "import jax; print(jax.jit(lambda x: x @ x)(jax.numpy.ones((2, 2)))[0, 0])"
    )
    assert run(script, **{"XLA_FLAGS": "", **given}) == [found, given.get("XLA_FLAGS", ""), "2.0"]


@ON_DEMAND
def test_memory_comes_in_large_pages(program):
    said, faults = run(program(), "--config", "a b")
    assert said == "['--config', 'a b'] glibc.malloc.hugetlb=1 "
    assert int(faults) < PAGES / 10


@ON_DEMAND
def test_other_settings_stay(program):
    said, _ = run(program(), GLIBC_TUNABLES="glibc.malloc.check=0")
    assert said == "[] glibc.malloc.check=0:glibc.malloc.hugetlb=1 glibc.malloc.check=0"


@pytest.mark.parametrize("setting", ["glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=1"])
def test_what_the_user_chose_stands(program, setting):
    assert run(program(), GLIBC_TUNABLES=setting)[0] == f"[] {setting} {setting}"


@pytest.mark.parametrize("told", ["[always] madvise never", "always madvise [never]"])
def test_nothing_is_asked_for_where_it_would_change_nothing(program, told):
    assert run(program(told))[0] == "[] None None"


CACHE = """
import os
from dnn_research import process

process.use_compilation_cache()
print(os.environ["JAX_COMPILATION_CACHE_DIR"])
"""


@pytest.fixture
def cached(tmp_path):
    script = tmp_path / "cached.py"
    script.write_text(CACHE)
    return script


def test_compiled_steps_are_kept_where_only_the_user_can_write(cached, tmp_path):
    (told,) = run(cached, XDG_CACHE_HOME=str(tmp_path / "home"))
    assert told == str(tmp_path / "home" / "dnn_research" / "compiled")
    assert stat.S_IMODE(os.stat(told).st_mode) == 0o700


def test_a_cache_that_is_named_is_used(cached, tmp_path):
    assert run(cached, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "named")) == [str(tmp_path / "named")]


def test_a_home_that_cannot_be_written_stops_nothing(cached, tmp_path):
    (tmp_path / "file").touch()
    assert run(cached, XDG_CACHE_HOME=str(tmp_path / "file")) == [str(tmp_path / "file" / "dnn_research" / "compiled")]


def test_a_compilation_cache_that_others_can_write_to_is_not_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "open"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    process.use_compilation_cache()
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "true"
    (tmp_path / "open").chmod(0o777)
    process.use_compilation_cache()
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert "can be written by others" in capsys.readouterr().err


DETERMINISTIC = """
import os
from dnn_research import process

process.make_deterministic()
process.make_deterministic()
print(os.environ["XLA_FLAGS"])
import jax
print(jax.numpy.ones(3).sum())
"""


def test_deterministic_adds_flags_that_this_jax_knows_once(tmp_path):
    program = tmp_path / "deterministic.py"
    program.write_text(DETERMINISTIC)
    given = "--xla_gpu_autotune_level=0 --xla_force_host_platform_device_count=2"
    flags, total = run(program, XLA_FLAGS=given, JAX_PLATFORMS="cpu")
    assert flags == f"{given} --xla_gpu_deterministic_ops=true"
    assert total == "3.0"


def test_what_repeats_where(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    for platform in ("cpu", "tpu"):
        for asked in (False, True):
            found = process.repeats(platform, deterministic=asked)
            assert (found["deterministic"], found["bit_exact"]) == (asked, True)
    assert not process.repeats("gpu", deterministic=False)["bit_exact"]
    with pytest.raises(UserError, match=r"must be known before JAX starts.*--xla_gpu_deterministic_ops=true"):
        process.repeats("gpu", deterministic=True)
    monkeypatch.setenv("XLA_FLAGS", " ".join(process.DETERMINISTIC))
    assert process.repeats("gpu", deterministic=True)["bit_exact"]


@pytest.mark.skipif(process.platform.libc_ver()[0] != "glibc", reason="glibc's malloc is what is told")
def test_memory_that_lies_below_some_that_is_used_is_handed_back():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    small = [np.ones(4096) for _ in range(4000)]
    held = resident()
    del small[:-1]
    process.hand_back_memory()
    assert held - resident() > 3000 * small[-1].nbytes
