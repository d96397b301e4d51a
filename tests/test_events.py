"""TensorBoard's files: whole in the order of the processes that wrote them, whatever the clock says."""

import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import summary

from dnn_research import events


def test_a_clock_that_is_set_back_changes_neither_order_nor_what_is_purged(tmp_path, monkeypatch):
    now = [1.7e9]
    monkeypatch.setattr("time.time", lambda: now[0])
    first = events.EventFile(tmp_path, purge_step=0)
    for step in (1, 2, 3):
        first.add(summary.scalar("loss", 10.0 + step), step)
    first.close()
    now[0] -= 1e6
    for value in (20.0, 30.0):  # two in the same second
        later = events.EventFile(tmp_path, purge_step=3)
        later.add(summary.scalar("loss", value), 3)
        later.close()
    assert len(list(tmp_path.iterdir())) == 3
    found = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in found] == [(1, 11.0), (2, 12.0), (3, 30.0)]


def test_a_full_disk_is_the_callers_error(tmp_path):
    file = events.EventFile(tmp_path)
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), file._writer._writer.fileno())
    with pytest.raises(OSError, match="No space left"):
        for step in range(1000):
            file.add(summary.scalar("loss", 1.0), step)
    with pytest.raises(OSError, match="No space left"):
        file.close()
