"""The benchmark measures the step that training runs, and takes turns with a peer that holds the same network."""

import json
import os
import re
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from dnn_research import train
from dnn_research.errors import UserError
from dnn_research.models import tracing
from dnn_research.tools import benchmark
from dnn_research.tools.measuring import fresh, measurement, networks, peer, report, turns
from dnn_research.tools.measuring.measurement import Measurement
from dnn_research.tools.measuring.ours import Ours, shaken
from dnn_research.tools.measuring.torch_peer import weights

QUICK = [
    "--config", str(Path(__file__).parents[2] / "configs/quickstart.py"), "--config.model.depth=8",
    "--config.batch_size=8", "--config.data.image_size=8", "--config.model.width_factor=0.25",
]  # fmt: skip


def tiny_case(batch_size=8):
    return networks.of_recipe(QUICK[1], [word.removeprefix("--") for word in QUICK[2:]], batch_size, None)


def run(capsys, *arguments):
    assert benchmark.main([*arguments, "--json"]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


# ------------------------------------------------------------------------------------------------------ without a peer


def test_variants_are_measured_side_by_side(capsys):
    arguments = [*QUICK, "--compare", "model.remat_blocks=False,True", "--steps", "2", "--quick"]
    results = run(capsys, *arguments)[0]["results"]
    assert [found["contender"] for found in results] == ["model.remat_blocks=False", "model.remat_blocks=True"]
    for found in results:
        assert (found["mode"], found["batch_size"], found["dtype"]) == ("train", 8, "float32")
        assert len(found["seconds"]) >= 2
        assert min(found["seconds"]) <= found["quartiles"][0] <= found["step_seconds"] <= found["quartiles"][1]
        assert found["images_per_second"] == pytest.approx(8 / found["step_seconds"])
        assert found["compile_seconds"] > 0.01
        assert found["temporary_gib"] > 0
        assert found["starts"] is None


def test_a_table_of_both_modes_beside_stock_operations(capsys):
    arguments = ["--mode", "train,inference", "--stock", "--batch_sizes", "16", "--steps", "1", "--quick"]
    found, table = run(capsys, *QUICK, *arguments, "--dtype", "bfloat16")
    groups = [(result["mode"], result["contender"]) for result in found["results"]]
    assert groups == [(mode, contender) for mode in ("train", "inference") for contender in ("ours", "stock")]
    ours, stock = found["results"][:2]
    assert ours["versus"] == {"stock": pytest.approx(stock["step_seconds"] / ours["step_seconds"])}
    macs = tracing.forward_multiply_adds(Ours(tiny_case()).setup.task.model, (8, 8, 1), train=True)
    assert ours["gflops"] == pytest.approx(3 * 2 * macs * 16 / ours["step_seconds"] / 1e9)
    assert found["cores"] >= 1
    assert found["devices"] == 8
    assert f"{QUICK[1]}, batch 16, bfloat16, inference" in table
    assert re.search(r"^stock +\d", table, re.MULTILINE)


def test_networks_are_measured_at_every_batch_size():
    known, overrides = benchmark.parse(["--network", "nin,vgg16", "--batch_sizes", "1,32", "--stock"])
    groups = benchmark.contenders(known, overrides)
    assert [(group[0].case.name, group[0].case.batch_size) for group in groups] == [
        ("nin", 1), ("nin", 32), ("vgg16", 1), ("vgg16", 32),
    ]  # fmt: skip
    assert [(entry.name, entry.stock) for entry in groups[0]] == [("ours", False), ("stock", True)]
    own = benchmark.contenders(*benchmark.parse(["--network", "all"]))
    assert {group[0].case.name: group[0].case.batch_size for group in own} == {
        "resnet50": 16, "mobilenet": 32, "alexnet": 64, "vgg16": 8, "googlenet": 32, "nin": 32,
    }  # fmt: skip


@pytest.mark.slow
def test_fresh_processes_tell_their_start_and_their_memory(capsys):
    (found,) = run(capsys, *QUICK, "--steps", "1")[0]["results"]
    for start in found["starts"].values():
        assert 0.5 < start["seconds"] < 600
        assert 0.05 < start["peak_gib"] < 10


def test_a_fresh_process_that_fails_is_a_line():
    with pytest.raises(UserError, match=r"ended with status 1: .*no config file"):
        fresh.ours(networks.Case("gone", "gone.py", (), 8, "float32"), "train", stock=False, devices=None)


@pytest.mark.parametrize("name", [*networks.NETWORKS, *networks.MORE])
def test_benchmark_networks_are_recipes_with_plain_training(name):
    case = networks.benchmark(name, None, "float32")
    loaded = networks.recipe.load(case.config, case.overrides)
    config = loaded.config
    assert config.batch_size == case.batch_size == {**networks.NETWORKS, **networks.MORE}[name].batch_size
    assert config.data.image_size == (224 if case.trained else int(name.removeprefix("transform_net_")))
    if case.trained:
        assert (config.optimizer.name, config.optimizer.momentum, config.train.ema_decay) == ("sgd", 0.9, 0.0)
        assert config.schedule.name == "constant"
        assert train.set_up(loaded).total_steps == 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --network (a name, or all) or --config FILE"),
        ([*QUICK, "--network", "nin"], "give either --network"),
        ([*QUICK, "--compare", "model.scan"], "lacks its values"),
        ([*QUICK, "--compare", "model.scan=1,2"], "did you mean 'model.scan_blocks'?"),
        ([*QUICK, "--stepz", "3"], "unknown argument --stepz"),
        ([*QUICK, "--steps", "0"], "--steps is 0: give 1 or more"),
        ([*QUICK, "--steps", "few"], "invalid int value: 'few'"),
        ([*QUICK, "--devices", "0"], "--devices is 0"),
        ([*QUICK, "--devices", "3"], "--devices 3 cannot be had: there are 8 cpu devices"),
        ([*QUICK, "--batch_sizes", "8,0"], "--batch_sizes holds '0'"),
        ([*QUICK, "--batch_sizes", "8,"], "--batch_sizes holds ''"),
        ([*QUICK, "--batch_sizes", "12"], "batch_size=12 does not divide over 8 devices"),
        ([*QUICK, "--mode", "training"], "--mode holds 'training'; it can hold train, inference"),
        ([*QUICK, "--dtype", "float16"], "--dtype is 'float16'; it can be float32 or bfloat16"),
        ([*QUICK, "--peer", "torch"], "--peer goes with --network"),
        (["--network", "resnet5"], "unknown network 'resnet5'; did you mean 'resnet50'?"),
        (["--network", "nin", "--config.batch_size=3"], "--config.KEY=VALUE go with --config FILE"),
        (["--network", "nin", "--peer", "caffe"], "--peer is 'caffe'; it can be torch"),
        (
            ["--network", "transform_net_256", "--mode", "train"],
            "is measured in inference alone: give --mode inference",
        ),
        (["--network", "nin", "--compiled"], "--compiled needs --peer torch"),
        (["--network", "nin", "--peer_python", "python"], "--peer_python needs --peer torch"),
        (["--network", "nin", "--peer", "torch", "--peer_python", "/nowhere"], "/nowhere is not a program"),
    ],
)
def test_wrong_arguments_are_a_line(arguments, message, capsys):
    assert jax.device_count() == 8  # from now on: --devices makes as many as it says where JAX has none yet
    assert benchmark.main(arguments) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


# ----------------------------------------------------------------------------------------------------- turns and table


def test_contenders_take_turns_in_both_directions():
    log: list[str] = []

    def recorder(name, seconds):
        def step():
            log.append(name)
            time.sleep(seconds)

        return turns.OurContender(name, "ours", step)

    long = 1.2 * turns.TURN_SECONDS
    contenders = [recorder("short", turns.TURN_SECONDS / 4), recorder("long", long)]
    assert list(turns.warm_up(contenders)) == log == ["short", "long"]
    log.clear()
    seconds = turns.take(contenders, 3)
    order = [name for place, name in enumerate(log) if place == 0 or log[place - 1] != name]
    assert order == ["short", "long", "short", "long"]  # the second round goes the other way round
    counted = {name: log.count(name) - 3 for name in seconds}  # each of three turns begins with a step that is not
    assert {name: len(steps) for name, steps in seconds.items()} == counted
    assert counted["long"] == 3
    assert counted["short"] > 3
    assert min(seconds["long"]) >= long


def measured(contender, kind, step, **more):
    return Measurement(
        "resnet152", 256, "bfloat16", "inference", contender, kind, "", [step], step, (step, step), 256 / step,
        12345.6, 23456.7, **more,
    )  # fmt: skip


def test_the_table_fits_a_terminal_of_140_columns():
    starts = fresh.Starts(fresh.Start(1234.5, 12.34), fresh.Start(123.4, 12.34))
    versus = {"eager": 12.34, "compiled": 12.34, "stock": 12.34}
    found = [
        measured("ours", "ours", 123.4, compile_seconds=123.4, temporary_gib=12.34, starts=starts, versus=versus),
        measured("torch channels_last", "eager", 123.4, starts=starts),
    ]
    about = {"processor": "AMD EPYC 9999 192-Core Processor", "cores": 192, "devices": 8, "device": "cpu"}
    lines = [
        *report.group(found).splitlines(),
        *report.heading({**about, "jax": "0.12.0", "python": "3.13.0"}, 5).split("\n"),
    ]
    assert max(len(line) for line in lines) <= 140
    alone = report.group([measured("ours", "ours", 0.001)])
    assert "cold" not in alone and "eager" not in alone


def test_times_are_compared_with_the_best_of_each_kind():
    found = [
        measured("ours", "ours", 2.0),
        measured("stock", "stock", 8.0),
        measured("torch channels_last", "eager", 4.0),
        measured("torch contiguous", "eager", 3.0),
        measured("torch compiled", "compiled", 1.0),
    ]
    measurement.compare(found)
    assert found[0].versus == {"eager": 1.5, "compiled": 0.5, "stock": 4.0}
    assert found[1].versus == {"eager": 3 / 8, "compiled": 1 / 8}
    assert found[2].versus == {}


# ------------------------------------------------------------------------------------------------------------ the peer

# Speaks as torch_peer does, without torch: it counts the parameters that it is given, tells what stands in outcome.npz
# as its own outcome, and says that its steps took a millisecond or two.
FAKE = """
    import json, sys
    from pathlib import Path
    import numpy as np

    folder, outcome = Path(sys.argv[1]), np.load(Path(__file__).parent / "outcome.npz")
    request = json.loads((folder / "request.json").read_text())
    assert request["momentum"] == 0.9 and request["threads"] >= 1
    assert np.load(folder / "batch.npz")["images"].shape == (8, 8, 8, 1)
    params = [name for name in np.load(folder / "variables.npz").files if name.startswith("params/")]
    sizes = [np.load(folder / "variables.npz")[name].size for name in params]
    prepared = []
    print(json.dumps({"parameters": sum(sizes), "versions": {}, "threads": 1}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "check":
            np.save(folder / "outputs.npy", outcome["outputs"])
            answer = {"loss": float(outcome["loss"]), "gradient_norm": float(outcome["gradient_norm"])}
        elif request["do"] == "prepare":
            prepared.append(request["variant"])
            answer = {}
        elif request["variant"] == "contiguous":
            answer = {"error": "MemoryError: no room"} if "fail" in outcome else {"seconds": [0.002]}
        else:
            assert request["variant"] in prepared
            answer = {"seconds": [0.001, 0.001]}
        print(json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def outcome():
    """What our tiny network gives with its shaken variables."""
    ours = Ours(tiny_case())
    ours.variables = shaken(ours.variables)
    return peer.our_outcome(tiny_case(), ours)


@pytest.fixture
def fake(tmp_path, outcome):
    """Makes the fake peer's command; `changes` are to its outcome."""

    def make(**changes):
        (tmp_path / "fake.py").write_text(textwrap.dedent(FAKE))
        told = {"outputs": outcome.outputs, **outcome.training}
        np.savez(tmp_path / "outcome.npz", **{**told, **changes})
        return [sys.executable, str(tmp_path / "fake.py")]

    return make


def measure_with(command, *, compiled=False):
    measuring = measurement.Measuring(measurement.Options(2, command, compiled, fresh=False))
    return measuring, measuring.measure([networks.Entry("ours", tiny_case())], "inference")


def test_ours_and_the_peer_take_turns(fake):
    measuring, found = measure_with(fake(), compiled=True)
    assert [(m.contender, m.kind) for m in found] == [
        ("ours", "ours"),
        ("torch channels_last", "eager"),
        ("torch contiguous", "eager"),
        ("torch compiled", "compiled"),
    ]
    assert found[3].variant == "compiled_channels_last"  # the better format
    assert [m.step_seconds for m in found[1:]] == [0.001, 0.002, 0.001]
    assert found[1].images_per_second == pytest.approx(8000)
    assert found[0].versus["eager"] == pytest.approx(0.001 / found[0].step_seconds)
    (differences,) = measuring.differences.values()
    assert set(differences) == set(peer.EAGER)
    assert max(value for of_format in differences.values() for value in of_format.values()) == 0


@pytest.mark.parametrize("name", ["outputs", "loss", "gradient_norm"])
def test_a_peer_with_another_network_is_refused(fake, outcome, name):
    told = {"outputs": outcome.outputs, **outcome.training}
    wrong = {name: told[name] * (1 + 2 * peer.TOLERANCES[name])}
    with pytest.raises(UserError, match=rf"\(channels_last\): from the peer's {name} to ours .*not the same network"):
        measure_with(fake(**wrong))


def test_a_peer_that_is_not_a_number_is_refused(fake):
    with pytest.raises(UserError, match="from the peer's loss to ours it is nan"):
        measure_with(fake(loss=np.nan))


def test_a_peer_that_fails_is_a_line(fake, tmp_path):
    with pytest.raises(UserError, match=r"failed: MemoryError: no room"):
        measure_with(fake(fail=1))
    script = tmp_path / "broken.py"
    script.write_text("import sys\nsys.exit('the disk is full')")
    with pytest.raises(UserError, match="ended with status 1: the disk is full"):
        measure_with([sys.executable, str(script)])


def test_a_python_without_torch_is_told_what_to_install(tmp_path):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1")
    bare.chmod(0o755)
    with pytest.raises(UserError, match=rf"{bare} has no torch; install it there: {bare} -m pip install torch numpy"):
        peer.command(str(bare))


def test_our_rows_of_flattened_maps_become_torchs_columns():
    maps = np.random.default_rng(0).normal(size=(3, 2, 5))  # [H, W, C]
    kernel = np.random.default_rng(1).normal(size=(30, 4))
    variables = {"params/aux1/fc/kernel": kernel, "batch_stats/bn/var": np.ones(2)}
    state = weights.converted(variables, {"aux1/fc": 5})
    theirs = state["aux1.fc.weight"] @ maps.transpose(2, 0, 1).reshape(-1)
    np.testing.assert_allclose(theirs, maps.reshape(-1) @ kernel)
    assert set(state) == {"aux1.fc.weight", "bn.running_var"}


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.skipif("DNN_PEER_PYTHON" not in os.environ, reason="DNN_PEER_PYTHON names no Python with torch")
@pytest.mark.parametrize("name", [*networks.NETWORKS, *networks.MORE])
def test_torchs_networks_are_ours(name):
    case = networks.benchmark(name, 8, "float32")
    ours = Ours(case)
    ours.variables = shaken(ours.variables)
    with peer.started(peer.command(None), case, ours) as process:
        differences = peer.check(case, ours, process)  # raises where they are not
        for mode in ("train", "inference") if case.trained else ("inference",):
            process.ask("prepare", variant="channels_last", mode=mode)
            (seconds,) = process.ask("run", variant="channels_last", at_least=0.0)["seconds"]
            assert seconds > 0
        assert process.ask("peak")["bytes"] > 4 * process.about["parameters"]
    assert set(differences) == set(peer.EAGER)
