"""The papers' views of an image, against loops written from the papers' words; and how protocols are named."""

import cv2
import numpy as np
import pytest

from dnn_research.data import multi_view, protocols
from dnn_research.errors import UserError

FILL = np.array([7, 8, 9], np.uint8)


def photograph(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(height).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return cv2.resize(noise, (width, height))


def scaled(image: np.ndarray, shorter: int) -> np.ndarray:
    """The shorter side is `shorter`; between half and twice the size, OpenCV's bilinear."""
    factor = shorter / min(image.shape[:2])
    return cv2.resize(image, (round(image.shape[1] * factor), round(image.shape[0] * factor)))


def as_set(crops) -> list[bytes]:
    return sorted(np.ascontiguousarray(crop).tobytes() for crop in crops)


@pytest.mark.parametrize(("height", "width"), [(60, 81), (90, 64), (70, 70)])
def test_ten_crop_is_corners_and_centre_of_the_central_square(height, width):
    image = photograph(height, width)
    (views,) = protocols.create(name="ten_crop", resize=56, image_size=40).views(image, fill=FILL)
    whole = scaled(image, 56)
    y, x = (whole.shape[0] - 56) // 2, (whole.shape[1] - 56) // 2
    expected = [
        whole[y + top : y + top + 40, x + left : x + left + 40]
        for top, left in ((0, 0), (0, 16), (16, 0), (16, 16), (8, 8))
    ]
    assert views.shape == (5, 40, 40, 3)
    assert as_set(views) == as_set(expected)


@pytest.mark.parametrize(("height", "width"), [(70, 101), (101, 70), (70, 70)])
def test_googlenets_144_crops(height, width):
    image = photograph(height, width)
    protocol = protocols.create(name="googlenet_crops", scales=(48, 56, 60, 64), image_size=40)
    (views,) = protocol.views(image, fill=FILL)
    assert len(views) * (2 if protocol.passes[0].mirrored else 1) == 144
    expected = []
    for side in (48, 56, 60, 64):
        whole = scaled(image, side)
        for third in range(3):
            y = (whole.shape[0] - side) * third // 2
            x = (whole.shape[1] - side) * third // 2
            square = whole[y : y + side, x : x + side]
            end = side - 40
            expected += [
                square[top : top + 40, left : left + 40]
                for top, left in ((0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2))
            ]
            expected.append(cv2.resize(square, (40, 40)))
    assert as_set(views) == as_set(expected)
    assert "144 crops" in protocol.description


def test_vggs_crops_are_a_grid_over_the_whole_image():
    protocol = protocols.create(name="vgg_crops", scales=(48, 64), image_size=40)
    image = photograph(50, 75)
    (views,) = protocol.views(image, fill=FILL)
    assert len(views) == 50
    large = scaled(image, 64)  # 64 x 96: every 6 rows and 14 columns
    expected = [large[top : top + 40, left : left + 40] for top in range(0, 25, 6) for left in range(0, 57, 14)]
    assert as_set(views[25:]) == as_set(expected)


def test_dense_cuts_the_longer_side_around_the_centre():
    image = photograph(50, 75)
    cut = protocols.create(name="dense", scales=(48, 64), multiple=32, image_size=40)
    whole = protocols.create(name="dense", scales=(48, 64), multiple=1, image_size=40)
    shapes = [[view.shape for view in protocol.views(image, fill=FILL)] for protocol in (cut, whole)]
    # 48 is no multiple of 32 itself: the shorter side is never cut.
    assert shapes == [[(1, 48, 64, 3), (1, 64, 96, 3)], [(1, 48, 72, 3), (1, 64, 96, 3)]]
    np.testing.assert_array_equal(cut.views(image, fill=FILL)[0][0], scaled(image, 48)[:, 4:68])
    narrow = cut.views(photograph(50, 51), fill=FILL)
    assert narrow[0].shape == (1, 48, 48, 3)


def test_dense_and_crops_counts_both_the_same():
    protocol = protocols.create(name="dense_and_crops", scales=(48, 64, 80), image_size=40)
    assert [one.dense for one in protocol.passes] == [True, True, True, False]
    assert [one.share for one in protocol.passes] == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert [len(views) for views in protocol.views(photograph(50, 75), fill=FILL)] == [1, 1, 1, 75]


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_shares_add_up_and_views_fit_passes(name):
    protocol = protocols.create(name=name, resize=48, scales=(48, 64), flip=True, image_size=40)
    assert isinstance(protocol, multi_view.MultiView)
    assert sum(one.share for one in protocol.passes) == pytest.approx(1)
    assert all(one.mirrored for one in protocol.passes)
    views = protocol.views(photograph(40, 40), fill=FILL)
    assert len(views) == len(protocol.passes)
    for one, stack in zip(protocol.passes, views, strict=True):
        assert stack.dtype == np.uint8
        assert one.dense or stack.shape[1:] == (40, 40, 3)


def test_one_view_is_the_protocol_itself_and_a_mirrored_one_is_not():
    single = protocols.create(name="single_crop", resize=48, image_size=40)
    assert protocols.single(single) is single
    assert protocols.single(protocols.create(name="single_crop", resize=48, flip=True, image_size=40)) is None
    assert protocols.single(protocols.create(name="dense", scales=(48,), flip=False, image_size=40)) is None


def test_hashes_stay():
    """They stand in results that people keep: a change of these is a change of what was measured."""
    words = "single_crop,original,ten_crop,googlenet_crops,vgg_crops,dense,dense(flip=False),dense_and_crops"
    made = protocols.parse(words, image_size=224, defaults={"resize": 256, "scales": (256, 384, 512)})
    hashes = [protocols.digest(protocol.description) for protocol in made]
    assert len(set(hashes)) == len(hashes)
    assert " ".join(hashes) == "70ac516d b643614c a326cdd0 3fb4e08e 5f77fda9 fb06d3a7 d99e3341 f1b1b542"


def test_parse_takes_parameters_and_what_is_lacking_from_the_recipe():
    recipe = {"resize": 48, "scales": (48, 64), "flip": True, "multiple": 8}
    single, larger, google, dense = protocols.parse(
        "single_crop, ten_crop(resize=56), googlenet_crops(scales=(44,)), dense", image_size=40, defaults=recipe
    )
    assert (single.resize, single.flip, larger.resize) == (48, False, 56)
    assert google.scales == (44,)
    assert (dense.scales, dense.flip, dense.multiple) == ((48, 64), True, 32)
    assert protocols.parse("vgg_crops", image_size=40, defaults=recipe)[0].scales == (256, 384, 512)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "at least one protocol"),
        ("single_crop)", "are written as"),
        ("ten_crop(56)", "are written as"),
        ("import os", "are written as"),
        ("ten_crop(resize=print(1))", "are written as"),
        ("tencrop", "unknown protocol 'tencrop'; did you mean 'ten_crop'"),
        ("dense(scale=(56,))", "dense has no parameter 'scale'; did you mean 'scales'"),
        ("ten_crop", "'ten_crop' needs eval.resize"),
        ("dense", "'dense' needs eval.scales"),
        ("dense(scales=48)", "dense.scales cannot be 48: it takes tuple"),
        ("dense(scales=(56.5,))", "dense.scales cannot be (56.5,): it takes"),
        ("ten_crop(resize=56.5)", "ten_crop.resize cannot be 56.5: it takes"),
        ("single_crop(resize=56,flip='no')", "single_crop.flip cannot be 'no': it takes"),
        ("single_crop(resize={[]})", "are written as"),
        ("dense(scales=(32,48))", "eval.scales is 32, 48, less than the image size 40"),
        ("vgg_crops(scales=(32,))", "less than the image size 40"),
        ("dense(scales=(48,),multiple=0)", "eval.multiple is 0"),
    ],
)
def test_a_wrong_word_is_one_clear_line(words, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        protocols.parse(words, image_size=40, defaults={"resize": None, "scales": None})


def test_a_line_of_pixels_is_not_made_larger_than_any_memory():
    with pytest.raises(UserError, match="an image of 60000 x 1 pixels whose shorter side is made 256 would have"):
        multi_view.rescale(np.zeros((1, 60000, 3), np.uint8), 256)
