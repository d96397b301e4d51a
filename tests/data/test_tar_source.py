import io
import pathlib
import tarfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from dnn_research.data import tar_source
from dnn_research.data.damage import DamagedExample
from dnn_research.errors import UserError
from tests.data.test_folder_source import SPLITS, colour, fill, names_of

# Not in the order in which a devkit counts them.
WORDNET_IDS = ("n01440764", "n01443537", "n02110341")


def image_bytes(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour(number)).save(file, "PNG")
    return file.getvalue()


def tar_bytes(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return file.getvalue()


def devkit_bytes(labels: list[str]) -> bytes:
    """With the classes counted backwards and an inner node, as in the ILSVRC2012 development kit."""
    ids = {wordnet_id: len(WORDNET_IDS) - i for i, wordnet_id in enumerate(WORDNET_IDS)}
    rows = [(number, wordnet_id, "words", 0) for wordnet_id, number in ids.items()] + [(1001, "n00001740", "entity", 3)]
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": np.array(rows, dtype=kinds)})
    truth = "".join(f"{ids[label]}\n" for label in labels).encode()
    folder = "ILSVRC2012_devkit_t12/data"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in (("meta.mat", meta.getvalue()), ("ILSVRC2012_validation_ground_truth.txt", truth)):
            header = tarfile.TarInfo(f"{folder}/{name}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def imagenet(tmp_path: pathlib.Path) -> pathlib.Path:
    """The files as they come from image-net.org: red is the number of the image."""
    root = tmp_path / "imagenet"
    root.mkdir()
    inner = {
        f"{wordnet_id}.tar": tar_bytes({f"{wordnet_id}_{i}.JPEG": image_bytes(10 * label + i) for i in range(2)})
        for label, wordnet_id in reversed(list(enumerate(WORDNET_IDS)))
    }
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes(inner))
    validation = {f"ILSVRC2012_val_0000000{i}.JPEG": image_bytes(100 + i) for i in (3, 1, 2, 4)}
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes(validation))
    (root / tar_source.DEVKIT).write_bytes(devkit_bytes([WORDNET_IDS[i] for i in (2, 0, 0, 1)]))
    return root


def open_imagenet(create, root: pathlib.Path, **changes):
    return create(source=f"tar:{root}", eval_split="validation", **changes)


def test_imagenets_tars_in_place(create, imagenet):
    dataset = open_imagenet(create, imagenet)
    assert (dataset.name, dataset.class_names) == ("imagenet2012", WORDNET_IDS)
    assert names_of(dataset.train_examples) == [(0, 0), (1, 0), (10, 1), (11, 1), (20, 2), (21, 2)]
    # By label, and by name within one.
    assert names_of(dataset.eval_examples) == [(102, 0), (103, 0), (104, 1), (101, 2)]
    assert sorted(path.name for path in imagenet.iterdir()) == [
        tar_source.DEVKIT, "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
    ]  # fmt: skip


def test_labels_in_a_text_file(create, imagenet):
    (imagenet / tar_source.DEVKIT).unlink()
    with pytest.raises(
        UserError, match=r"ILSVRC2012_img_val.tar has no folders for its classes: put ILSVRC2012_img_val"
    ):
        open_imagenet(create, imagenet)
    text = imagenet / "ILSVRC2012_img_val.txt"
    text.write_text("".join(f"{WORDNET_IDS[i]}\r\n" for i in (0, 1, 2, 0)))
    assert names_of(open_imagenet(create, imagenet).eval_examples) == [(101, 0), (104, 0), (102, 1), (103, 2)]
    text.write_text(WORDNET_IDS[0])
    with pytest.raises(UserError, match=r"has labels for 1 images, .*img_val.tar holds 4: they must agree"):
        open_imagenet(create, imagenet)
    text.write_text("a/b\n" * 4)
    with pytest.raises(UserError, match="names the class 'a/b'"):
        open_imagenet(create, imagenet)


def test_damaged_devkit(create, imagenet):
    devkit = imagenet / tar_source.DEVKIT
    devkit.write_bytes(devkit.read_bytes()[:200])
    with pytest.raises(UserError, match=f"{tar_source.DEVKIT} is damaged .*fetch it again from image-net.org"):
        open_imagenet(create, imagenet)


def test_index_is_kept(create, imagenet, monkeypatch):
    expected = names_of(open_imagenet(create, imagenet).train_examples)
    monkeypatch.setattr(tar_source, "index_tar", None)
    assert names_of(open_imagenet(create, imagenet).train_examples) == expected


@pytest.mark.parametrize("prefix", ["", "./", "around/", "around/./"])
def test_class_folders_inside_a_tar_are_as_on_the_disk(create, tmp_path, prefix):
    folder = fill(tmp_path / "pets", *SPLITS)
    with tarfile.open(tmp_path / "pets.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(folder, arcname=prefix or ".")
    for channels in (1, 3):
        on_disk, inside = (
            create(source=source, eval_split="validation", channels=channels)
            for source in (f"folder:{folder}", f"tar:{tmp_path / 'pets.tar'}")
        )
        assert inside.class_names == on_disk.class_names
        assert inside.version == on_disk.version
        assert names_of(inside.train_examples) == names_of(on_disk.train_examples)
        assert names_of(inside.eval_examples) == names_of(on_disk.eval_examples)


@pytest.mark.parametrize("inside", ["", "train", "around"])
def test_tars_of_splits_may_have_a_folder_around_everything(create, tmp_path, inside):
    folder = fill(tmp_path / "pets", *SPLITS)
    (tmp_path / "tars").mkdir()
    for split in ("train", "val"):
        with tarfile.open(tmp_path / "tars" / f"{split}.tar", "w") as tar:
            tar.add(folder / split, arcname=inside.replace("train", split) or ".")
    on_disk, in_tars = (
        create(source=source, eval_split="validation") for source in (f"folder:{folder}", f"tar:{tmp_path / 'tars'}")
    )
    assert in_tars.class_names == on_disk.class_names == ("Dog", "cat")
    assert names_of(in_tars.eval_examples) == names_of(on_disk.eval_examples)
    with tarfile.open(tmp_path / "tars" / "val.tar", "w"):
        pass
    with pytest.raises(UserError, match=r"val\.tar holds no images"):
        create(source=f"tar:{tmp_path / 'tars'}", eval_split="validation")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_to_images_are_not_left_out(create, tmp_path, kind):
    with tarfile.open(tmp_path / "pets.tar", "w") as tar:
        for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
            content = image_bytes(1)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("b/3.png")
        link.type, link.linkname = kind, "a/1.png"
        tar.addfile(link)
    with pytest.raises(UserError, match=r"the member b/3\.png is a link.*--dereference --hard-dereference"):
        create(source=f"tar:{tmp_path / 'pets.tar'}", eval_split="validation")


def test_every_shortened_tar_is_found(imagenet, tmp_path):
    content = (imagenet / "ILSVRC2012_img_train.tar").read_bytes()
    end = len(content.rstrip(b"\0"))
    path = tmp_path / "short.tar"
    for length in range(0, end, 256):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"short.tar.*: copy .*again|copy a damaged one again"):
            tar_source.index_tar(path)
    with pytest.raises(UserError, match="cannot read"):
        tar_source.index_tar(tmp_path / "none.tar")


def test_damaged_headers_are_found(imagenet, tmp_path):
    """Each header has a checksum; a broken one would be taken for the end."""
    content = (imagenet / "ILSVRC2012_img_train.tar").read_bytes()
    path = tmp_path / "damaged.tar"
    header = content.index(b"n01443537.tar")
    for bit in range(0, 8 * 257, 37):
        damaged = bytearray(content)
        damaged[header + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged.tar"):
            tar_source.index_tar(path)


def test_damaged_member_is_named(create, imagenet):
    path = imagenet / "ILSVRC2012_img_train.tar"
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT", content.index(b"n01443537_1.JPEG"))
    content[start + 6] ^= 1
    path.write_bytes(content)
    dataset = open_imagenet(create, imagenet)
    with pytest.raises(
        DamagedExample, match=r"img_train.tar, member train/n01443537/n01443537_1.JPEG: the image is dam"
    ):
        dataset.train_examples[3]


def test_tars_that_are_not_there(create, tmp_path):
    (tmp_path / "some.tar").write_bytes(tar_bytes({}))
    for path, message in (
        ("", "write it as tar:PATH"),
        (tmp_path / "none.tar", "write it as tar:PATH"),
        (tmp_path, "has no tar named after a split: ILSVRC2012_img_train.tar"),
        (tmp_path / "some.tar", "holds no images"),
    ):
        with pytest.raises(UserError, match=message):
            create(source=f"tar:{path}")


def test_compressed_tar(create, tmp_path):
    path = tmp_path / "some.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(__file__, "a/b.png")
    with pytest.raises(UserError, match=r"no tar that can be read in place .*unpack a compressed one"):
        create(source=f"tar:{path}")
