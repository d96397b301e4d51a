"""Every protocol against a loop over single images and crops, on one device and on eight; ensembles, confusion."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dnn_research import data, evaluation, metrics, models, parallel, tasks
from dnn_research.data import conditions, protocols
from dnn_research.errors import UserError
from dnn_research.models.layers import Conv, Dense

CLASSES = 6


class Pooled(nn.Module):
    """Two convolutions, the mean over all positions, a linear layer: dense as it is."""

    num_classes: int = CLASSES
    dtype: type = jnp.float32
    batch_norm_axis: str | None = None

    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.relu(Conv(8, (3, 3), (2, 2), padding=((1, 1), (1, 1)), name="conv1")(images))
        x = nn.relu(Conv(8, (3, 3), (2, 2), padding=((1, 1), (1, 1)), name="conv2")(x))
        return Dense(self.num_classes, name="fc")(x.mean((1, 2)))


class Photographs:
    """Blurred noise of several sizes."""

    SIZES = ((20, 20), (20, 31), (33, 24), (26, 40))

    def __init__(self, count):
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        height, width = self.SIZES[index % len(self.SIZES)]
        random = np.random.default_rng(index)
        noise = random.integers(0, 256, (height // 5, width // 5, 3), np.uint8)
        return cv2.resize(noise, (width, height)), int(random.integers(CLASSES))


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    monkeypatch.setitem(models.MODELS, "pooled", Pooled)


@pytest.fixture
def devices(devices):
    devices(1)
    return devices


def dataset(count=21, image_size=16):
    made = data.create(
        source="synthetic", dir=None, image_size=image_size, channels=3, train_split="train", eval_split="test",
        holdout_fraction=0.1, holdout_seed=0, damaged="stop", normalization="channel",
        mean=(120.0, 110.0, 100.0), std=(30.0, 25.0, 20.0), augment=None, num_workers=0,
        synthetic_classes=CLASSES, synthetic_examples=count,
    )  # fmt: skip
    return dataclasses.replace(made, eval_examples=Photographs(count))


def task_of(images, **model):
    return tasks.create(
        {"name": "classification"},
        model={"name": "pooled", "num_classes": None, **model},
        train={"dtype": "float32", "batch_norm_axis": None},
        dataset=images,
        axis=parallel.AXIS,
    )


def member(seed, images, **model):
    """A task with a random network, whose softmax is not flat."""
    task = task_of(images, **model)
    params, state = jax.device_get(task.init(jax.random.key(seed)))
    head = "fc" if "fc" in params else "fc8"
    params[head]["kernel"] = params[head]["kernel"] * 3
    return task, (params, state)


def views_of(protocol, image):
    """(crop, dense, share) of every view, mirrored ones made here."""
    found = []
    for one, stack in zip(protocol.passes, protocol.views(image, fill=np.zeros(3, np.uint8)), strict=True):
        seen = [view for crop in stack for view in ([crop, crop[:, ::-1]] if one.mirrored else [crop])]
        found += [(view, one.dense, one.share / len(seen)) for view in seen]
    return found


def reference(members, images, protocol):
    """Loss and counts by one view at a time, in double precision from the logits on."""
    applied = {}
    matrix, loss, top5 = np.zeros((CLASSES, CLASSES), int), 0.0, 0
    for index in range(images.num_eval):
        image, label = images.eval_examples[index]
        mean = np.zeros(CLASSES)
        for number, (task, (params, state)) in enumerate(members):
            for view, dense, share in views_of(protocol, image):
                network = models.fully_convolutional(task.model, images.image_shape[0]) if dense else task.model
                apply = applied.setdefault((number, dense), jax.jit(network.apply))
                logits = apply({"params": params, **state}, images.normalize(view[None]))
                logits = np.asarray(logits[0], np.float64)
                mean += share * np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum() / len(members)
        loss -= np.log(mean[label])
        matrix[label, mean.argmax()] += 1
        top5 += int((mean > mean[label]).sum() < 5)
    return {
        "examples": images.num_eval,
        "loss": loss / images.num_eval,
        "top1_accuracy": matrix.trace() / images.num_eval,
        "top5_accuracy": top5 / images.num_eval,
    }, matrix


def run(members, images, protocol, batch_size, *, confusion=True):
    evaluator = evaluation.Evaluator(images, protocol, [task for task, _ in members], batch_size, confusion=confusion)
    return evaluator([parallel.replicate(network) for _, network in members])


def make(words):
    (protocol,) = protocols.parse(words, image_size=16, defaults={"resize": 18, "scales": (18, 24)})
    return protocol


WORDS = [
    "single_crop",
    "single_crop(flip=True)",
    "ten_crop",
    "googlenet_crops(scales=(18,20,24,26))",
    "dense(scales=(18,),multiple=4,flip=False)",
    "dense_and_crops(scales=(18,24),multiple=8)",
]


@pytest.mark.parametrize("words", WORDS)
def test_protocols_are_what_a_loop_over_views_gives(devices, words):
    images, protocol = dataset(), make(words)
    members = [member(0, images)]
    expected, matrix = reference(members, images, protocol)
    assert 0 < expected["top1_accuracy"] < 1
    for count, batch_size in ((1, 5), (8, 16)):
        devices(count)
        outcome = run(members, images, protocol, batch_size)
        assert outcome.values == pytest.approx(expected, rel=1e-5)
        np.testing.assert_array_equal(outcome.confusion, matrix)
        assert outcome.confusion.sum() == images.num_eval


def test_cost_is_counted(devices):
    images = dataset()
    outcome = run([member(0, images)], images, make("ten_crop"), 8, confusion=False)
    assert (outcome.views, outcome.pixels, outcome.confusion) == (10, 10 * 16 * 16, None)
    dense = run([member(0, images)], images, make("dense(scales=(20,),multiple=4)"), 8)
    longer = (20, 28, 28, 28)  # 20, 31, 27.5 and 30.8 pixels, rounded and cut to multiples of 4
    sizes = [longer[i % 4] for i in range(images.num_eval)]
    assert (dense.views, dense.pixels) == (2, pytest.approx(2 * 20 * np.mean(sizes)))


@pytest.mark.parametrize("words", ["single_crop", "dense(scales=(18,),multiple=8)"])
def test_an_ensemble_is_the_mean_of_its_members_softmax(devices, words):
    images, protocol = dataset(), make(words)
    members = [member(seed, images) for seed in range(3)]
    expected, matrix = reference(members, images, protocol)
    devices(2)
    outcome = run(members, images, protocol, 7)
    assert outcome.values == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(outcome.confusion, matrix)


def test_one_member_and_one_view_by_either_way_agree(devices):
    """The way of several views, with the same member twice, gives what the training loop's evaluation gives."""
    images, protocol = dataset(), make("single_crop")
    one = member(0, images)
    single, double = run([one], images, protocol, 6), run([one, one], images, protocol, 6)
    assert double.values == pytest.approx(single.values, rel=1e-5)
    np.testing.assert_array_equal(double.confusion, single.confusion)


def test_chunks_of_views_change_nothing():
    random = np.random.default_rng(0)
    views = jnp.asarray(random.integers(0, 256, (2, 12, 4, 5, 3), np.uint8))

    def log_softmax(images):
        return jax.nn.log_softmax(images[:, :2, :3].reshape(len(images), -1)[:, :7].astype(jnp.float32) / 20)

    for mirrored in (False, True):
        seen = jnp.concatenate([views, views[:, :, :, ::-1]], axis=1) if mirrored else views
        expected = jnp.log(jnp.exp(log_softmax(seen.reshape(-1, 4, 5, 3))).reshape(2, -1, 7).mean(axis=1))
        for pixels in (1, 2 * 20, 2 * 20 * 5, 2 * 20 * 12, 10**6):
            found = evaluation.mean_over_views(log_softmax, views, mirrored=mirrored, pixels=pixels)
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def test_a_hopeless_example_has_a_finite_loss():
    """Softmax outputs below float32's smallest number are still counted, as those of a single crop are."""
    logits = jnp.array([[0.0, -150.0], [0.0, -200.0]])
    views = jnp.arange(2, dtype=jnp.uint8).reshape(1, 2, 1, 1, 1)
    found = evaluation.mean_over_views(
        lambda images: jax.nn.log_softmax(logits[images[:, 0, 0, 0]]), views, mirrored=False, pixels=1
    )
    assert float(found[0, 1]) == pytest.approx(-150 - np.log(2), rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"name": "vgg", "variant": "A", "width_factor": 0.0625, "weight_init": "modern"}, 32),
        ({"name": "alexnet", "variant": "paper", "width_factor": 0.0625, "weight_init": "modern"}, 67),
        ({"name": "alexnet", "variant": "torchvision", "width_factor": 0.0625, "stem": "cifar"}, 32),
    ],
)
def test_dense_slides_the_fully_connected_layers_over_the_maps(fields, fits):
    images = dataset(image_size=fits)
    task, (params, state) = member(0, images, **fields)
    assert task.classifier is not None
    params = jax.tree.map(jnp.asarray, params)
    noise = np.random.default_rng(3).integers(0, 256, (9, 11, 3), np.uint8)
    view = np.asarray(cv2.resize(noise, (fits + 45, fits + 20)))
    found = jax.jit(task.classifier.dense())(params, state, view[None])[0]

    @jax.jit
    def maps_of(pixels):
        normal = images.normalize(pixels)
        return task.model.apply({"params": params}, normal, upto="pool5", method="features")["pool5"]

    maps = np.asarray(maps_of(view[None])[0], np.float64)
    side = maps_of(np.zeros((1, fits, fits, 3), np.uint8)).shape[1]
    scores = []
    for top in range(maps.shape[0] - side + 1):
        for left in range(maps.shape[1] - side + 1):
            x = maps[top : top + side, left : left + side].reshape(-1)
            for layer in ("fc6", "fc7", "fc8"):
                x = x @ np.asarray(params[layer]["kernel"], np.float64) + np.asarray(params[layer]["bias"])
                x = np.maximum(x, 0) if layer != "fc8" else x
            scores.append(x)
    assert len(scores) > 1
    np.testing.assert_allclose(found, np.mean(scores, axis=0), rtol=2e-4, atol=2e-5)
    # On what it was trained on, dense is the network itself.
    square = view[None, :fits, :fits]
    same = [jax.jit(f)(params, state, square) for f in (task.classifier.logits, task.classifier.dense())]
    np.testing.assert_allclose(same[0], same[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet_cifar", "mobilenet", "nin"])
def test_networks_that_end_in_a_mean_are_dense_already(name):
    network = models.create(name, num_classes=4)
    assert models.fully_convolutional(network, 32) is network


def test_networks_of_one_size_are_refused_before_anything_runs():
    images = dataset()
    task = task_of(images, name="nin", head="fc")
    with pytest.raises(UserError, match="NIN takes images of one size only"):
        evaluation.Evaluator(images, make("dense"), [task], 4)
    with pytest.raises(UserError, match="GoogLeNet takes images of one size only"):
        models.fully_convolutional(models.create("googlenet", head="fc"), 32)
    with pytest.raises(UserError, match="LeNet takes images of one size only"):
        models.fully_convolutional(models.create("lenet"), 32)


def test_towers_have_no_dense_form():
    with pytest.raises(UserError, match="needs towers=1"):
        models.fully_convolutional(models.create("alexnet", towers=2), 224)


def test_pictures_do_not_count_what_is_damaged_for_another_process():
    images = dataset()
    evaluator = evaluation.Evaluator(images, make("single_crop"), [task_of(images)], 4)
    evaluator.first_images(4)
    assert not images.eval_reader._sound.any()


def test_a_task_without_classes_has_one_view_only():
    images = dataset()
    task = dataclasses.replace(task_of(images), classifier=None)
    evaluation.Evaluator(images, make("single_crop"), [task], 4)
    with pytest.raises(UserError, match="needs a task that classifies"):
        evaluation.Evaluator(images, make("ten_crop"), [task], 4)


def test_confusion_counts_weighted_examples_with_a_prediction():
    logits = jnp.array([[1.0, 1, 0], [0, 0, 5], [0, 9, 0], [jnp.nan, 0, 0], [0, 0, 1]])
    labels, weights = jnp.array([0, 1, 1, 0, 2]), jnp.array([1.0, 1, 1, 1, 0])
    found = metrics.confusion(logits, labels, weights)
    np.testing.assert_array_equal(found, [[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    sums = metrics.classification(logits, labels, jnp.zeros(5), weights)
    assert int(sums["top1"]) == int(jnp.trace(found))


def test_conditions_say_in_what_results_are_unlike():
    images = dataset()
    here = dataclasses.asdict(conditions.conditions(images, make("ten_crop")))
    there = dataclasses.asdict(conditions.conditions(dataclasses.replace(images, version="2.0.0"), make("single_crop")))
    assert conditions.unlike([here, here]) == []
    assert conditions.unlike([here, there]) == ["protocol", "dataset_version"]
    assert here["protocol_hash"] == protocols.digest(here["protocol"]) in str(data.Conditions(**here))
