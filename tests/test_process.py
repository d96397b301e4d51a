"""A process before jax looks for its devices, tried in processes of their own."""

import os
import platform
import stat
import subprocess
import sys

import pytest

# Faults of pages when a thread takes 64 MiB for the second time.
FAULTS = """
import resource, threading
from dnn_research import process

print(process.keep_memory())

def take():
    bytes(bytearray(64 << 20))

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""
PAGES = 2 * (64 << 20) // os.sysconf("SC_PAGE_SIZE")

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def run(program, **environment):
    """The lines that a program prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True).stdout.split()


@GLIBC
def test_freed_memory_is_not_faulted_in_again():
    said, faults = run(FAULTS, JAX_PLATFORMS="cpu")
    assert said == "True"
    assert int(faults) < PAGES / 10


@GLIBC
@pytest.mark.parametrize(
    "environment",
    [{"JAX_PLATFORMS": "cuda,cpu"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, {"MALLOC_ARENA_MAX": "2"}],
)
def test_accelerators_and_the_users_own_settings_are_left_alone(environment):
    said, faults = run(FAULTS, **{"JAX_PLATFORMS": "cpu"} | environment)
    assert said == "False"
    assert int(faults) > PAGES / 2


@GLIBC
def test_an_installed_plugin_counts_as_an_accelerator(tmp_path):
    about = tmp_path / "chip-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: chip\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[jax_plugins]\nchip = chip\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    assert run(FAULTS, PYTHONPATH=path)[0] == "False"


CACHE = """
import os
from dnn_research import process

process.use_compilation_cache()
print(os.environ["JAX_COMPILATION_CACHE_DIR"])
"""


def test_compiled_steps_are_kept_where_only_the_user_can_write(tmp_path):
    home = tmp_path / "home"
    (told,) = run(CACHE, XDG_CACHE_HOME=str(home))
    assert told == str(home / "dnn_research" / "compiled")
    assert stat.S_IMODE(os.stat(told).st_mode) == 0o700


def test_a_cache_that_is_named_is_used(tmp_path):
    assert run(CACHE, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "named")) == [str(tmp_path / "named")]


def test_a_home_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    assert run(CACHE, XDG_CACHE_HOME=str(tmp_path / "file"))
