"""Many hosts, as real processes on 127.0.0.1: one run, one writer, one end; and none is left waiting for another."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dnn_research import checkpoint, hosts, watch
from dnn_research.errors import UserError
from tests import tiny

RUN = (
    "--config", "configs/quickstart.py:smoke", "--config.data.image_size=8", "--config.model.depth=8",
    "--config.model.width_factor=0.25", "--config.train.batch_norm_axis=batch", "--config.train.num_steps=16",
    "--config.checkpoint.every_steps=4", "--config.eval.every_steps=8", "--config.record.every_steps=2",
    "--config.record.images=0", "--config.record.histograms=False",
)  # fmt: skip
ENDLESS = ("--config.train.num_steps=100000", "--config.record.every_steps=1000", "--config.checkpoint.every_steps=5")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(count: int, workdir: Path, *arguments: str, of_one: Callable[[int], tuple[str, ...]] = lambda index: ()):
    """The processes of a run, two devices each."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "dnn_research.main", *RUN, *arguments, *of_one(index), "--workdir", str(workdir)],
            cwd=tiny.ROOT,
            env={
                **os.environ, "JAX_NUM_CPU_DEVICES": "2", "DNN_DISTRIBUTED": "env", "NUM_PROCESSES": str(count),
                "COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "PROCESS_ID": str(index), "DNN_START_TIMEOUT": "120",
            },
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(count)
    ]  # fmt: skip


def end(processes):
    """Exit status and what stood on stderr, of each."""
    ended = [(process.communicate(timeout=240)[1], process.returncode) for process in processes]
    return [status for _, status in ended], [err for err, _ in ended]


def wait_for(path: Path, processes) -> None:
    while not path.exists():
        assert all(process.poll() is None for process in processes), end(processes)
        time.sleep(0.02)


def lines(workdir: Path):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def state(workdir: Path, step: int = 16):
    return checkpoint.restore(workdir / "checkpoints" / str(step))[0]


def assert_same_run(one: Path, other: Path, rtol: float) -> None:
    """The same records, and parameters, statistics and momentum up to `rtol`."""
    for first, second in zip(lines(one), lines(other), strict=True):
        assert first.keys() == second.keys()
        assert (first["step"], first["split"], first["examples"]) == (
            second["step"], second["split"], second["examples"],
        )  # fmt: skip
        assert first["loss"] == pytest.approx(second["loss"], rel=rtol)
    a, b = state(one), state(other)
    for part in ("params", "model_state", "opt_state"):
        leaves = checkpoint._leaves(a[part]), checkpoint._leaves(b[part])
        for name, leaf in leaves[0].items():
            np.testing.assert_allclose(leaf, leaves[1][name], rtol=rtol, atol=rtol, err_msg=name)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """A run of two processes that nothing happened to."""
    workdir = tmp_path_factory.mktemp("hosts") / "two"
    processes = start(2, workdir)
    statuses, err = end(processes)
    assert statuses == [0, 0], err
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, pytest.param(4, marks=pytest.mark.full)])
def test_any_number_of_processes_is_one_run(tmp_path, straight, count):
    statuses, err = end(start(count, tmp_path))
    assert statuses == [0] * count, err
    assert_same_run(straight, tmp_path, rtol=2e-3)
    assert json.loads((tmp_path / "run.json").read_text())["processes"] == count


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.full)])
def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on(tmp_path, straight, killed):
    processes = start(2, tmp_path)
    wait_for(tmp_path / "checkpoints/4/manifest.json", processes)
    processes[killed].kill()
    begun = time.monotonic()
    statuses, err = end(processes)
    if statuses[1 - killed] == 0:
        pytest.skip("the run was over before the signal came")
    assert time.monotonic() - begun < 10
    assert statuses[1 - killed] == 1
    assert err[1 - killed].count("\n") == 1
    assert err[1 - killed].startswith(f"error: process {killed} of 2 ({socket.gethostname()}) is gone")
    statuses, err = end(start(2, tmp_path))
    assert statuses == [0, 0], err
    assert (tmp_path / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    assert_same_run(straight, tmp_path, rtol=0)


@pytest.mark.slow
def test_sigterm_to_one_saves_at_one_step_and_ends_all(tmp_path):
    processes = start(2, tmp_path, *ENDLESS)
    wait_for(tmp_path / "checkpoints/5/manifest.json", processes)
    processes[1].send_signal(signal.SIGTERM)
    statuses, err = end(processes)
    assert statuses == [75, 75], err
    assert err[0] == err[1] and err[0].startswith("interrupted by SIGTERM: saved at step")
    newest = max(checkpoint.steps(tmp_path / "checkpoints"))
    assert f"saved at step {newest:,} in" in err[0]


@pytest.mark.slow
def test_what_one_process_cannot_do_ends_all_with_its_reason(tmp_path):
    nowhere = lambda index: ("--config.data.source=tfds:digits", f"--config.data.dir=/dev/null/{index}")  # noqa: E731
    there = ("--config.data.source=tfds:digits",)
    processes = start(2, tmp_path, of_one=lambda index: nowhere(index) if index else there)
    statuses, err = end(processes)
    assert statuses == [1, 1]
    assert err[1].startswith("error: ") and "/dev/null/1" in err[1]
    assert err[0].startswith(f"error: process 1 of 2 ({socket.gethostname()}) ended: ") and "/dev/null/1" in err[0]
    assert err[0].count("\n") == err[1].count("\n") == 1


# ----------------------------------------------------------------------------------------------------- without a run


@pytest.fixture(autouse=True, scope="module")
def nobody_ends_the_tests():
    """A thread of a test that is over may yet find that somebody is gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch.Watch, "_end", lambda self, status: None)
        yield
        time.sleep(watch.GRACE_SECONDS)


@pytest.fixture
def ends(monkeypatch):
    """The statuses of processes that would have ended."""
    found: list[int] = []

    def remember(self, status):
        found.append(status)

    monkeypatch.setattr(watch.Watch, "_end", remember)
    return found


@pytest.fixture
def connections():
    """What is closed with the test."""
    made = []
    yield made
    for connection in made:
        connection.close()


@pytest.fixture
def dial(connections):
    """Makes a connection."""

    def make(address):
        connections.append(watch.Connection(socket.create_connection(address)))
        return connections[-1]

    return make


@pytest.fixture
def pair(connections):
    """Makes the two ends of a connection."""

    def make():
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = watch.Connection(socket.create_connection(server.getsockname()))
            far = watch.Connection(server.accept()[0])
        connections.extend((near, far))
        return near, far

    return make


@pytest.fixture
def process_0(ends, connections):
    """Makes what process 0 has of the connections; its threads end with the test."""
    made = []

    def make(count, silence):
        made.append(watch.Watch(0, count, silence))
        return made[-1]

    yield make
    for one in made:
        one.leave()
        connections.extend(one.peers.values())


@pytest.fixture
def hub(process_0, connections):
    """Makes a hub, and says where it listens."""

    def make(count, differs=lambda other: None, silence=30.0, host="127.0.0.1"):
        port = free_port()
        made = watch.Hub(process_0(count, silence), host, port, ("127.0.0.1", 1), differs)
        connections.append(made)
        return made, (host, port)

    return make


def member(index: int, count: int, **more):
    return {"kind": "member", "process": index, "count": count, "host": f"node{index}", **more}


def test_a_missing_process_is_said_after_the_stated_time(hub, dial):
    waiting, address = hub(4)
    dial(address).send(member(2, 4))
    with pytest.raises(
        UserError, match=r"process 0 waited 0.5 s for 3 others, and 1, 3 did not come.*DNN_START_TIMEOUT"
    ):
        waiting.wait_for_all(0.5)


def test_this_machine_may_be_named_by_ipv6(hub, connections):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    waiting, address = hub(2, host="::1")
    member_1 = threading.Thread(target=lambda: connections.append(watch.call(address, member(1, 2), 20.0, 0.1)[0]))
    member_1.start()
    waiting.wait_for_all(10)
    member_1.join()


def test_who_waits_for_the_others_is_not_taken_for_dead(hub, ends, connections):
    waiting, address = hub(3, silence=1.0)

    def come(index):
        connections.append(watch.call(address, member(index, 3), 20.0, 0.1)[0])

    members = [threading.Thread(target=come, args=(index,)) for index in (1, 2)]
    members[0].start()
    time.sleep(2.0)
    assert ends == []
    members[1].start()
    waiting.wait_for_all(10)
    for thread in members:
        thread.join()


def test_process_0_that_does_not_come_is_said_after_the_stated_time():
    with pytest.raises(UserError, match=r"process 3 waited 0.3 s for process 0 at 127.0.0.1:\d+.*refused"):
        watch.call(("127.0.0.1", free_port()), member(3, 4), 0.3, 0.1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"config": {"seed": 1}}, r"process 1 \(node1\) has another config.*seed: 0 -> 1"),
        ({"jax": "0.1"}, "has jax 0.1, process 0 0.12"),
        ({"count": 3}, "counts 3 processes, process 0 2"),
        ({"config": {"seed": 0, "data": {"num_workers": 7}}}, None),
        ({"process": 5}, "is not from 1 to 1"),
    ],
)
def test_a_process_of_another_run_is_refused(hub, dial, other, message):
    config = {"seed": 0, "data": {"num_workers": 2}}
    me = member(0, 2, jax="0.12", config=config)
    waiting, address = hub(2, lambda first: hosts._differs(me, first))
    dial(address).send({**member(1, 2, jax="0.12", config={**config, "data": {"num_workers": 2}}), **other})
    if message is None:
        waiting.wait_for_all(5)
    else:
        with pytest.raises(UserError, match=message):
            waiting.wait_for_all(5)


def test_strangers_are_sent_away(hub, dial):
    waiting, address = hub(2)
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"kind": "member"}\n', b"\xff\xfe\n"):
        with socket.create_connection(address) as stranger:
            stranger.sendall(text)
            assert stranger.recv(1) == b""
    dial(address).send(member(1, 2))
    waiting.wait_for_all(5)


def test_silence_is_death_and_word_of_it_reaches_the_others(process_0, pair, ends, capfd):
    watching = process_0(3, 0.5)
    (silent, _), (near, alive) = pair(), pair()
    watching.add(1, "node1", silent)
    watching.add(2, "node2", near)
    told = None
    while told is None:
        alive.send({"beat": 2})
        told = alive.receive(1.0, 5).get("failed")
    assert told == "nothing was heard of process 1 of 3 (node1) for 0.5 s"
    alive.close()
    while not ends:
        time.sleep(0.01)
    assert ends[0] == 1
    assert f"{told}; all processes stop, and the same command" in capfd.readouterr().err


def test_who_said_goodbye_may_go(process_0, pair, ends):
    watching = process_0(2, 5.0)
    near, far = pair()
    watching.add(1, "node1", near)
    far.send({"bye": 1})
    far.close()
    time.sleep(0.3)
    assert ends == []


@pytest.mark.parametrize(
    ("nodes", "host"), [("node[001-004,7]", "node001"), ("a1,a2", "a1"), ("gpu-7", "gpu-7"), ("n[12]", "n12")]
)
def test_slurm_names_process_0(monkeypatch, nodes, host):
    for name, value in {
        "SLURM_STEP_NODELIST": nodes, "SLURM_JOB_ID": "8193", "SLURM_NTASKS": "4", "SLURM_PROCID": "3",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert hosts.from_slurm() == hosts.Place(host, 61441, 4, 3)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"DNN_DISTRIBUTED": "env"}, "needs COORDINATOR_ADDRESS"),
        ({"DNN_DISTRIBUTED": "magic"}, "'magic'; it can be slurm, tpu or env"),
        ({"DNN_DISTRIBUTED": "slurm"}, "needs the variables of a Slurm step"),
        ({"DNN_DISTRIBUTED": "env", "DNN_HOST_TIMEOUT": "soon"}, "DNN_HOST_TIMEOUT is 'soon'"),
        (
            {"DNN_DISTRIBUTED": "env", "COORDINATOR_ADDRESS": "a", "NUM_PROCESSES": "2", "PROCESS_ID": "0"},
            "COORDINATOR_ADDRESS is 'a'; it must be HOST:PORT",
        ),
        (
            {"DNN_DISTRIBUTED": "env", "COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "2", "PROCESS_ID": "2"},
            "PROCESS_ID=2 is not from 0 to NUM_PROCESSES - 1 = 1",
        ),
    ],
)
def test_hosts_that_are_described_wrongly_is_one_line(monkeypatch, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        hosts.join({})
