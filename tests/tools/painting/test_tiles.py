"""A picture in tiles is the picture in one piece, whatever the normalization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research import models
from dnn_research.data import Normalization
from dnn_research.data.builtin.photo_patches import read_photo
from dnn_research.errors import UserError
from dnn_research.models import transform_net
from dnn_research.tools.painting import tiles

MEAN = (123.68, 116.779, 103.939)
NORMALIZE = Normalization(name="channel", mean=MEAN, std=(1.0, 1.0, 1.0), arrays={})


def painter(variant="released", tile=None, memory=None, **fields):
    network = models.create("transform_net", variant=variant, width_factor=0.0625, **fields)
    variables = models.initialize(network, jax.random.key(1), (16, 16, 3))
    # Contrast such as a trained network's.
    variables["params"]["out"]["kernel"] *= 100 if variant == "pytorch" else 4
    return tiles.Painter(network, variables, NORMALIZE, tile=tile, memory=memory)


@pytest.mark.slow
@pytest.mark.parametrize("variant", transform_net.VARIANTS)
def test_no_seam(variant):
    photo = read_photo("cat")[:290, :411]
    whole, tiled = painter(variant).paint(photo, np.ones(1)), painter(variant, tile=256).paint(photo, np.ones(1))
    assert whole.shape == tiled.shape == (290, 411, 3)
    assert whole.std() > 1
    difference = np.abs(whole.astype(int) - tiled)
    # A rounding error can move a value over the middle between two bytes.
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_a_picture_in_one_piece_is_the_networks_own_result():
    photo = read_photo("cat")[:80, :96]
    paint = painter("released")
    network = paint._model.clone(border=None)
    made = network.apply(paint._variables, jnp.asarray(photo[None].astype(np.float32) - np.float32(MEAN)))
    difference = np.abs(np.clip(np.rint(made[0]), 0, 255) - paint.paint(photo, np.ones(1)))
    assert difference.max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (3, 50), (41, 39)])
def test_small_pictures_of_any_size(height, width):
    photo = read_photo("cat")[:height, :width]
    assert painter().paint(photo, np.ones(1)).shape == (height, width, 3)


@pytest.mark.parametrize(("length", "side"), [(100, 256), (256, 256), (260, 256), (1000, 256), (3080, 1024)])
def test_own_parts_cover_everything_once_and_have_their_margin(length, side):
    found = tiles.spans(length, side)
    assert [span.first for span in found] == [0, *(span.last for span in found[:-1])]
    assert found[-1].last == length
    for span in found:
        assert 0 <= span.start <= span.first < span.last <= span.end <= length
        assert span.end - span.start == min(side, length)
        assert span.start in (0, span.first - tiles.MARGIN) or span.first - span.start >= tiles.MARGIN
        assert span.end == length or span.end - span.last >= tiles.MARGIN


def test_memory_decides_about_tiles_and_is_kept_to():
    shape = (900, 1200)
    whole, needed = painter().plan(*shape)
    assert whole is None
    side, less = painter(memory=needed // 4).plan(*shape)
    assert side in (256, 512) and less <= needed // 4
    with pytest.raises(UserError, match=r"900x1200 takes .* even in tiles of 256 pixels, and 0\.00 GiB may be used"):
        painter(memory=1000).plan(*shape)
    with pytest.raises(UserError, match="--tile is 100: give a multiple of 4, 256 or more"):
        painter(tile=100)
