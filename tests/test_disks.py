"""Full, read-only and vanishing disks, real ones: small mounts that only the process under test sees."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
APART = ["unshare", "--mount", "sh", "-c"]


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run([*APART, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False).returncode


pytestmark = pytest.mark.skipif(not can_mount(), reason="mounts are not allowed here")


def on_a_disk(scenario: str, folder: Path) -> dict:
    """What a scenario of `on_a_disk.py` found; it must leave nothing on stderr and come to its end by itself."""
    script = f'mount -t tmpfs -o size=2m tmpfs {folder} && cd {folder} && exec "$@"'
    done = subprocess.run(
        [*APART, script, "sh", sys.executable, str(ROOT / "tests/on_a_disk.py"), scenario],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("waiting") == []
    return found


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoints_that_are_there(tmp_path):
    found = on_a_disk("full_while_saving", tmp_path)
    assert "No space left: it takes 0.4 MB" in found["before"]
    assert "cannot write checkpoint" in found["during"] and "\n" not in found["during"]
    assert found["left"] == [1]
    assert found["after"] == [1, 4]


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_while_it_is_saved_to(tmp_path):
    found = on_a_disk("read_only_while_saving", tmp_path)
    for when in ("during", "before"):
        assert "cannot write checkpoint" in found[when] and "Read-only file system" in found[when]
    assert found["after"] == [1, 4]


@pytest.mark.slow
def test_records_end_the_run_on_a_full_disk_and_go_on_from_the_checkpoint(tmp_path):
    found = on_a_disk("full_while_recording", tmp_path)
    for name in ("metrics", "tensorboard"):
        assert "cannot write the records" in found[name] and "No space left on device" in found[name]
        assert found[f"{name} after"] == [1, 2]


@pytest.mark.slow
def test_a_disk_that_is_taken_away_is_not_written_to_under_its_name(tmp_path):
    found = on_a_disk("unmounted_while_saving", tmp_path)
    assert "vanished under the run" in found["gone"]
    assert "vanished under the run" in found["other"]
    assert found["made"] == []
