"""Sweeps of tiny runs: paired, resumed to the same table, divergence an outcome, what breaks tried once more."""

import dataclasses
import json
import math
import os
import signal

import jax
import numpy as np
import pytest

from dnn_research import checkpoint, parallel, record, train
from dnn_research.errors import Interrupted, UserError
from dnn_research.lab import results, verdict
from dnn_research.lab.sweep import DIVERGED, FAILED, FINISHED, Sweep, read_outcome


def run_all(sweep: Sweep) -> dict:
    for _ in sweep.execute(sweep.missing(sweep.experiment.rows)):
        pass
    return results.collect(sweep)


def without_clock(result: dict) -> dict:
    return {key: value for key, value in result.items() if key != "clock"}


@pytest.fixture(scope="module")
def straight(request, tmp_path_factory):
    """The results and the directory of a sweep left alone; made by the first test that asks."""
    return {}


def left_alone(straight, tiny_experiment, tmp_path_factory) -> tuple[dict, Sweep]:
    if not straight:
        sweep = Sweep(tiny_experiment(), tmp_path_factory.mktemp("straight"))
        straight["held"] = run_all(sweep), sweep.directory
    result, directory = straight["held"]
    return result, Sweep(tiny_experiment(), directory)


def test_a_sweep_killed_in_the_middle_ends_with_the_same_table(
    tmp_path, monkeypatch, straight, tiny_experiment, tmp_path_factory
):
    expected, _ = left_alone(straight, tiny_experiment, tmp_path_factory)
    sweep = Sweep(tiny_experiment(), tmp_path / "killed")
    written, write = [], record.Recorder.metrics

    def dies(self, line):
        written.append(line)
        if len(written) == 22:  # in the fourth run, after its first checkpoint
            raise KeyboardInterrupt
        write(self, line)

    monkeypatch.setattr(record.Recorder, "metrics", dies)
    with pytest.raises(KeyboardInterrupt):
        run_all(sweep)
    done = [run.name for run in sweep.runs() if read_outcome(run)]
    assert done == ["plain/seed_0", "plain/seed_1", "plain/seed_2"]
    begun = (sweep.folder / "plain/seed_0/outcome.json").stat().st_mtime_ns
    again = run_all(sweep)
    assert without_clock(again) == without_clock(expected)
    assert json.loads((sweep.folder / "plain/seed_3/run.json").read_text())["resumed"]
    assert (sweep.folder / "plain/seed_0/outcome.json").stat().st_mtime_ns == begun
    assert sweep.missing(sweep.experiment.rows) == []


def test_seeds_differ_and_a_seed_repeats_itself(tmp_path, straight, tiny_experiment, tmp_path_factory):
    _, sweep = left_alone(straight, tiny_experiment, tmp_path_factory)
    records = [(sweep.run("plain", seed).workdir / "metrics.jsonl").read_bytes() for seed in (0, 1)]
    assert records[0] != records[1]
    train.train(sweep.experiment.load("plain", 1), tmp_path / "again")
    assert (tmp_path / "again/metrics.jsonl").read_bytes() == records[1]


def test_all_seeds_of_a_row_share_one_compiled_step(tmp_path, monkeypatch, tiny_experiment):
    made, traced = train.make_train_step, []

    def counted(setup):
        step = made(setup)

        def count(state, batch):
            traced.append(setup.seed)
            return step(state, batch)

        return count

    monkeypatch.setattr(train, "make_train_step", counted)
    sweep = Sweep(tiny_experiment(), tmp_path)
    chosen = [sweep.run("plain", 0), sweep.run("plain", 1), sweep.run("residual", 0)]
    assert [outcome.status for _, outcome in sweep.execute(chosen)] == [FINISHED] * 3
    assert traced == [0, 0]  # once for each row, by its first seed


def test_rows_share_initial_values_and_the_order_of_the_data(straight, tiny_experiment, tmp_path_factory):
    _, sweep = left_alone(straight, tiny_experiment, tmp_path_factory)
    setups = [train.set_up(sweep.experiment.load(row, 3)) for row in sweep.experiment.rows]
    one, other = (setup.task.init(parallel.initial_key(setup.seed)) for setup in setups)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    batches = []
    for setup in setups:
        with setup.dataset.train_batches(batch_size=16, seed=setup.seed) as stream:
            batches.append(next(stream))
    jax.tree.map(np.testing.assert_array_equal, *batches)


def test_a_divergence_is_an_outcome_and_counts_at_chance(tmp_path, tiny_experiment):
    rows = ', "wild": {"schedule.learning_rate": 1e38}'
    sweep = Sweep(tiny_experiment(rows, ", 6"), tmp_path)
    runs = [sweep.run(row, seed) for row in ("plain", "wild") for seed in (0, 1)]
    ended = [outcome for _, outcome in sweep.execute(runs)]
    assert [outcome.status for outcome in ended] == [FINISHED, FINISHED, DIVERGED, DIVERGED]
    assert [outcome.attempts for outcome in ended] == [1] * 4 and "not finite at step 1" in ended[2].message
    result = results.collect(sweep)
    held = result["rows"]["wild"]
    assert held["diverged"] == 2 and held["summary"]["test_error"]["mean"] == 75.0
    assert held["runs"][0]["message"] == ended[2].message
    compared = [one for one in result["comparisons"] if one["row"] == "wild" and one["measure"] == "test_error"]
    assert len(compared[0]["pairs"]) == 2
    assert [run.name for run in sweep.missing(["wild"])] == [f"wild/seed_{seed}" for seed in range(2, 7)]


def test_what_breaks_is_tried_once_more_and_then_reported(tmp_path, monkeypatch, tiny_experiment):
    sweep, left = Sweep(tiny_experiment(), tmp_path), [1]
    training = train.train

    def breaks(*arguments):
        if left[0]:
            left[0] -= 1
            raise RuntimeError("the device is gone")
        return training(*arguments)

    monkeypatch.setattr(train, "train", breaks)
    ((_, outcome),) = sweep.execute([sweep.run("plain", 0)])
    assert (outcome.status, outcome.attempts) == (FINISHED, 2)
    left[0] = 2
    ((_, outcome),) = sweep.execute([sweep.run("plain", 1)])
    assert (outcome.status, outcome.attempts) == (FAILED, 2) and "the device is gone" in outcome.message
    result = results.collect(sweep)
    assert result["rows"]["plain"]["failed"] == 1 and result["claims"][0]["verdict"] == verdict.NOT_RUN
    assert sweep.run("plain", 1) in sweep.missing(["plain"]) and sweep.run("plain", 0) not in sweep.missing(["plain"])
    left[0] = 0
    ((_, outcome),) = sweep.execute([sweep.run("plain", 1)])
    assert outcome.status == FINISHED


def test_a_mistake_of_the_user_ends_the_sweep(tmp_path, tiny_experiment):
    sweep = Sweep(tiny_experiment(more='LAPTOP["data.source"] = "tfds:nowhere"'), tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        list(sweep.execute([sweep.run("plain", 0)]))


def test_runs_of_another_config_are_refused(tiny_experiment, straight, tmp_path_factory):
    _, sweep = left_alone(straight, tiny_experiment, tmp_path_factory)
    changed = Sweep(tiny_experiment(more='LAPTOP["optimizer.momentum"] = 0.5'), sweep.directory)
    with pytest.raises(UserError, match=r"another config .* optimizer.momentum: 0.9 -> 0.5"):
        results.collect(changed)


def test_runs_of_other_code_are_not_paired(tiny_experiment, straight, tmp_path_factory, monkeypatch):
    result, sweep = left_alone(straight, tiny_experiment, tmp_path_factory)
    assert result["claims"][0]["verdict"] in (verdict.SUPPORTED, verdict.CONTRADICTED, verdict.UNDER_POWERED)
    environment = results._environment

    def changed(workdir):
        found = environment(workdir)
        return {**found, "code": "other"} if workdir == sweep.run("residual", 4).workdir else found

    monkeypatch.setattr(results, "_environment", changed)
    again = results.collect(sweep)
    assert again["claims"][0]["verdict"] == verdict.NOT_COMPARABLE
    assert [one["not_comparable"] for one in again["comparisons"]] == [[4], [4]]
    assert len(again["comparisons"][0]["pairs"]) == 5


def test_a_tuned_row_takes_the_best_value_on_seeds_of_its_own(tmp_path, tiny_experiment):
    more = 'TUNING = {"path": "schedule.learning_rate", "values": (1e38, 0.05), "seeds": (100,)}'
    sweep = Sweep(tiny_experiment(more=more), tmp_path)
    with pytest.raises(UserError, match="did not finish"):
        sweep.tuned("plain")
    missing = sweep.missing(["plain"])
    assert [run.name for run in missing[:3]] == [
        "plain/tuning/1e+38/seed_100", "plain/tuning/0.05/seed_100", "plain/seed_0",
    ]  # fmt: skip
    assert [outcome.status for _, outcome in sweep.execute(missing[:3])] == [DIVERGED, FINISHED, FINISHED]
    assert sweep.tuned("plain") == 0.05
    held = json.loads((sweep.run("plain", 0).workdir / "run.json").read_text())["config"]
    assert (held["schedule"]["learning_rate"], held["seed"]) == (0.05, 0)
    with pytest.raises(UserError, match="TUNING must not see the seeds"):
        tiny_experiment(more=more.replace("100", "1"))


def test_an_experiment_with_too_few_seeds_is_refused(tiny_experiment):
    with pytest.raises(UserError, match="6 seeds can find nothing among 2 comparisons; SEEDS must hold 7 to 20"):
        tiny_experiment(', "deeper": {"model.depth": 14}')


def test_a_finished_run_is_an_ordinary_work_directory(straight, tiny_experiment, tmp_path_factory):
    _, sweep = left_alone(straight, tiny_experiment, tmp_path_factory)
    model, variables = checkpoint.load_network(sweep.run("residual", 0).workdir)
    assert model.residual and "params" in variables


CROPPED = {
    "more_rows": ', "cropped": {"model.residual": False, "eval.protocol": "single_crop", "eval.resize": 10}',
    "more": 'MEASURES = ("test_error",)',
}


def test_a_row_that_evaluates_otherwise_takes_the_baselines_networks(tmp_path, tiny_experiment, monkeypatch):
    sweep = Sweep(tiny_experiment(**CROPPED, more_seeds=", 6"), tmp_path / "work")
    assert sweep.evaluated == {"cropped"}
    with pytest.raises(UserError, match=r"row cropped evaluates the networks of plain, and .*plain/seed_0 has none"):
        sweep.execute_one(sweep.run("cropped", 0), train.CompiledSteps())
    trained, train_one = [], train.train
    monkeypatch.setattr(train, "train", lambda *given: trained.append(given[1]) or train_one(*given))
    for run in (sweep.run("plain", 0), sweep.run("cropped", 0)):
        assert sweep.execute_one(run, train.CompiledSteps()).status == FINISHED
    plain, cropped = sweep.run("plain", 0).workdir, sweep.run("cropped", 0).workdir
    assert trained == [plain] and json.loads((cropped / "run.json").read_text())["trained_in"] == str(plain)
    last = record.read_metrics(cropped)[-1]
    assert last["protocol"].startswith("single_crop") and last["step"] == 8
    again = train.evaluate_run(sweep.recipe_of(sweep.run("cropped", 0)), plain, "latest", print)
    assert last["loss"] == again["eval/loss"]
    result = results.collect(sweep)
    assert result["rows"]["cropped"]["done"] == 1 and result["evaluated"] == ["cropped"]
    assert result["rows"]["cropped"]["runs"][0]["values"]["test_error"] == 100 * (1 - last["top1_accuracy"])
    assert not result["rows"]["cropped"]["runs"][0]["environment"]["mixed"]
    (compared,) = [c for c in result["comparisons"] if c["row"] == "cropped"]
    assert len(compared["pairs"]) == 1


def test_a_row_of_a_network_that_failed_failed_too(tmp_path, tiny_experiment, monkeypatch):
    sweep = Sweep(tiny_experiment(**CROPPED, more_seeds=", 6"), tmp_path / "work")
    train_one = train.train

    def breaks(chosen, workdir, *more):
        if workdir.name == "seed_0":
            raise RuntimeError("the device is gone")
        return train_one(chosen, workdir, *more)

    monkeypatch.setattr(train, "train", breaks)
    runs = [sweep.run(row, seed) for row in ("plain", "cropped") for seed in (0, 1)]
    outcomes = [outcome for _, outcome in sweep.execute(runs)]
    assert [one.status for one in outcomes] == [FAILED, FINISHED, FAILED, FINISHED]
    assert outcomes[2].message == "it evaluates the network of plain/seed_0, which failed"
    assert runs[2] in sweep.missing(["cropped"])


def test_an_evaluation_that_is_not_finite_diverged(tmp_path, tiny_experiment, monkeypatch):
    sweep = Sweep(tiny_experiment(**CROPPED, more_seeds=", 6"), tmp_path / "work")
    sweep.execute_one(sweep.run("plain", 0), train.CompiledSteps())
    monkeypatch.setattr(train, "evaluate_run", lambda *_: {"eval/examples": 48, "eval/loss": math.nan})
    outcome = sweep.execute_one(sweep.run("cropped", 0), train.CompiledSteps())
    assert outcome.status == DIVERGED and "eval/loss" in outcome.message and "is nan" in outcome.message
    (run, *_) = results.collect(sweep)["rows"]["cropped"]["runs"]
    assert run["status"] == DIVERGED and run["values"] == {"test_error": 75.0}


def test_a_signal_after_the_last_step_ends_the_sweep_before_the_next_run(tmp_path, tiny_experiment, monkeypatch):
    sweep, summary = Sweep(tiny_experiment(), tmp_path), record.Recorder.summary

    def told(self, *given):
        os.kill(os.getpid(), signal.SIGTERM)
        summary(self, *given)

    monkeypatch.setattr(record.Recorder, "summary", told)
    ended = sweep.execute(sweep.missing(["plain"]))
    assert next(ended)[1].status == FINISHED
    with pytest.raises(Interrupted, match="plain/seed_1 was not begun"):
        next(ended)


def test_a_run_that_was_cut_off_tells_no_time(tmp_path, monkeypatch, tiny_experiment):
    sweep = Sweep(tiny_experiment(), tmp_path)
    cut, whole = sweep.run("plain", 0), sweep.run("plain", 1)

    def dies(self, *given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(record.Recorder, "summary", dies)
        with pytest.raises(KeyboardInterrupt):
            sweep.execute_one(cut, train.CompiledSteps())
    sweep.execute_one(whole, train.CompiledSteps())
    assert (cut.workdir / "timing.jsonl").exists() and sweep.time(cut) is None
    assert sweep.time(whole).run_seconds > 0


def test_runs_by_a_loss_network_that_changed_are_not_comparable():
    section = {"loss_network": {"weights": "runs/x", "step": "latest", "seed": 0, "model": {"name": "vgg"}},
               "style_size": 32}  # fmt: skip
    same = {"code": "c", "python": "3", "versions": {}, "devices": [], "processes": 1, "mixed": False}

    def environment(digest, **changed):
        facts = {"loss_network": {"sha256": digest}, "style_images": {"builtin:tissue": "t"}}
        return {**same, "inputs": results._inputs({**section, **changed}, facts)}

    other = {**section["loss_network"], "weights": "random"}
    assert results.comparable(environment("1"), environment("1"))
    assert not results.comparable(environment("1"), environment("2"))
    assert results.comparable(environment("1"), environment("2", loss_network=other))
    assert results._inputs({"name": "classification"}, {}) == {}


def test_a_claim_without_a_value_says_so_and_leaves_the_others_theirs(tiny_experiment, straight, tmp_path_factory):
    result, sweep = left_alone(straight, tiny_experiment, tmp_path_factory)
    runs = {(one["row"], one["seed"]): one for held in result["rows"].values() for one in held["runs"]}
    (claim,) = sweep.experiment.claims
    of_training = dataclasses.replace(claim, id="T2", measure="training_error")
    two = dataclasses.replace(sweep.experiment, claims=(claim, of_training))
    runs["plain", 2] = {**runs["plain", 2], "status": DIVERGED, "values": {"test_error": None, "training_error": 9.0}}
    first, second = results._claims(two, runs)
    assert first["verdict"] == verdict.WITHOUT_VALUE and first["pairs"] == 5
    assert second["verdict"] in (verdict.SUPPORTED, verdict.CONTRADICTED, verdict.UNDER_POWERED)


def test_a_row_of_a_network_that_diverged_diverged_too(tmp_path, tiny_experiment):
    wild = CROPPED["more"] + '\nLAPTOP = {**LAPTOP, "schedule.learning_rate": 1e38}'
    sweep = Sweep(tiny_experiment(CROPPED["more_rows"], ", 6", wild), tmp_path / "work")
    for row in ("plain", "cropped"):
        assert sweep.execute_one(sweep.run(row, 0), train.CompiledSteps()).status == DIVERGED
    run = results.collect(sweep)["rows"]["cropped"]["runs"][0]
    assert run["status"] == DIVERGED and run["values"] == {"test_error": 75.0}


def test_a_row_trains_where_more_than_the_last_evaluation_is_asked(tiny_experiment, tmp_path):
    """The best of all evaluations, or what was measured in training, is not that of the baseline's run."""
    held = tiny_experiment(more_rows=CROPPED["more_rows"], more_seeds=", 6")
    assert Sweep(held, tmp_path).evaluated == frozenset()
    eagerly = tiny_experiment(', "often": {"model.residual": False, "eval.every_steps": 2}', ", 6", CROPPED["more"])
    assert Sweep(eagerly, tmp_path).evaluated == frozenset()
