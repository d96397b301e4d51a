"""The command: plan, runs, report, publication, and errors in one line."""

import json
import shutil
import sys

import pytest

from dnn_research.errors import UserError
from dnn_research.lab import __main__ as lab
from dnn_research.lab import cluster, cost, experiment, plan
from dnn_research.lab.sweep import Run, Sweep


@pytest.fixture(autouse=True)
def quiet_times(monkeypatch):
    """No steps are timed: a plan's times are said to be a minute."""
    monkeypatch.setattr(cost, "timed", lambda recipe, *, training: cost.Time(10.0, 60.0))


def command(experiment, workdir, *more):
    return lab.main(["--experiment", f"{experiment.path}:laptop", "--workdir", str(workdir), *more])


def test_a_dry_run_shows_rows_and_time_and_runs_nothing(tiny_experiment, tmp_path, capsys):
    assert command(tiny_experiment(), tmp_path / "work", "--dry_run") == 0
    text = capsys.readouterr().out
    assert "2 rows x 6 seeds (1 comparisons need 6)" in text and "12 runs are left" in text
    assert "6 x 60 s = 6.2 min (from a few steps); model.residual=False" in text
    assert "estimated time: 12.3 min" in text
    assert not (tmp_path / "work/laptop").exists()


def test_a_row_that_cannot_run_stops_the_sweep_before_its_first_run(tiny_experiment, tmp_path, capsys, monkeypatch):
    def timed(recipe, *, training):
        if recipe.config.model.residual:
            raise UserError("train the other network first")
        return cost.Time(10.0, 60.0)

    monkeypatch.setattr(cost, "timed", timed)
    held = tiny_experiment()
    assert command(held, tmp_path / "work", "--dry_run") == 0
    assert "and 1 rows whose time is not known" in capsys.readouterr().out
    assert command(held, tmp_path / "work") == 1
    assert "row residual cannot run, so none was begun: train the other network first" in capsys.readouterr().err
    assert not (tmp_path / "work/laptop").exists()


def test_parts_of_a_sweep_then_its_report_published(tiny_experiment, tmp_path, capsys):
    held, work = tiny_experiment(), tmp_path / "work"
    assert command(held, work, "--rows", "plain", "--minutes", "0") == 0  # no run is begun
    assert "not yet run; residual − plain: —" in capsys.readouterr().out
    assert command(held, work, "--run", "residual/seed_0") == 0
    assert command(held, work, "--rows", "residual", "--minutes", "0", "--publish") == 0
    result = json.loads((work / "results.json").read_text())
    assert [run["status"] for run in result["rows"]["residual"]["runs"]] == ["finished"] + ["missing"] * 5
    assert (held.path.parent / "results/tiny-laptop/report.html").exists()
    assert "shortcuts help" in (held.path.parent / "LEDGER.md").read_text()
    for name in ("report.html", "report.md"):  # of the machine that it ran on, no path
        published = (held.path.parent / "results/tiny-laptop" / name).read_text()
        assert f"{held.command}" in published and str(tmp_path) not in published
    held.path.write_text(held.path.read_text().replace('"model.width_factor": 0.25', '"model.width_factor": 0.5'))
    shutil.rmtree(work / "laptop")
    assert command(held, work, "--rows", "residual", "--run", "residual/seed_0") == 0
    assert command(held, work, "--rows", "residual", "--minutes", "0") == 0
    networks = json.loads((work / "results.json").read_text())["clock"]["networks"]
    assert networks["residual"]["params"] > result["clock"]["networks"]["residual"]["params"]  # measured anew
    sweep = Sweep(held, work)
    assert "5 x " in plan.make(sweep, sweep.missing(held.rows), time_steps=False).text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which experiment?"),
        (("--experiment", "experiments/none.py"), "no config file experiments/none.py"),
        (("--experiment", "TINY", "--rows", "plane"), "unknown row of"),
        (("--experiment", "TINY", "--run", "plain/seed_9"), "unknown run of"),
        (("--experiment", "TINY", "--cluster", "slurm", "--parameter", "x"), "--parameter takes NAME=VALUE, not 'x'"),
        (
            ("--experiment", "TINY", "--cluster", "slurm"),
            "--cluster=slurm needs a time limit: give --parameter timeout",
        ),
        (("--experiment", "TINY", "--cluster", "local", "--jobs", "0"), "--jobs is 0: give 1 or more"),
        (("--experiment", "TINY", "--cluster", "local", "--minutes", "9"), "--minutes is for runs in this process"),
        (("--experiment", "TINY,smoke", "--publish"), "shrunk to a few steps: its results are not published"),
    ],
)
def test_what_is_wrong_is_one_line(tiny_experiment, tmp_path, capsys, arguments, message):
    path = f"{tiny_experiment().path}:laptop"
    words = [word.replace("TINY", path) for word in arguments]
    assert lab.main([*words, "--workdir", str(tmp_path / "work")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_a_local_job_has_the_environment_of_the_command(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("DNN_WORD", "here")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    written = tmp_path / "written"
    program = (
        f"import os; open({str(written)!r}, 'w').write(os.environ['DNN_WORD'] + os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    run = Run("plain", 0, tmp_path / "plain")
    words = {"cluster": "local", "jobs": 1, "parameters": {}, "folder": tmp_path / "jobs"}
    assert cluster.execute([run], [sys.executable, "-c", program], **words) == [(run, None)]
    assert written.read_text() == "here2"


def test_a_directory_of_another_experiment_is_refused(tiny_experiment, tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps({"experiment": "lrn", "spec": "experiments/lrn.py:laptop"}))
    assert command(tiny_experiment(), tmp_path, "--report") == 1
    assert "holds experiments/lrn.py:laptop; give another --workdir" in capsys.readouterr().err


def test_a_network_that_enlarges_is_counted_on_small_pictures():
    held = experiment.load("experiments/super_resolution.py:laptop,smoke").load("pixel", 0)
    counted = cost.network(held)
    # 9x9 of 3 to 32 channels and eight 3x3 of 32 on 16x16; stride-1/2 3x3 of 32 to 32x32 and 64x64; 9x9 of 32 to 3.
    small, width = 16 * 16, held.config.model.width_factor
    assert width == 0.5
    assert counted.macs == small * (81 * 3 * 32 + 8 * 9 * 32 * 32 + 9 * 32 * 32 * (1 + 4) + 16 * 81 * 32 * 3)


def test_a_network_is_counted_and_timed(tiny_experiment):
    held = tiny_experiment()
    network = cost.network(held.load("residual", 0))
    # conv1 3 -> 4 on 8x8, six 3x3 of 4 to 16 channels, the head: by hand.
    convolutions = 64 * 9 * (3 * 4 + 2 * 4 * 4) + 16 * 9 * (4 * 8 + 8 * 8) + 4 * 9 * (8 * 16 + 16 * 16)
    assert network.macs == convolutions + 16 * 4
    assert network.params == 9 * (12 + 32 + 96 + 384) + 2 * (3 * 4 + 2 * 8 + 2 * 16) + 16 * 4 + 4
    assert network.latency_ms > 0
