"""Each normalization against its definition in NumPy, and in a run: trained, resumed, evaluated, used with one and
the same numbers.
"""

import json

import jax
import numpy as np
import pytest

from dnn_research import checkpoint, data, train
from dnn_research.data import normalization, statistics
from dnn_research.errors import UserError
from tests import tiny

ONES = (1.0, 1.0, 1.0)


def pixels(dataset, count: int = 100) -> np.ndarray:
    return np.stack([dataset.train_examples[i][0] for i in range(count)])


def test_pixel_mean_leaves_a_mean_of_zero(create):
    dataset = create(normalization="pixel_mean")
    normalized = np.asarray(dataset.normalize(pixels(dataset)), np.float64)
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-5)
    expected = (pixels(dataset) - pixels(dataset).mean(axis=0)) / [50, 60, 70]
    np.testing.assert_allclose(normalized, expected, atol=1e-5)


def test_per_image_has_mean_zero_and_deviation_one(create):
    dataset = create(normalization="per_image", std=ONES)
    normalized = np.asarray(dataset.normalize(pixels(dataset)), np.float64)
    np.testing.assert_allclose(normalized.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.std(axis=(1, 2, 3)), 1, atol=1e-5)
    assert (np.asarray(dataset.normalize(np.full((2, 8, 8, 3), 9, np.uint8))) == 0).all()


def test_contrast_normalized_images_have_mean_zero_and_length_55(create):
    dataset = create(normalization="gcn", std=ONES)
    normalized = np.asarray(dataset.normalize(pixels(dataset)), np.float64)
    np.testing.assert_allclose(normalized.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(np.sqrt((normalized**2).sum(axis=(1, 2, 3))), 55, rtol=1e-6)
    np.testing.assert_allclose(normalized.reshape(100, -1), statistics.contrast_normalized(pixels(dataset)), atol=1e-4)
    assert (np.asarray(dataset.normalize(np.full((2, 8, 8, 3), 9, np.uint8))) == 0).all()


def test_whitening_leaves_an_identity_but_for_its_bias(create):
    dataset = create(normalization="gcn_zca", std=ONES, image_size=4, synthetic_examples=400)
    images = pixels(dataset, 400)
    white = np.asarray(dataset.normalize(images), np.float64).reshape(400, -1)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-3)
    # In the basis of the eigenvectors, an eigenvalue e becomes e / (e + 0.1).
    eigenvalues, axes = np.linalg.eigh(np.cov(statistics.contrast_normalized(images).T, bias=True))
    expected = np.maximum(eigenvalues, 0) / (np.maximum(eigenvalues, 0) + 0.1)
    np.testing.assert_allclose(axes.T @ np.cov(white.T, bias=True) @ axes, np.diag(expected), atol=2e-3)
    assert expected[-20:].min() > 0.9
    # Zero phase: of all whitenings the one that stays nearest to the image.
    matrix = dataset.statistics["zca_matrix"]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)


@pytest.mark.parametrize("name", normalization.NORMALIZATIONS)
def test_every_normalization_takes_colour_noise_and_axes_in_front(create, name):
    std = ONES if name not in normalization.TAKES_STD else (50.0, 60.0, 70.0)
    dataset = create(normalization=name, std=std, image_size=4)
    images = pixels(dataset, 6)
    shift = np.arange(18, dtype=np.float32).reshape(6, 3)
    shifted = dataset.normalize(images, shift)
    np.testing.assert_allclose(shifted, dataset.normalize(images + shift[:, None, None]), atol=1e-4)
    alike = jax.jit(dataset.normalize)(images.reshape(2, 3, 4, 4, 3), shift.reshape(2, 3, 3))
    np.testing.assert_allclose(alike.reshape(6, 4, 4, 3), shifted, atol=1e-4)


def test_what_cannot_be(create):
    with pytest.raises(UserError, match=r"unknown data.normalization 'zca'; did you mean 'gcn_zca'"):
        create(normalization="zca")
    with pytest.raises(UserError, match=r"data.normalization 'gcn' has no use for data.std .*: set it to ones"):
        create(normalization="gcn")
    larger = np.zeros((1, 9, 9, 3), np.uint8)
    for name in normalization.NEEDS:
        dataset = create(normalization=name, std=ONES)
        with pytest.raises(UserError, match=f"'{name}' was computed of images of 192 values, these have shape"):
            dataset.normalize(larger)


def test_a_run_is_trained_evaluated_and_used_with_the_same_numbers(tmp_path, monkeypatch):
    there = jax.local_devices()[:2]
    monkeypatch.setattr(jax, "local_devices", lambda: there)
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    overrides = ("data.normalization=gcn_zca", "train.num_steps=4", "eval.every_steps=4", "checkpoint.every_steps=2")
    results = train.train(tiny.recipe(*overrides), tmp_path)
    kept = (tmp_path / statistics.FILE).read_bytes()

    # Whatever would be computed now counts no more.
    monkeypatch.setattr(statistics, "compute", lambda *_, **__: pytest.fail("computed again"))
    assert train.evaluate_run(tiny.recipe(*overrides), tmp_path, "latest", lambda _: None) == results
    model, variables = checkpoint.load_network(tmp_path)
    normalize = data.load_normalization(tmp_path)
    dataset = train.set_up(tiny.recipe(*overrides), tmp_path).dataset
    images, labels = zip(*(dataset.eval_examples[i] for i in range(dataset.num_eval)), strict=True)
    logits = model.apply(variables, normalize(np.stack(images)))
    assert (np.argmax(logits, axis=1) == np.array(labels)).mean() == pytest.approx(results["eval/top1_accuracy"])

    # The last step is lost; the run goes on from the one before with the same numbers.
    (tmp_path / "checkpoints/4/manifest.json").unlink()
    assert train.train(tiny.recipe(*overrides), tmp_path) == results
    assert (tmp_path / statistics.FILE).read_bytes() == kept
    (tmp_path / statistics.FILE).unlink()
    with pytest.raises(UserError, match=r"lacks statistics.npz"):
        train.evaluate_run(tiny.recipe(*overrides), tmp_path, "latest", lambda _: None)


def test_a_run_that_does_not_say_how_it_normalizes(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"config": {"data": {"mean": [0], "std": [1]}}}))
    with pytest.raises(UserError, match=r"run.json does not say how images are normalized"):
        data.load_normalization(tmp_path)
