"""The ledger of a soak, what counts as held, and a small soak of real processes."""

import json
import re

import pytest

from dnn_research.errors import UserError
from dnn_research.tools import soak
from dnn_research.tools.enduring import faults
from dnn_research.tools.enduring.ledger import Ledger
from dnn_research.tools.enduring.runs import End

ABOUT = {"config": "configs/lenet.py:laptop", "overrides": [], "seed": 0}


def fault(number, name="SIGTERM", **more):
    return {
        "fault": name, "number": number, "lap": 0, "hit": True, "status": 75, "what": "", "repeated": 3, "wrong": "",
        **more,
    }  # fmt: skip


def test_the_ledger_goes_on_where_it_was_cut_off(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, ABOUT)
    ledger.add(fault(0))
    ledger.add(fault(1, hit=False, status=0))
    ledger.add({"lap": 0, "differs": ""})
    with open(path, "a") as file:
        file.write('{"fault": "SIGKILL at')
    ledger = Ledger(path, ABOUT)
    assert (ledger.tried, ledger.count, ledger.laps, ledger.held) == (2, 1, 1, True)
    ledger.add(fault(2))
    assert [json.loads(line).get("number") for line in path.read_text().splitlines()] == [None, 0, 1, None, 2]
    with pytest.raises(UserError, match="is of another soak"):
        Ledger(path, {**ABOUT, "seed": 1})


def test_the_table_counts_and_says_what_did_not_hold(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", ABOUT)
    for number in range(3):
        ledger.add(fault(number, repeated=number))
    ledger.add(fault(3, "disk full", status=1, wrong="2 lines on stderr"))
    ledger.add({"lap": 0, "differs": ""})
    assert not ledger.held
    table = re.sub(" {2,}", " | ", ledger.table())
    assert "SIGTERM | 3 | saved, 75: 3 | 2 steps | 3 of 3" in table
    assert "disk full | 1 | one line, 1: 1 | 3 steps | 0 of 1" in table
    assert "4 faults in 1 runs; bit for bit as undisturbed: 1 of 1" in table
    assert 'NOT HELD: {"fault": "disk full"' in table
    ledger.add({"lap": 1, "differs": "parameters: params/fc/bias: 1 of 2 values"})
    assert "bit for bit as undisturbed: 1 of 2" in ledger.table()


@pytest.mark.parametrize(
    ("end", "wrong"),
    [
        (End(1, "", "error: cannot write: No space left on device\n"), ""),
        (End(0, "done\n", ""), ""),
        (End(1, "", "error: something else\n"), "1 lines on stderr"),
        (End(1, "", "noise\nerror: No space left on device\n"), "2 lines on stderr"),
        (End(0, "", "Exception ignored\n"), "it was done but said"),
        (End(-9, "", ""), "status -9, not 1"),
        (End(1, "Traceback (most recent call last):\n", "error: No space left on device\n"), "it printed a traceback"),
    ],
)
def test_what_is_wrong_with_an_end(end, wrong):
    found = faults._wrong(end, (1,), "No space left")
    assert found.startswith(wrong) and bool(found) == bool(wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "how long?"),
        (["--faults", "0"], "--faults is 0: give more than 0"),
        (["--faults", "1", "--config", "configs/lenett.py"], "did you mean configs/lenet.py?"),
    ],
)
def test_what_cannot_be_done_is_a_line(arguments, message, capsys):
    assert soak.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.full
def test_real_processes_are_disturbed_and_end_as_undisturbed(tmp_path, capsys):
    arguments = ["--faults", "6", "--seed", "1", "--workdir", str(tmp_path)]
    assert soak.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "6 faults in " in printed and "NOT HELD" not in printed
    assert soak.main(arguments) == 0  # all is done already
