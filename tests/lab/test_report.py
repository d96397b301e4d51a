"""The report is whole: every run, self-contained, the same in every form; the ledger takes what was published."""

import itertools
import json
import math
import re

import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dnn_research.lab import hparams, ledger, measures, plots, report, verdict
from dnn_research.lab.measures import MEASURES


def run(row: str, seed: int, error: float | None, status: str = "finished") -> dict:
    values = {"test_error": error, "steps_to_25": None if error is None else 100 * error}
    curves = {"train": [[10, 1.0, 50.0], [20, 0.5, 30.0]], "eval": [[20, 0.6, error]]} if error is not None else {}
    return {
        "row": row, "seed": seed, "status": status, "message": "" if status == "finished" else "why", "attempts": 1,
        "values": values, "environment": None, "protocol": "original(32)", "curves": curves,
    }  # fmt: skip


@pytest.fixture
def result() -> dict:
    """Two rows, two seeds each, one of which diverged."""
    claim = {
        "id": "Z1", "says": "<b> is better | than a", "source": "nowhere", "published": "-1", "row": "b",
        "against": "a",
        "measure": "test_error", "direction": "lower", "effect": -1.0, "margin": 0.0, "verdict": verdict.SUPPORTED,
        "p_for": 0.03, "p_against": 1.0, "effect_found": -2.0, "low": -3.0, "high": -1.0, "pairs": 2,
        "detectable": 0.5, "seeds_for_published": None,
    }  # fmt: skip
    rows = {"a": [run("a", 0, 12.5), run("a", 1, 93.75, "diverged")], "b": [run("b", 0, 10.25), run("b", 1, 11.0)]}
    compared = {
        "row": "b", "against": "a", "pairs": [-2.25, -82.75], "open": [], "not_comparable": [], "effect": -42.5,
        "low": -553.9, "high": 468.9, "p": 0.5, "p_holm": 0.5,
    }  # fmt: skip
    ratio = {**compared, "pairs": [-0.2, -2.1], "effect": -1.15, "low": -13.0, "high": 10.9}
    environment = {"code": "c0de", "commit": "abc", "dirty": False, "python": "3.13", "versions": {"jax": "1"},
                   "devices": ["cpu:cpu"], "processes": 1, "mixed": False}  # fmt: skip
    return {
        "experiment": "tiny", "scale": "laptop", "spec": "experiments/tiny.py:laptop", "question": "Is b better?",
        "text": "Is b better?\n\nNobody knows.", "baseline": "configs/x.py", "baseline_row": "a", "seeds": [0, 1],
        "seeds_needed": 6,
        "measures": {
            "test_error": {"title": "test error [%]", "ratio": False, "unit": "points"},
            "steps_to_25": {"title": "steps", "ratio": True, "unit": "times"},
        },
        "tuning": {},
        "evaluated": [],
        "rows": {
            row: {
                "differences": {"model.depth": number}, "runs": runs, "failed": 0, "done": 2, "at_chance": 0,
                "diverged": sum(one["status"] == "diverged" for one in runs),
                "summary": {name: {"n": 2, "mean": 20.0, "std": 1.5} for name in ("test_error", "steps_to_25")},
            }
            for number, (row, runs) in enumerate(rows.items())
        },
        "comparisons": [{**compared, "measure": "test_error"}, {**ratio, "measure": "steps_to_25"}],
        "claims": [claim], "protocol": "original(32)", "environments": [environment], "config": {"seed": 0},
        "clock": {
            "networks": {row: {"params": 10, "macs": 1000, "latency_ms": 0.5} for row in rows},
            "run_seconds": {"a": [10.0], "b": [20.0]},
        },
    }  # fmt: skip


def test_the_html_stands_alone_and_leaves_nothing_out(result, tmp_path):
    report.write(result, tmp_path, "./launch.sh lab --experiment tiny")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 3
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", page.replace("xlink:href", "href"))
    assert "<script" not in page and "@import" not in page
    assert "&lt;b&gt; is better" in page and "<b> is" not in page
    assert 'class="verdict"' in page and "supported</span>" in page
    for said in (
        "Nobody knows.",
        "./launch.sh lab --experiment tiny",
        "diverged",
        "93.75",
        "c0de",
        "jax 1",
        verdict.RULE[:40],
    ):
        assert said in page
    assert page.count("<td>finished</td>") == 3 and page.count("<td>diverged</td>") == 1


def test_the_markdown_says_the_same(result, tmp_path):
    report.write(result, tmp_path, "command")
    text = (tmp_path / "report.md").read_text()
    assert "| Z1: <b> is better / than a | nowhere | -1 |" in text
    assert "-2.00 [-3.00, -1.00] points" in text and "| supported |" in text and "more than 20" in text
    assert "2 of 2, 1 diverged" in text and "× 0.317 [" in text
    for picture in re.findall(r"\((plots/\w+\.svg)\)", text):
        assert (tmp_path / picture).exists()
    assert json.loads((tmp_path / "results.json").read_text()) == result


def test_rows_that_learned_nothing_are_told_beside_the_verdict(result):
    assert "at chance:" not in report.as_markdown(result, [], "command")
    result["rows"]["a"]["at_chance"] = 1
    text = report.as_markdown(result, [], "command")
    assert "| b < a, test_error (at chance: a 1 of 2) |" in text and "| 2 of 2, 1 at chance, 1 diverged |" in text


@pytest.mark.parametrize(("accuracy", "found"), [(0.0, True), (0.12, True), (0.15, False)])
def test_a_network_that_guesses_is_at_chance(accuracy, found):
    last = {"step": 2, "loss": 2.0, "top1_accuracy": accuracy, "examples": 10}
    early = {**last, "top1_accuracy": 1 - accuracy}
    assert measures.at_chance(measures.Records([], [early, last], 2, 10, {})) == found
    assert not measures.at_chance(measures.Records([], [{"step": 2, "loss": 2.0, "psnr": 20.0}], 2, 10, {}))
    assert not measures.at_chance(measures.Records([], [], 2, 10, {}))


def test_a_rate_at_an_end_of_those_tried_is_told(result):
    tried = {"path": "schedule.learning_rate", "values": [0.003, 0.01, 0.03], "seeds": [100]}
    result["tuning"] = {"a": {**tried, "chosen": 0.01}, "b": {**tried, "chosen": 0.03}}
    _, ((_, of_a, *_), (_, of_b, *_)) = report.rows(result)
    assert of_a == "model.depth=0; schedule.learning_rate=0.01 chosen"
    assert of_b.endswith("0.03 chosen, at an end of what was tried: a better one may lie beyond")


def test_the_report_of_nothing_says_that_nothing_has_run(result, tmp_path):
    for held in result["rows"].values():
        held |= {"runs": [run("a", 0, None, "missing")], "done": 0, "diverged": 0}
        held["summary"] = {name: {"n": 0, "mean": None, "std": None} for name in held["summary"]}
    for one in result["comparisons"]:
        one |= dict.fromkeys(("effect", "low", "high", "p", "p_holm")) | {"pairs": []}
    result["claims"][0] |= dict.fromkeys(("effect_found", "low", "high", "p_for", "p_against", "detectable"))
    result["claims"][0]["verdict"] = verdict.NOT_RUN
    result |= {"environments": [], "protocol": None}
    report.write(result, tmp_path, "command")
    page = (tmp_path / "report.html").read_text()
    assert "not yet run</span>" in page and "<svg" not in page


def test_pictures_are_the_same_for_the_same_results(result, tmp_path):
    pages = []
    for name in ("one", "other"):
        report.write(result, tmp_path / name, "command")
        pages.append((tmp_path / name / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_tensorboard_has_a_line_for_each_run_and_the_rows_means(result, tmp_path):
    hparams.write(result, tmp_path)
    hparams.write(result, tmp_path)  # anew, not beside
    held = EventAccumulator(str(tmp_path / "tensorboard/a/seed_1")).Reload()
    assert [event.value for event in held.Scalars("lab/test_error")] == [93.75]
    assert "_hparams_/session_start_info" in held.summary_metadata
    means = EventAccumulator(str(tmp_path / "tensorboard/b")).Reload()
    assert [event.value for event in means.Scalars("test/error")] == [10.625]


def test_runs_that_classify_nothing_have_curves_of_losses_alone(result, tmp_path):
    for held in result["rows"].values():
        for one in held["runs"]:
            one["curves"] = {"train": measures.curve(lines("train")), "eval": measures.curve(lines("eval"))}
    report.write(result, tmp_path, "command")
    page = (tmp_path / "report.html").read_text()
    assert "test loss" in page and "training error [%]" not in page
    hparams.write(result, tmp_path)
    means = EventAccumulator(str(tmp_path / "tensorboard/b")).Reload()
    assert [event.value for event in means.Scalars("test/loss")] == [0.5]
    assert "test/error" not in means.Tags()["scalars"]


def test_measures_of_pictures_are_of_the_last_evaluation(tmp_path):
    records = measures.Records([], lines("eval", 3.0) + lines("eval"), 10, 1, {})
    found = {name: measures.value(MEASURES[name], records, diverged=False) for name in ("test_loss", "style_left")}
    assert found == {"test_loss": 0.5, "style_left": pytest.approx(0.1)}
    assert math.isnan(measures.value(MEASURES["style_left"], records, diverged=True))


def lines(split: str, loss: float = 0.5) -> list[dict]:
    """As a run of style transfer has them in metrics.jsonl."""
    own = {"photograph_style_loss": 2.0} if split == "eval" else {}
    return [{"step": 10, "split": split, "loss": loss, "style_loss": 0.2, **own}]


def test_the_ledger_takes_what_was_published(tiny_experiment, result, tmp_path):
    folder = tiny_experiment().path.parent
    text = ledger.text(folder)
    assert "\n| scale | claims | supported | contradicted | under-powered | not yet run | hours that all" in text
    assert "\n| paper | 1 | 0 | 0 | 0 | 1 | 0.0 |\n| laptop | 1 | 0 | 0 | 0 | 1 | 0.0 |\n" in text
    assert text.count("| not yet run |") == 3 and "T1: shortcuts help" in text
    claim = {**result["claims"][0], "id": "T1", "row": "residual", "against": "plain"}
    rows = dict(zip(("plain", "residual"), result["rows"].values(), strict=True))
    rows["plain"]["at_chance"] = 1
    report.write(result, tmp_path / "work", "command")
    clock = {**result["clock"], "run_seconds": {"plain": [1000.0, 2000.0], "residual": [2400.0]}}
    target = ledger.publish({**result, "claims": [claim], "rows": rows, "clock": clock}, tmp_path / "work", folder)
    text = ledger.text(folder)
    assert "-2.00 [-3.00, -1.00] points | laptop | 2 | supported (at chance: plain 1 of 2) |" in text
    assert text.count("| not yet run |") == 2 and "\n| laptop | 1 | 1 | 0 | 0 | 0 | 1.5 |\n" in text
    assert "[tiny](results/tiny-laptop/report.md)" in text and (folder / "results/tiny-laptop/report.md").exists()
    path = folder / "tiny.py"
    path.write_text(path.read_text().replace('"effect": -1.0', '"effect": -1.0, "margin": 0.5'))
    assert ledger.text(folder).count("| not yet run |") == 3  # what was published answers another question
    slim = json.loads((target / "results.json").read_text())
    assert all("curves" not in one for held in slim["rows"].values() for one in held["runs"])


@pytest.mark.parametrize(
    ("low", "high"),
    [(25.2, 27.1), (0.55, 1), (450e3, 475e3), (1.2e6, 13e6), (0.02, 1), (5.0, 5.0), (1e-3, 1), (1, 5e4)],
)
def test_labels_of_a_logarithmic_axis_do_not_meet(low, high):
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot([low, high], [0, 1], "o")
    plots.logarithmic(axis)
    figure.draw_without_rendering()
    left, right = axis.get_xlim()
    places = zip(
        (*axis.get_xticks(), *axis.get_xticks(minor=True)),
        (*axis.get_xticklabels(), *axis.get_xticklabels(minor=True)),
        strict=True,
    )
    shown = [label.get_window_extent() for place, label in places if left <= place <= right and label.get_text()]
    shown.sort(key=lambda box: box.x0)
    assert len(shown) >= 2
    assert all(before.x1 < after.x0 for before, after in itertools.pairwise(shown))
