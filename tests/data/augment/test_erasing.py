"""Random erasing: how often, how much, with what."""

import numpy as np
import pytest

from dnn_research.data.augment.erasing import erase


def test_never_leaves_the_same_image():
    image = np.zeros((8, 8, 3), np.uint8)
    assert erase(image, np.random.default_rng(0), probability=0.0, area=(0.02, 0.4)) is image


def test_erased_rectangles_are_of_the_asked_area_and_all_over():
    # A value that noise rarely has; what is cached and read-only stays as it is.
    image = np.full((64, 64, 3), 7, np.uint8)
    image.flags.writeable = False
    rng, shares, ratios, hits = np.random.default_rng(0), [], [], np.zeros((64, 64))
    for _ in range(2000):
        changed = (erase(image, rng, probability=0.5, area=(0.02, 0.4)) != 7).any(-1)
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert changed.sum() > 0.98 * height * width
            shares.append(height * width / 64**2)
            ratios.append(height / width)
            hits += changed
    assert 900 < len(shares) < 1100
    assert min(shares) == pytest.approx(0.02, abs=0.01) and max(shares) == pytest.approx(0.4, abs=0.02)
    assert min(ratios) > 0.25 and max(ratios) < 3.9
    assert min(hits[0].max(), hits[-1].max(), hits[:, 0].max(), hits[:, -1].max()) > 0


def test_noise_is_uniform():
    image = np.zeros((200, 200, 3), np.uint8)
    erased = erase(image, np.random.default_rng(0), probability=1.0, area=(0.4, 0.4))
    noise = erased[(erased != 0).any(-1)]
    assert np.histogram(noise, 4, (0, 256))[0] / noise.size == pytest.approx(0.25, abs=0.01)
