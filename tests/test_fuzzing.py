"""No file, however damaged, ends a reader otherwise than with a value or a line; see `fuzzing`."""

import random
from pathlib import Path

import pytest

from dnn_research.errors import UserError
from tests import fuzzing


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged tags: a warning each is what a user sees of them
@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_damaged_files_end_in_a_line(name: str):
    target = fuzzing.TARGETS[name]
    tally = fuzzing.run(name, cases=3 if target.slow else 20, seed=1)
    assert tally.refused > 0


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_many_damaged_files_end_in_a_line(name: str):
    tally = fuzzing.run(name, cases=200 if fuzzing.TARGETS[name].slow else 2000, seed=2)
    assert tally.refused > 0


def test_a_case_follows_from_its_number():
    seeds = [fuzzing.mutate(b"abcdefgh" * 20, random.Random(f"0, x, {n}"), text=False) for n in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), "KeyError"),
        (UserError(""), "not one line"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_ends_otherwise_is_found(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str):
    calls = iter(range(10))

    def read(_: bytes, __: Path) -> None:
        if next(calls):  # the seed itself is sound
            raise error

    monkeypatch.setitem(fuzzing.TARGETS, "x", fuzzing.Target(lambda _: [b"abc"], read))
    with pytest.raises(AssertionError, match=f"x, case 0 of seed 0, .*{message}"):
        fuzzing.run("x", cases=1, seed=0)


def test_a_file_outside_of_the_directory_is_found(monkeypatch: pytest.MonkeyPatch):
    def read(_: bytes, folder: Path) -> None:
        (folder / "../stray").touch()

    monkeypatch.setitem(fuzzing.TARGETS, "x", fuzzing.Target(lambda _: [b"abc"], read))
    with pytest.raises(AssertionError, match="stray"):
        fuzzing.run("x", cases=1, seed=0)
