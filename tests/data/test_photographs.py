"""A folder of photographs is a source without labels."""

import cv2
import numpy as np
import pytest

from dnn_research.data import photographs, sources
from dnn_research.data.damage import DamagedExample
from dnn_research.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for number in range(10):
        place = tmp_path / "deep" if number % 2 else tmp_path
        cv2.imwrite(str(place / f"{number}.png"), np.full((20, 30, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    for hidden in ("._3.png", ".trash/4.png"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"no picture either")
    return tmp_path


def test_parts_of_a_folder(folder):
    source = sources.open_source(
        f"images:{folder}", dir=None, image_size=8, channels=3,
        holdout_fraction=0.1, holdout_seed=0, synthetic_classes=1, synthetic_examples=1,
    )  # fmt: skip
    assert source.class_names == ()
    values = [int(source.split("all")[n][0][0, 0, 0]) for n in range(10)]
    assert values == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]  # in the order of the paths
    image, label = source.split("all")[5]
    assert (image.shape, label) == ((20, 30, 3), 0)
    for name, wanted in (("all[:30%]", [0, 2, 4]), ("all[8:]", [7, 9]), ("all[30%:50%]", [6, 8])):
        part = source.split(name)
        assert [int(part[n][0][0, 0, 0]) for n in range(len(part))] == wanted


def test_what_cannot_be_opened_is_one_line(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, complaint in ((folder / "none", "there is no folder"), (tmp_path / "empty", "no picture in")):
        with pytest.raises(UserError, match=complaint):
            photographs.open_photographs(str(path), channels=3)
    with pytest.raises(UserError, match="there is no folder"):
        photographs.open_photographs("", channels=3)
    source = photographs.open_photographs(str(folder), channels=3)
    for split, complaint in (("train", "has no split 'train': it has 'all'"), ("all[10:]", "is empty")):
        with pytest.raises(UserError, match=complaint):
            source.split(split)
    (folder / "0.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"0\.png: the image is damaged"):
        source.split("all")[0]
    # What data.damaged=skip goes on without.
    with pytest.raises(DamagedExample):
        source.split("all")[0]
