"""Metrics are exact: sums over examples, padding counts for nothing."""

import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import metrics


def test_counts_are_those_of_a_full_sort():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 200).astype(np.int32)
    order = np.argsort(-logits, axis=1)
    weights = (rng.random(200) < 0.7).astype(np.float32)
    sums = metrics.classification(jnp.array(logits), jnp.array(labels), jnp.ones(200), jnp.array(weights))
    counted = weights > 0
    assert int(sums["examples"]) == counted.sum()
    assert int(sums["top1"]) == (order[:, 0] == labels)[counted].sum()
    assert int(sums["top5"]) == (order[:, :5] == labels[:, None]).any(axis=1)[counted].sum()
    assert float(sums["loss"]) == counted.sum()


def test_ties_rank_in_class_order_and_nan_is_never_right():
    logits = jnp.array([[1.0, 1.0], [1.0, 1.0], [jnp.nan, 0.0]])
    sums = metrics.classification(logits, jnp.array([0, 1, 0]), jnp.zeros(3), jnp.ones(3))
    assert int(sums["top1"]) == 1
    assert int(sums["top5"]) == 2


def test_padding_with_an_infinite_loss_counts_for_nothing():
    sums = metrics.classification(
        jnp.zeros((2, 3)), jnp.array([0, 0]), jnp.array([2.0, jnp.inf]), jnp.array([1.0, 0.0])
    )
    assert metrics.finish(sums) == {"examples": 1, "loss": 2.0, "top1_accuracy": 1.0, "top5_accuracy": 1.0}


def test_no_examples_is_an_error_not_a_nan():
    with pytest.raises(ValueError, match="no examples"):
        metrics.finish(metrics.zeros())


def test_the_last_line_is_the_contract():
    line = metrics.sentence({"top1_accuracy": 0.987, "top5_accuracy": 0.9995, "loss": 0.06123, "examples": 1000})
    assert line == "top-1 accuracy 98.70 %, top-5 accuracy 99.95 %, loss 0.0612 (1,000 examples)"
