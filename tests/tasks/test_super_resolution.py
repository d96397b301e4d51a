"""Super-resolution: qualities as others measure them, degradation, and whole runs."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import metrics

from dnn_research import recipe, train
from dnn_research.data.builtin.photo_patches import read_photo
from dnn_research.tasks import image_quality

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "data.source=tfds:photo_patches/32", "data.train_split=train[:64]", "data.eval_split=test[:20]",
    "data.image_size=32", "data.augment.shorter_side=()", "data.num_workers=0", "eval.protocol=original",
    "eval.resize=none", "eval.batch_size=8", "batch_size=8", "model.width_factor=0.25",
    "task.loss_network.weights=random", "task.loss_network.model.width_factor=0.0625", "record.every_steps=5",
)  # fmt: skip


@pytest.fixture
def pair():
    one = read_photo("coffee")[100:180, 200:300].astype(np.float32)
    other = np.clip(one + np.random.default_rng(0).normal(0, 12, one.shape), 0, 255).astype(np.float32)
    return one, other


def test_psnr_and_ssim_are_scikit_images(pair):
    one, other = (np.asarray(image_quality.luminance(jnp.asarray(x[None]))) for x in pair)
    assert one.min() > 16 and one.max() < 235
    expected = metrics.peak_signal_noise_ratio(one[0], other[0], data_range=255)
    assert float(image_quality.psnr(jnp.asarray(one), jnp.asarray(other))[0]) == pytest.approx(expected, rel=1e-5)
    expected = metrics.structural_similarity(
        one[0], other[0], data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert float(image_quality.ssim(jnp.asarray(one), jnp.asarray(other))[0]) == pytest.approx(expected, abs=2e-5)
    assert float(image_quality.ssim(jnp.asarray(one), jnp.asarray(one))[0]) == pytest.approx(1)


def test_luminance_of_black_white_and_gray():
    colours = jnp.array([[0.0] * 3, [255.0] * 3, [127.5] * 3]).reshape(1, 3, 1, 3)
    np.testing.assert_allclose(image_quality.luminance(colours)[0, :, 0], [16, 235, 125.5], atol=1e-3)


def test_bicubic_is_exact_for_planes_and_keeps_the_mean():
    ramp = jnp.broadcast_to(jnp.arange(20.0).reshape(1, 20, 1, 1) * 8, (1, 20, 16, 3))
    large = image_quality.enlarge(ramp, 4)
    wanted = 8 * ((np.arange(80) + 0.5) / 4 - 0.5)
    np.testing.assert_allclose(large[0, 8:-8, 5, 0], np.rint(wanted)[8:-8], atol=0.51)
    np.testing.assert_allclose(image_quality.bicubic(5, 40).sum(1), 1, atol=1e-12)
    small = image_quality.shrink(large, 4)
    np.testing.assert_allclose(small[0, 3:-3], ramp[0, 3:-3], atol=1)


def test_histograms_are_matched():
    generator = np.random.default_rng(0)
    like = generator.integers(40, 90, (50, 60, 3), np.uint8)
    dark = generator.integers(0, 20, (100, 120, 3), np.uint8)
    matched = image_quality.match_histogram(dark, like)
    np.testing.assert_allclose(matched.mean((0, 1)), like.mean((0, 1)), atol=1.5)
    np.testing.assert_allclose(matched.std((0, 1)), like.std((0, 1)), atol=1.5)


@pytest.fixture
def one_device(monkeypatch):
    there = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: there[:1])
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(("loss", "factor"), [("pixel", 4), ("feature", 2)])
def test_learns(tmp_path, loss, factor):
    words = (f"task.loss={loss}", f"model.factor={factor}", "train.num_steps=30", "eval.every_steps=10",
             "checkpoint.every_steps=30", "checkpoint.best_metric=eval/ssim")  # fmt: skip
    run = recipe.load(str(ROOT / "configs/super_resolution.py"), [*TINY, *words])
    results = train.train(run, tmp_path / "run")
    history = [line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if '"eval"' in line]
    assert len(history) == 3
    assert results["eval/examples"] == 20
    assert 15 < results["eval/bicubic_psnr"] < 40
    assert 0 < results["eval/ssim"] < results["eval/bicubic_ssim"] < 1
    assert results["eval/loss"] == results[f"eval/{loss}_loss"]
