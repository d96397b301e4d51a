"""The task's loss, its part of the auxiliary classifiers, its sums, and what is said about a wrong value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dnn_research import data, models, tasks
from dnn_research.errors import UserError
from dnn_research.models.layers import Dense
from dnn_research.tasks.classification import cross_entropy

KEY = jax.random.key(0)
CLASSES = 4
LABELS = jnp.array([0, 1, 2, 3, 3, 2, 1, 1])
LAYERS = ("fc", "aux1", "aux2")


class Heads(nn.Module):
    """Three linear classifiers of the pixels, the first of which is the main one; in evaluation it is alone."""

    num_classes: int = 10
    aux_heads: bool = True
    dtype: type = jnp.float32
    batch_norm_axis: str | None = None

    @nn.compact
    def __call__(self, images, *, train=False):
        x = images.reshape(images.shape[0], -1)
        names = LAYERS if self.aux_heads else LAYERS[:1]
        heads = [Dense(self.num_classes, name=name)(x) for name in names]
        return tuple(heads) if train and self.aux_heads else heads[0]


@pytest.fixture(autouse=True)
def _heads(monkeypatch):
    monkeypatch.setitem(models.MODELS, "heads", Heads)


def dataset(size=4):
    return data.create(
        source="synthetic", dir=None, image_size=size, channels=3, train_split="train", eval_split="test",
        holdout_fraction=0.1, holdout_seed=0, damaged="stop",
        mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0), normalization="channel", augment=None, num_workers=0,
        synthetic_classes=CLASSES, synthetic_examples=8,
    )  # fmt: skip


def create(*, size=4, model=None, **section):
    return tasks.create(
        {"name": "classification", **section},
        model={"name": "heads", "num_classes": None, **(model or {})},
        train={"dtype": "float32", "batch_norm_axis": None},
        dataset=dataset(size),
        axis="batch",
    )


def batch(size=4):
    pixels = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    return {"image": jnp.asarray(pixels), "label": LABELS, "position": jnp.arange(8)}


def normalized_pixels():
    return ((np.asarray(batch()["image"], np.float64) - (120, 110, 100)) / (60, 50, 40)).reshape(8, -1)


def losses_of_heads(params, smoothing=0.0):
    """The mean cross-entropy of each head on `batch()`, in NumPy."""
    pixels = normalized_pixels()
    targets = (1 - smoothing) * np.eye(CLASSES)[LABELS] + smoothing / CLASSES
    found = []
    for name in LAYERS:
        logits = pixels @ np.asarray(params[name]["kernel"], np.float64) + np.asarray(params[name]["bias"])
        found.append(-(targets * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean())
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_loss_adds_the_auxiliary_classifiers_by_their_weight(weight, smoothing):
    task = create(auxiliary_weight=weight, label_smoothing=smoothing)
    params, state = task.init(KEY)
    main, first, second = losses_of_heads(params, smoothing)
    loss, (new_state, sums) = task.loss(params, state, batch(), KEY)
    assert float(loss) == pytest.approx(main + weight * (first + second), rel=1e-5)
    assert new_state == {}
    # What is recorded is the main classifier's, whatever the weight.
    assert task.finish(sums)["loss"] == pytest.approx(main, rel=1e-5)


def test_the_weight_is_googlenets_unless_told():
    params, state = create().init(KEY)
    losses = {}
    for section in ({}, {"auxiliary_weight": 0.3}, {"auxiliary_weight": 0.4}):
        losses[str(section)] = float(create(**section).loss(params, state, batch(), KEY)[0])
    unsaid, same, other = losses.values()
    assert unsaid == same != other


def test_metrics_are_the_main_classifiers_in_training_and_evaluation():
    task = create()
    params, state = task.init(KEY)
    # The auxiliary classifiers are always wrong, the main one right for the labels below 3.
    logits = {"fc": jnp.eye(CLASSES)[LABELS].at[LABELS == 3].multiply(-1.0), "aux1": -jnp.eye(CLASSES)[LABELS]}
    for name, wanted in logits.items():
        kernel = np.linalg.lstsq(normalized_pixels(), 5 * np.asarray(wanted), rcond=None)[0]
        params[name] = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(CLASSES)}
    trained = task.finish(task.loss(params, state, batch(), KEY)[1][1])
    evaluated = task.finish(task.evaluate(params, state, {**batch(), "weight": jnp.ones(8)}))
    assert trained == pytest.approx(evaluated, rel=1e-6)
    assert trained["examples"] == 8
    assert trained["top1_accuracy"] == 6 / 8


def test_evaluation_counts_weighted_examples_without_smoothing():
    smooth, plain = create(label_smoothing=0.1), create()
    params, state = plain.init(KEY)
    weights = jnp.array([1.0, 1, 1, 1, 1, 0, 0, 0])
    sums = [task.evaluate(params, state, {**batch(), "weight": weights}) for task in (smooth, plain)]
    assert sums[0]["examples"] == 5
    assert float(sums[0]["loss"]) == float(sums[1]["loss"])


def test_a_network_of_one_classifier_has_its_loss_alone():
    alone, among = create(model={"aux_heads": False}, auxiliary_weight=1.0), create(auxiliary_weight=0.0)
    params, state = among.init(KEY)
    loss = alone.loss({"fc": params["fc"]}, state, batch(), KEY)[0]
    assert float(loss) == float(among.loss(params, state, batch(), KEY)[0])


def test_auxiliary_classifiers_learn_by_their_weight_and_not_at_all_by_none():
    tasks_ = {weight: create(auxiliary_weight=weight) for weight in (0.0, 0.3, 0.6)}
    params, state = tasks_[0.0].init(KEY)
    gradients = {w: jax.grad(lambda p, t=t: t.loss(p, state, batch(), KEY)[0])(params) for w, t in tasks_.items()}
    for name in LAYERS:
        none, some, twice = (np.asarray(gradients[weight][name]["kernel"]) for weight in tasks_)
        assert np.abs(some).max() > 0
        if name == "fc":
            np.testing.assert_allclose(none, some, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(twice, some, rtol=1e-5, atol=1e-7)
        else:
            assert not none.any()
            np.testing.assert_allclose(twice, 2 * some, rtol=1e-5, atol=1e-7)


def test_googlenets_loss_is_that_of_its_three_classifiers():
    fields = {"name": "googlenet", "variant": "torchvision", "width_factor": 0.0625, "stem": "cifar"}
    task = create(size=8, model={**fields, "weight_init": "modern", "dropout_rate": 0.0, "aux_dropout_rate": 0.5})
    params, state = task.init(KEY)
    assert {"aux1", "aux2"} <= set(params)
    fast = {"xla_backend_optimization_level": 0}

    @functools.partial(jax.jit, compiler_options=fast)
    def run(params, state):
        images = dataset(8).normalize(batch(8)["image"])
        heads, new = task.model.apply(
            {"params": params, **state}, images, train=True, mutable=["batch_stats"], rngs={"dropout": KEY}
        )
        return [cross_entropy(head, LABELS, 0.0).mean() for head in heads], new, task.loss(params, state, batch(8), KEY)

    (main, first, second), new, (loss, (new_state, sums)) = run(params, state)
    assert float(loss) == pytest.approx(float(main + 0.3 * (first + second)), rel=1e-5)
    assert float(sums["loss"]) / 8 == pytest.approx(float(main), rel=1e-5)
    for expected, found in zip(jax.tree.leaves(new), jax.tree.leaves(new_state), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_the_smoothed_targets(smoothing):
    logits = np.random.default_rng(1).normal(size=(8, CLASSES))
    targets = (1 - smoothing) * np.eye(CLASSES)[LABELS] + smoothing / CLASSES
    expected = -(targets * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1)
    found = cross_entropy(jnp.asarray(logits, jnp.float32), LABELS, smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("section", "model", "message"),
    [
        ({"auxiliary_weight": -0.1}, {}, "task.auxiliary_weight must not be negative: -0.1"),
        ({"label_smoothing": 1.0}, {}, r"task.label_smoothing must be in \[0, 1\), not 1.0"),
        ({"label_smoothing": -0.1}, {}, r"task.label_smoothing must be in \[0, 1\), not -0.1"),
        ({}, {"num_classes": 3}, "model.num_classes=3 is fewer than the 4 of synthetic"),
        ({"auxiliary_weights": 0.3}, {}, "auxiliary_weight"),
    ],
)
def test_refuses_wrong_values(section, model, message):
    with pytest.raises(UserError, match=message):
        create(model=model, **section)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_examples_are_compared_with_both_labels(smoothing):
    """The auxiliary classifiers too; the accuracy in training is that of the label with the larger share."""
    task = create(auxiliary_weight=0.3, label_smoothing=smoothing)
    params, state = task.init(KEY)
    lam, partners = jnp.array([1.0, 0.9, 0.5, 0.4, 0.1, 0.0, 0.7, 0.3]), jnp.roll(LABELS, -4)
    mixed = {**batch(), "label2": partners, "lam": lam}
    loss, (_, sums) = task.loss(params, state, mixed, KEY)

    hot = np.eye(CLASSES)
    targets = np.asarray(lam)[:, None] * hot[LABELS] + (1 - np.asarray(lam))[:, None] * hot[partners]
    targets = (1 - smoothing) * targets + smoothing / CLASSES
    found = []
    for name in LAYERS:
        logits = normalized_pixels() @ np.asarray(params[name]["kernel"], np.float64) + np.asarray(params[name]["bias"])
        found.append(-(targets * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean())
        if name == "fc":
            right = logits.argmax(1) == np.where(lam >= 0.5, LABELS, partners)
    assert float(loss) == pytest.approx(found[0] + 0.3 * (found[1] + found[2]), rel=1e-5)
    assert task.finish(sums)["loss"] == pytest.approx(found[0], rel=1e-5)
    assert task.finish(sums)["top1_accuracy"] == right.mean()


def test_unmixed_examples_lose_nothing_by_a_partner():
    task = create()
    params, state = task.init(KEY)
    mixed = {**batch(), "label2": jnp.roll(LABELS, -4), "lam": jnp.ones(8)}
    assert float(task.loss(params, state, mixed, KEY)[0]) == float(task.loss(params, state, batch(), KEY)[0])
