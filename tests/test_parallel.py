"""Placing states and batches on devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import parallel
from dnn_research.errors import UserError


def test_a_batch_is_split_in_order_and_knows_its_positions():
    batch = parallel.shard({"label": np.arange(16, dtype=np.int32)})
    assert batch["label"].shape == (8, 2)
    np.testing.assert_array_equal(np.asarray(batch["label"]).ravel(), np.arange(16))
    np.testing.assert_array_equal(np.asarray(batch["position"]), np.asarray(batch["label"]))


def test_a_ragged_batch_is_filled_with_weight_zero():
    batch = parallel.shard({"image": np.ones((5, 2), np.uint8), "weight": np.ones(5, np.float32)})
    assert batch["image"].shape == (8, 1, 2)
    assert np.asarray(batch["weight"]).sum() == 5


def test_the_second_of_two_processes_holds_every_other_position(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    position = np.asarray(parallel.shard({"label": np.zeros(8)})["position"]).ravel()
    np.testing.assert_array_equal(position, np.arange(8) * 2 + 1)


def test_state_goes_in_and_comes_out_whole_and_is_donated():
    step = parallel.on_each_device(lambda s, b: s + parallel.total(b["x"].sum()), donate_state=True)
    state = parallel.replicate(jnp.zeros(3))
    after = step(state, parallel.shard({"x": np.arange(8, dtype=np.float32)}))
    np.testing.assert_array_equal(np.asarray(after), np.full(3, 28.0))
    assert after.sharding == state.sharding
    assert state.is_deleted()


@pytest.mark.parametrize(
    ("size", "message"), [(12, "take a multiple such as 8"), (0, "must be positive"), (3, "such as 8")]
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(size, message):
    with pytest.raises(UserError, match=message):
        parallel.check_divides(size, "batch_size")


def test_keys_differ_by_seed_and_step_and_from_the_initial_one():
    keys = [parallel.step_key(0, 0), parallel.step_key(0, 1), parallel.step_key(1, 0), parallel.initial_key(0)]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == 4


def test_hosts_that_do_not_know_each_other_is_one_line(monkeypatch):
    monkeypatch.setenv("DNN_DISTRIBUTED", "env")
    with pytest.raises(UserError, match="needs COORDINATOR_ADDRESS"):
        parallel.initialize_hosts()
    monkeypatch.setenv("DNN_DISTRIBUTED", "magic")
    with pytest.raises(UserError, match="'magic'; it can be slurm, tpu or env"):
        parallel.initialize_hosts()
