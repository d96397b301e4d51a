"""Mixup and cutmix: exact, and the same for any number of threads and processes, and after resuming."""

import itertools

import numpy as np
import pytest

from dnn_research.data.augment import mixing
from dnn_research.errors import UserError

RECIPES = {
    "mixup": {"mixup_alpha": 0.4},
    "cutmix": {"cutmix_alpha": 1.0},
    "both, half the time": {"mixup_alpha": 0.4, "cutmix_alpha": 1.0, "mix_probability": 0.5},
}


def take(batches, count):
    with batches:
        return list(itertools.islice(batches, count))


def draws(count=4000, **fields):
    rng = np.random.default_rng(0)
    how = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "probability": 1.0, "image_size": 32, **fields}
    found = [mixing.draw(rng, **how) for _ in range(count)]
    return np.array([one["lam"] for one in found]), np.array([one["mix_box"] for one in found])


def test_lam_of_mixup_is_of_the_beta_distribution():
    lams, boxes = draws(mixup_alpha=0.4)
    assert not boxes.any()
    assert lams.mean() == pytest.approx(0.5, abs=0.02)
    assert lams.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.05)


def test_lam_of_cutmix_is_the_share_that_stays():
    lams, boxes = draws(cutmix_alpha=1.0)
    rows, columns = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    assert boxes.min() == 0 and boxes.max() == 32
    np.testing.assert_allclose(lams, 1 - rows * columns / 32**2, rtol=1e-6)
    whole = (boxes[:, 0] > 0) & (boxes[:, 1] < 32) & (boxes[:, 2] > 0) & (boxes[:, 3] < 32)
    assert (rows[whole] == columns[whole]).all() and (rows[whole] % 2 == 0).all()
    # Uniform areas, of which the image's edges take some away.
    assert 0.55 < lams.mean() < 0.75


def test_each_of_both_is_taken_half_the_time():
    lams, boxes = draws(mixup_alpha=1.0, cutmix_alpha=1.0, probability=0.6)
    mixed, cut = lams < 1, boxes.any(axis=1)
    assert np.mean(mixed) == pytest.approx(0.6, abs=0.03)
    assert np.mean(cut) == pytest.approx(0.3, abs=0.03)
    assert not (cut & ~mixed & (boxes[:, 1] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 2])).any()


@pytest.mark.parametrize("augment", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_batches_are_what_the_definition_says(create, augment, channels):
    """Against the plain batch at the same places, which draws the same numbers before those of mixing."""
    plain = take(create(augment={"flip": True}, channels=channels).train_batches(batch_size=12, seed=3), 6)
    mixed = take(create(augment={"flip": True, **augment}, channels=channels).train_batches(batch_size=12, seed=3), 6)
    kinds = set()
    for before, after in zip(plain, mixed, strict=True):
        assert after.keys() == {*before, "label2", "lam"}
        assert (after["lam"].dtype, after["label2"].dtype) == (np.float32, np.int32)
        for i in range(12):
            partner, lam = (i + 6) % 12, float(after["lam"][i])
            assert (after["label"][i], after["label2"][i]) == (before["label"][i], before["label"][partner])
            own, other = before["image"][i].astype(float), before["image"][partner].astype(float)
            result = after["image"][i]
            if lam == 1:
                np.testing.assert_array_equal(result, own)
                kinds.add("not mixed")
            elif np.abs(result - (lam * own + (1 - lam) * other)).max() <= 0.501:
                kinds.add("mixup")
            else:
                pasted = (result != own).any(-1)
                np.testing.assert_array_equal(result[pasted], other[pasted])
                # Where both have the same value nothing is seen.
                assert 1 - lam - 4 / 64 <= pasted.mean() <= 1 - lam + 1e-6
                kinds.add("cutmix")
    wanted = {"mixup": {"mixup"}, "cutmix": {"cutmix"}}
    names = {str(fields): name for name, fields in RECIPES.items()}
    assert kinds - {"not mixed"} == wanted.get(names[str(augment)], {"mixup", "cutmix"})


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_mix_what_the_whole_would(create, process_count):
    dataset = create(augment={"flip": True, "pca_noise_std": 0.1, **RECIPES["both, half the time"]})
    whole = take(dataset.train_batches(batch_size=24, seed=1), 8)
    for p in range(process_count):
        share = dataset.train_batches(batch_size=24, seed=1, process_index=p, process_count=process_count)
        for local, batch in zip(take(share, 8), whole, strict=True):
            for key, value in batch.items():
                np.testing.assert_array_equal(local[key], value[p::process_count], err_msg=key)


def test_threads_and_resuming_change_nothing(create):
    augment = {"pad": 2, "randaugment_ops": 2, "erasing_probability": 0.5, **RECIPES["both, half the time"]}
    whole = take(create(augment=augment).train_batches(batch_size=12, seed=3), 10)
    rest = take(create(augment=augment, num_workers=4).train_batches(batch_size=12, seed=3, start_step=4), 6)
    for batch, wanted in zip(rest, whole[4:], strict=True):
        for key in wanted:
            np.testing.assert_array_equal(batch[key], wanted[key], err_msg=key)


def test_a_process_needs_pairs(create):
    dataset = create(augment={"mixup_alpha": 0.2})
    with pytest.raises(UserError, match="has 3 of the 12 of a batch: make batch_size a multiple of twice"):
        dataset.train_batches(batch_size=12, seed=0, process_count=4)
