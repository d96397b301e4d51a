"""Every experiment: its rows differ in their declared paths alone, and build, at both scales; the ledger is current."""

import json
from pathlib import Path

import numpy as np
import pytest

from dnn_research import recipe, train
from dnn_research.errors import UserError
from dnn_research.lab import cost, experiment, ledger, statistics
from dnn_research.lab.sweep import FINISHED, Sweep

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))

# Those that only make sense on ImageNet.
PAPER_ALONE = {"networks"}
SPECS = [
    f"{path}{words}" for path in EXPERIMENTS for words in ("", ":laptop") if not (words and path.stem in PAPER_ALONE)
]

# The list of what the papers claim.
CLAIMED = {
    *("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "V1", "V2", "V3", "V4", "V5", "V6", "N1", "N2", "N3"),
    *("G1", "G2", "G3", "R1", "R2", "R3", "R4", "R5", "R6", "M1", "M2", "M3", "M4", "M5", "S1"),
}


def name_of(spec: str) -> str:
    return Path(spec).name


def flat(loaded: recipe.Recipe) -> dict:
    return recipe.flatten(recipe.plain(loaded.config))


def same(value, other) -> bool:
    return json.loads(json.dumps(value)) == json.loads(json.dumps(other))


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_row_differs_in_its_declared_paths_alone(spec):
    """Taking a row's paths back to the baseline row's values gives the baseline row."""
    held = experiment.load(spec)
    base = flat(held.load(held.baseline_row, 0))
    for name, row in held.rows.items():
        found = flat(held.load(name, 0))
        declared = set(row) | set(held.rows[held.baseline_row])
        units = {path[: -len(end)] + other for path in declared
                 for end, other in (("_steps", "_epochs"), ("_epochs", "_steps")) if path.endswith(end)}  # fmt: skip
        assert {key for key in found if not same(found[key], base[key])} <= declared | units, name
        assert all(same(found[path], value) for path, value in row.items()), name


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_every_row_builds(spec):
    """Shapes alone, and one image; without their data, the paper's networks are built for synthetic images."""
    held = experiment.load(spec)
    for row in held.rows:
        loaded = held.load(row, 0)
        without_files = {"data.source": "synthetic"} if held.scale == "paper" else {}
        if "loss_network" in loaded.config.task:
            without_files["task.loss_network.weights"] = "random"
        with loaded.config.unlocked():
            recipe.apply(loaded.config, without_files, origin="test")
        setup = train.set_up(loaded)
        params, _ = setup.task.shapes()
        assert params
        data_set, protocol = setup.dataset, setup.evaluator.protocol
        shape = data_set.image_shape
        # ImageNet's pictures are no squares, and of another size than the network's.
        photograph = np.zeros((375, 500, shape[2]), np.uint8)
        image = photograph if held.scale == "paper" and shape[0] > 64 else data_set.train_examples[0][0]
        shown = data_set.augment(image, np.random.default_rng(0), image_size=shape[0], fill=data_set.fill)
        assert shown["image"].shape == shape, row
        assert protocol.views(image, fill=data_set.fill), row


def test_every_claim_of_the_list_has_an_experiment():
    claims = [claim for path in EXPERIMENTS for claim in experiment.load(str(path)).claims]
    assert {claim.id.partition("-")[0] for claim in claims} >= CLAIMED
    names = [claim.id for claim in claims]
    assert len(set(names)) == len(names)
    assert all(claim.says and claim.source and claim.published for claim in claims)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_has_the_seeds_that_its_comparisons_need(path):
    held = experiment.load(str(path))
    assert held.question.endswith(("?", ".")) and held.comparisons
    tests = max(len(held.comparisons), len(held.claims))
    assert 2 / 2 ** len(held.seeds) <= statistics.ALPHA / tests


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in EXPERIMENTS if p.stem not in PAPER_ALONE], ids=lambda path: path.stem)
def test_a_row_of_each_experiment_runs(path, tmp_path):
    held = experiment.load(f"{path}:laptop,smoke")
    row = next(name for name in held.rows if held.rows[name].get("model.depth", 0) not in (110, 152))
    sweep = Sweep(held, tmp_path)
    runs = sweep.tuning_runs(row)[:1] or [sweep.run(row, held.seeds[0])]
    assert [outcome.status for _, outcome in sweep.execute(runs)] == [FINISHED]
    assert all(sweep.value(runs[0], measure) >= 0 for measure in held.measures)


def test_a_plan_times_evaluations_of_a_task_with_constants():
    held = experiment.load(f"{ROOT / 'experiments/optimization.py'}:laptop,smoke")
    with_few = held.load("iterations-10", 0)
    with with_few.config.unlocked():
        recipe.apply(with_few.config, {"task.evaluate_iterations": 1}, origin="test")
    assert cost.timed(with_few, training=False).run_seconds > 0


def test_the_ledger_is_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert (ROOT / "experiments/LEDGER.md").read_text() == ledger.text(ROOT / "experiments"), (
        "python -m dnn_research.lab --ledger writes it anew"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("SEEDS = (0, 1, 2, 3, 4, 5", "SEEDS = (0, 1, 2, 3, 4"), "5 seeds can find nothing among 1 comparisons"),
        (('"row": "residual"', '"row": "residul"'), "unknown row of claim T1 .* 'residul'; did you mean 'residual'"),
        (('"direction": "lower"', '"direction": "less"'), "direction is one of lower, higher, equal, not 'less'"),
        (('"direction": "lower"', '"direction": "equal"'), "'equal' needs a positive margin"),
        (('"measure": "test_error"', '"measure": "best_test_error"'), "best_test_error only describes"),
        (('"training_error", "test_error"', '"test_eror",'), "unknown measure of .* did you mean 'test_error'"),
        (("3, 4, 5", "3, 4, 5, 5"), "SEEDS holds a seed twice"),
        (('"measure": "test_error"', '"measure": "steps_to_25"'), "steps_to_25 is compared by factors"),
        (("BASELINE_ROW", "BASELINE_ROWS"), "lacks BASELINE_ROW"),
        (('"effect": -1.0', '"efect": -1.0'), "a claim does not know 'efect'; did you mean 'effect'"),
    ],
)
def test_what_is_wrong_with_a_declaration_is_said(tiny_experiment, change, message):
    path = tiny_experiment().path
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match=message):
        experiment.load(f"{path}:laptop")


def test_words_and_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="takes the words laptop and smoke, not 'B'"):
        experiment.load(f"{ROOT}/experiments/vgg_5x5.py:B")
    with pytest.raises(UserError, match="is a recipe, not an experiment"):
        experiment.load(f"{ROOT}/configs/vgg16.py")
    with pytest.raises(UserError, match="has no LAPTOP"):
        experiment.load(f"{ROOT}/experiments/networks.py:laptop")
