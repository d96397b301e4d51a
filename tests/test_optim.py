"""Schedules at their knots; optimizers against hand-written updates."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import optim
from dnn_research.errors import UserError

LENGTH = optim.Length(Fraction(125, 2), 1000)  # 62.5 steps an epoch


def rates(at, **schedule):
    rate, _ = optim.create_schedule(LENGTH, **schedule)
    return [float(jax.jit(rate)(jnp.asarray(step, jnp.int32))) for step in at]


def test_steps_fall_at_their_boundaries_in_epochs_or_steps():
    at = (0, 124, 125, 249, 250)
    expected = pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert rates(at, name="steps", learning_rate=0.1, factor=0.1, boundary_epochs=(2, 4)) == expected
    assert rates(at, name="steps", learning_rate=0.1, factor=0.1, boundary_steps=(125, 250)) == expected


def test_resnet_110_warms_up_at_a_constant_rate_and_keeps_its_boundaries():
    schedule = dict(name="steps", learning_rate=0.1, factor=0.1, boundary_steps=(500,))
    warmup = dict(warmup_steps=400, warmup_shape="constant", warmup_learning_rate=0.01)
    assert rates((0, 399, 400, 499, 500), **schedule, **warmup) == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01])


def test_googlenet_falls_by_four_percent_every_eight_epochs():
    at = (0, 499, 500, 999, 1000)
    found = rates(at, name="exponential", learning_rate=1.0, factor=0.96, every_epochs=8)
    assert found == pytest.approx([1, 1, 0.96, 0.96, 0.96**2])
    smooth = rates((250,), name="exponential", learning_rate=1.0, factor=0.96, every_epochs=8, staircase=False)
    assert smooth == pytest.approx([0.96**0.5])


def test_cosine_and_polynomial_span_what_the_warmup_leaves():
    cosine = rates((0, 50, 100, 550, 1000), name="cosine", learning_rate=2.0, warmup_steps=100)
    assert cosine == pytest.approx([0, 1, 2, 1, 0], abs=1e-6)
    assert rates((0, 750, 1000), name="polynomial", learning_rate=1.0, power=0.5) == pytest.approx([1, 0.5, 0])


def test_plateau_waits_then_lowers_and_stops_at_its_floor():
    _, plateau = optim.create_schedule(
        LENGTH, name="plateau", learning_rate=0.1, metric="eval/top1_accuracy", factor=0.1, patience=1, min_scale=0.01
    )
    state, scales = plateau.start(), []
    for accuracy in (0.5, 0.5, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6):
        state = plateau.after(state, {"eval/top1_accuracy": accuracy})
        scales.append(round(float(state["scale"]), 4))
    assert scales == [1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    lower = optim.Plateau("eval/loss", 0.5, 0, min_scale=0.1)
    state = lower.after(lower.after(lower.start(), {"eval/loss": 1.0}), {"eval/loss": 2.0})
    assert float(state["scale"]) == 0.5


@pytest.mark.parametrize(("metric", "value"), [("eval/top1_accuracy", 0.9), ("eval/loss", 0.3)])
def test_plateau_takes_no_rounding_for_an_improvement(metric, value):
    """The best value is kept in float32, which rounds 0.9 down and 0.3 up."""
    plateau = optim.Plateau(metric, 0.1, 1)
    state = plateau.start()
    for _ in range(3):
        state = plateau.after(state, {metric: value})
    assert float(state["scale"]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (dict(name="step", learning_rate=1.0), "unknown schedule 'step'; did you mean 'steps'?"),
        (dict(name="steps", learning_rate=1.0, factor=0.1), "exactly one of boundary_epochs and boundary_steps"),
        (dict(name="cosine", learning_rate=1.0, power=2), "schedule 'cosine' does not know 'power'"),
        (dict(name="polynomial", learning_rate=1.0), "schedule 'polynomial' lacks 'power'"),
        (dict(name="plateau", learning_rate=1.0), "lacks 'metric'"),
        (dict(name="constant", learning_rate=0.0), "must be positive"),
        (dict(name="constant", learning_rate=1.0, warmup_steps=1000), "not shorter than the run"),
    ],
)
def test_a_wrong_schedule_is_one_clear_line(schedule, message):
    with pytest.raises(UserError, match=message):
        optim.create_schedule(LENGTH, **schedule)


PARAMS = {"conv": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([3.0])}}
GRADS = {"conv": {"kernel": jnp.array([0.5, 0.25]), "bias": jnp.array([-1.0])}}


def after(steps, **optimizer):
    tx = optim.create_optimizer(**optimizer)
    params, state = PARAMS, tx.init(PARAMS)
    for rate in steps:
        update, state = tx.update(GRADS, state, params, learning_rate=rate)
        params = update.added_to(params)
    return params["conv"]


def test_sgd_is_the_textbook_with_coupled_decay_on_kernels_alone():
    w, v, b, vb = np.array([1.0, -2.0]), np.zeros(2), 3.0, 0.0
    for rate in (0.1, 0.1, 0.01):
        v = 0.9 * v + (np.array([0.5, 0.25]) + 0.1 * w)
        vb = 0.9 * vb - 1.0
        w, b = w - rate * v, b - rate * vb
    found = after((0.1, 0.1, 0.01), name="sgd", momentum=0.9, weight_decay=0.1, weight_decay_mask="kernels")
    np.testing.assert_allclose(found["kernel"], w, rtol=1e-6)
    np.testing.assert_allclose(found["bias"], [b], rtol=1e-6)
    every = after((0.1,), name="sgd", weight_decay=0.1, weight_decay_mask="all")
    np.testing.assert_allclose(every["bias"], [3.0 - 0.1 * (-1.0 + 0.3)], rtol=1e-6)


def test_depthwise_kernels_can_be_left_out_of_the_decay():
    # conv0 sees one gray channel: a full convolution, whatever the shape of its kernel.
    kernels = {"conv0": (3, 3, 1, 8), "dw1": (3, 3, 1, 8), "dw12": (3, 3, 1, 8), "pw1": (1, 1, 8, 8), "fc": (1, 8)}
    params = {name: {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[-1])} for name, shape in kernels.items()}
    mask = optim.WEIGHT_DECAY_MASKS["not_depthwise"](params)
    assert {name for name, layer in mask.items() if layer["kernel"]} == {"conv0", "pw1", "fc"}
    assert not any(layer["bias"] for layer in mask.values())


def test_nesterov_looks_ahead():
    found = after((0.1,), name="sgd", momentum=0.9, nesterov=True, weight_decay=0.0, weight_decay_mask="all")
    np.testing.assert_allclose(found["bias"], [3.0 + 0.1 * 1.9], rtol=1e-6)


def test_rmsprop_is_tensorflows():
    ms, mom, b = 1.0, 0.0, 3.0
    for rate in (0.1, 0.01):
        ms = 0.9 * ms + 0.1 * 1.0
        mom = 0.9 * mom + rate * -1.0 / np.sqrt(ms + 1.0)
        b -= mom
    options = dict(rms_decay=0.9, epsilon=1.0, momentum=0.9, weight_decay=0.0, weight_decay_mask="all")
    np.testing.assert_allclose(after((0.1, 0.01), name="rmsprop", **options)["bias"], [b], rtol=1e-6)


def test_adam_couples_the_decay_and_adamw_does_not():
    options = dict(weight_decay=0.1, weight_decay_mask="all")
    np.testing.assert_allclose(after((0.1,), name="adam", **options)["bias"], [3.0 + 0.1], rtol=1e-5)
    np.testing.assert_allclose(after((0.1,), name="adamw", **options)["bias"], [3.0 + 0.1 - 0.1 * 0.1 * 3.0], rtol=1e-5)


def test_lars_scales_the_kernels_step_to_its_norm():
    found = after((1.0,), name="lars", momentum=0.0, trust_coefficient=0.01, weight_decay=0.0, weight_decay_mask="all")
    step = np.array([1.0, -2.0]) - np.asarray(found["kernel"])
    assert np.linalg.norm(step) == pytest.approx(0.01 * np.sqrt(5), rel=1e-5)
    np.testing.assert_allclose(found["bias"], [4.0], rtol=1e-6)


def test_clipping_comes_first_and_small_gradients_pass():
    options = dict(name="sgd", weight_decay=0.0, weight_decay_mask="all")
    norm = float(np.sqrt(0.5**2 + 0.25**2 + 1))
    np.testing.assert_allclose(after((1.0,), clip_norm=norm / 2, **options)["bias"], [3.5], rtol=1e-5)
    np.testing.assert_allclose(after((1.0,), clip_norm=2 * norm, **options)["bias"], [4.0], rtol=1e-6)


def test_the_global_norm_is_that_of_all_leaves():
    tree = {"large": jnp.full((300, 300), 0.5), "small": jnp.array([[3.0]]), "scalar": jnp.array(4.0)}
    assert float(optim.global_norm(tree)) == pytest.approx(np.sqrt(300 * 300 * 0.25 + 9 + 16), rel=1e-5)
    assert float(optim.global_norm({"large": tree["large"]})) == pytest.approx(150.0, rel=1e-5)


def test_an_update_and_its_norm_take_no_further_array_of_the_parameters_size():
    tx = optim.create_optimizer(name="sgd", momentum=0.9, weight_decay=1e-4, weight_decay_mask="all")
    params = {"kernel": jnp.ones((1024, 512))}

    def step(params, state, grads):
        update, state = tx.update(grads, state, params, learning_rate=0.5)
        return update.added_to(params), state, optim.global_norm(grads), update.norm(optim.global_norm)

    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params), params)
    assert lowered.compile().memory_analysis().temp_size_in_bytes < params["kernel"].nbytes / 4
    after, _, _, norm = step(params, tx.init(params), params)
    moved = jnp.linalg.norm(after["kernel"] - params["kernel"])
    assert float(norm) == pytest.approx(float(moved), rel=1e-5)


def test_a_field_set_to_none_is_not_given():
    found = after((0.1,), name="adam", momentum=None, nesterov=None, weight_decay=0.0, weight_decay_mask="all")
    np.testing.assert_allclose(found["bias"], [3.1], rtol=1e-5)
    assert rates((0,), name="constant", learning_rate=0.1, boundary_epochs=None) == pytest.approx([0.1])


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (dict(name="sgdm", weight_decay=0.0, weight_decay_mask="all"), "unknown optimizer 'sgdm'; did you mean 'sgd'"),
        (dict(name="sgd", weight_decay=0.0, weight_decay_mask="some"), "unknown weight_decay_mask 'some'"),
        (dict(name="adam", weight_decay=0.0, weight_decay_mask="all", momentum=0.9), "does not know 'momentum'"),
    ],
)
def test_a_wrong_optimizer_is_one_clear_line(optimizer, message):
    with pytest.raises(UserError, match=message):
        optim.create_optimizer(**optimizer)
