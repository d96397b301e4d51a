"""Placing states and batches on devices."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import optim, parallel
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


def test_memory_is_handed_back_between_compiling_and_the_first_run(monkeypatch):
    seen = []
    monkeypatch.setattr(parallel.process, "hand_back_memory", lambda: seen.append("handed back"))

    class Step:
        def lower(self, *_):
            return types.SimpleNamespace(compile=lambda: seen.append("compiled"))

        def __call__(self, *_):
            seen.append("ran")

    step = parallel.Compiled(Step())
    step({}, {})
    step({}, {})
    assert seen == ["compiled", "handed back", "ran", "ran"]


@pytest.mark.parametrize(
    ("size", "message"), [(12, "take a multiple such as 8"), (0, "must be positive"), (3, "such as 8")]
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(size, message):
    with pytest.raises(UserError, match=message):
        parallel.check_divides(size, "batch_size")


TOWERS = parallel.Layout(2, {"hidden/kernel": 1, "out/kernel": 0})


def in_towers(params, inputs):
    """A network of two layers: each tower has half of the hidden units and adds what they give to the output."""
    groups = TOWERS.groups()
    hidden = jnp.tanh(inputs @ params["hidden"]["kernel"])
    mixed = jax.lax.all_gather(hidden, parallel.AXIS, axis=1, tiled=True, axis_index_groups=groups)
    half = hidden.shape[1]
    start = jax.lax.axis_index(parallel.AXIS) % 2 * half
    mine = jax.lax.dynamic_slice_in_dim(jnp.square(mixed) + mixed[:, ::-1], start, half, 1)
    outputs = jax.lax.psum(mine @ params["out"]["kernel"], parallel.AXIS, axis_index_groups=groups)
    return outputs * params["scale"].reshape(1, -1)


def undivided(params, inputs):
    hidden = jnp.tanh(inputs @ params["hidden"]["kernel"])
    return ((jnp.square(hidden) + hidden[:, ::-1]) @ params["out"]["kernel"]) * params["scale"].reshape(1, -1)


def tower_problem():
    random = np.random.default_rng(0)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)  # noqa: E731
    params = {"hidden": {"kernel": draw(3, 6)}, "out": {"kernel": draw(6, 5)}, "scale": draw(5)}
    return params, {"x": draw(16, 3)}


def test_what_is_placed_in_towers_comes_back_whole():
    params, _ = tower_problem()
    state = {"momentum": (params,), "step": np.int32(3)}
    placed = parallel.replicate(state, TOWERS)
    assert placed["momentum"][0]["hidden"]["kernel"].shape == (8, 3, 3)
    assert jax.tree.map(lambda leaf: leaf.shape, placed) == jax.tree.map(
        lambda leaf: leaf.shape, parallel.placed_shapes(state, TOWERS)
    )
    back = parallel.whole(placed, TOWERS)
    jax.tree.map(np.testing.assert_array_equal, back, state)


def test_what_is_placed_in_stacks_comes_back_under_its_own_names():
    block = lambda number: {"conv": {"kernel": np.full((2, 3), number, np.float32)}, "count": np.int32(number)}  # noqa: E731
    params = {"first": block(9), "stage": {f"block{number}": block(number) for number in (1, 2, 3)}}
    state = {"params": params, "momentum": (params,), "step": np.int32(3)}
    layout = parallel.Layout(stacks={"stage/blocks": ("block2", "block3")})
    placed = parallel.replicate(state, layout)
    assert set(placed["momentum"][0]["stage"]) == {"block1", "blocks"}
    np.testing.assert_array_equal(placed["params"]["stage"]["blocks"]["conv"]["kernel"][:, 0, 0], [2, 3])
    shapes = parallel.placed_shapes(state, layout)
    jax.tree.map(lambda leaf, shape: leaf.shape == shape.shape or pytest.fail(f"{leaf.shape}"), placed, shapes)
    back = parallel.whole(placed, layout)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, back, state)
    assert set(params["stage"]) == {"block1", "block2", "block3"}


def test_towers_of_a_group_see_the_same_examples():
    batch = parallel.shard({"label": np.arange(8)}, TOWERS)
    np.testing.assert_array_equal(np.asarray(batch["label"])[:, 0], [0, 0, 2, 2, 4, 4, 6, 6])
    np.testing.assert_array_equal(np.asarray(batch["position"]), np.asarray(batch["label"]))


def test_gradients_sums_and_norms_in_towers_are_those_of_the_undivided_network():
    params, batch = tower_problem()

    def step(params, batch):
        loss = lambda p: jnp.square(in_towers(p, batch["x"])).mean()  # noqa: E731
        grads = parallel.mean_gradient(jax.grad(loss)(params), TOWERS)
        report = parallel.total({"examples": jnp.float32(len(batch["x"]))}, TOWERS)
        return grads, report | {"norm": parallel.norm(grads, optim.global_norm, TOWERS)}

    mapped = parallel.on_each_device(step, donate_state=True, layout=TOWERS, state=params)
    grads, report = mapped(parallel.replicate(params, TOWERS), parallel.shard(batch, TOWERS))
    expected = jax.grad(lambda p: jnp.square(undivided(p, batch["x"])).mean())(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), parallel.whole(grads, TOWERS), expected)
    assert float(report["examples"]) == 16
    assert float(report["norm"]) == pytest.approx(float(optim.global_norm(expected)), rel=1e-5)


def test_towers_need_whole_groups_of_devices(monkeypatch):
    parallel.check_layout(TOWERS)
    monkeypatch.setattr(jax, "local_device_count", lambda: 3)
    with pytest.raises(UserError, match="needs a multiple of 2 devices, not 3"):
        parallel.check_layout(TOWERS)


def test_keys_differ_by_seed_and_step_and_from_the_initial_one():
    keys = [parallel.step_key(0, 0), parallel.step_key(0, 1), parallel.step_key(1, 0), parallel.initial_key(0)]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == 4
