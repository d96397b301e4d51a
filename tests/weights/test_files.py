"""Other programs' weight files: real ones come out right, damaged and hostile ones end as one line and do nothing."""

import copyreg
import hashlib
import io
import json
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from dnn_research.errors import UserError
from dnn_research.weights import files

DATA = Path(__file__).parent / "data"  # made by make_files.py


def ramp(shape: tuple[int, ...], start: float) -> np.ndarray:
    """As in make_files.py."""
    return start + np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 4


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """The same names in the same order, dtypes, shapes and numbers; each array is its own and contiguous."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].flags.c_contiguous, name
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


# ------------------------------------------------------------------------------------------------------- torch's files

GRID = ramp((3, 4), 1)
TENSORS = {
    "float64": ramp((2, 3), 0).astype(np.float64),
    "float32": GRID,
    "float16": ramp((2, 2), 2).astype(np.float16),
    "bfloat16": ramp((5,), -1),
    "int64": np.array(7),
    "int32": np.arange(3, dtype=np.int32),
    "int16": np.arange(3, dtype=np.int16),
    "int8": np.arange(-1, 2, dtype=np.int8),
    "uint8": np.arange(253, 256, dtype=np.uint8),
    "bool": np.array([True, False, True]),
    "transposed": GRID.T,
    "column": GRID[:, 1],
    "row": GRID[2],
    "channels_last": ramp((2, 3, 2, 2), 0),
    "bfloat16_transposed": ramp((2, 3), 3).T,
    "expanded": np.broadcast_to(ramp((1, 2), 5), (3, 2)),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(2.5, np.float32),
    "parameter": ramp((2,), 9),
}
STATE_DICT = {
    "0.weight": ramp((3, 2, 2, 2), 0),
    "0.bias": ramp((3,), 1),
    "1.weight": ramp((3,), 2),
    "1.bias": ramp((3,), 3),
    "1.running_mean": ramp((3,), 4),
    "1.running_var": ramp((3,), 5),
    "1.num_batches_tracked": np.array(3),
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_tensors_of_every_kind(form: str):
    assert_same(files.read(DATA / f"tensors.{form}.pth"), TENSORS)


@pytest.mark.parametrize(
    "name",
    [
        *("state_dict.zip", "state_dict.legacy", "state_dict.protocol4", "state_dict.protocol4.legacy"),
        *("training.zip", "training.legacy"),
    ],
)
def test_state_dict_alone_and_beside_epoch_optimizer_and_schedule(name: str):
    assert_same(files.read(DATA / f"{name}.pth"), STATE_DICT)


def test_a_whole_module_is_refused():
    with pytest.raises(UserError, match=r"module\.pth is refused: it asks for 'torch\.nn\.modules\..*state_dict"):
        files.read(DATA / "module.pth")


# Pickles by hand: what each instruction does stands in Python's pickletools.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    raw = pickle.encode_long(value)
    return b"\x8a" + bytes([len(raw)]) + raw


def name_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def numbers(*values: int) -> bytes:
    return tuple_of(*map(number, values))


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + b"R"


def dictionary(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def storage(numel: int = 6, key: str = "0", kind: str = "FloatStorage", *more: bytes) -> bytes:
    return tuple_of(text("storage"), name_of("torch", kind), text(key), text("cpu"), number(numel), *more) + b"Q"


def tensor(
    size: tuple[int, ...] = (2, 3),
    stride: tuple[int, ...] = (3, 1),
    offset: int = 0,
    of: bytes | None = None,
    rebuild: str = "_rebuild_tensor_v2",
) -> bytes:
    arguments = (storage() if of is None else of, number(offset), numbers(*size), numbers(*stride))
    return call(name_of("torch._utils", rebuild), *arguments, b"\x89", dictionary())


def write_zip(
    path: Path,
    root: bytes,
    storages: Mapping[str, bytes] | None = None,
    byte_order: bytes = b"little",
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("any/data.pkl", b"\x80\x02" + root + b".")
        archive.writestr("any/byteorder", byte_order)
        for key, data in ({"0": ramp((6,), 0).tobytes()} if storages is None else storages).items():
            archive.writestr(f"any/data/{key}", data)
    return path


def write_legacy(path: Path, root: bytes, little_endian: bool = True, numel: int = 6) -> Path:
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": little_endian})
    parts = [*(pickle.dumps(part, 2) for part in head), b"\x80\x02" + root + b".", pickle.dumps(["0"], 2)]
    path.write_bytes(b"".join(parts) + struct.pack("<q", numel) + ramp((6,), 0).tobytes())
    return path


def write_zip_or_legacy(path: Path, form: str, root: bytes) -> Path:
    return (write_zip if form == "zip" else write_legacy)(path, root)


both_forms = pytest.mark.parametrize("form", ["zip", "legacy"])


@both_forms
def test_the_forms_of_old_versions(tmp_path: Path, form: str):
    """Parameters in state_dicts, tensors without hooks and views of storages, as until torch 0.4."""
    half = call(
        name_of("torch._utils", "_rebuild_tensor"),
        storage(6, "0", "FloatStorage", tuple_of(text("view"), number(2), number(3))),
        *(number(1), numbers(2), numbers(1)),
    )
    parameter = call(name_of("torch.nn.parameter", "Parameter"), tensor()) + tuple_of(b"\x88", b"\x89", b"N") + b"b"
    pairs = b"](](" + text("view") + half + b"e](" + text("parameter") + parameter + b"ee"
    root = call(name_of("collections", "OrderedDict"), pairs)
    expected = {"view": ramp((6,), 0)[3:5], "parameter": ramp((2, 3), 0)}
    assert_same(files.read(write_zip_or_legacy(tmp_path / "x.pth", form, root)), expected)


@both_forms
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_wrappers_are_taken_off(tmp_path: Path, form: str, wrapper: str):
    root = dictionary(epoch=number(3), **{wrapper: dictionary(w=tensor())}, other=dictionary(v=tensor()))
    assert_same(files.read(write_zip_or_legacy(tmp_path / "x.pth", form, root)), {"w": ramp((2, 3), 0)})


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (dictionary(model=dictionary(w=tensor()), state_dict=dictionary(w=tensor())), "several sets of weights"),
        (dictionary(model=dictionary(w=tensor(), n=number(1))), "holds a dict and no dictionary of tensors"),
        (dictionary(inner=dictionary(w=tensor())), "holds a dict and no dictionary of tensors"),
        (dictionary(), "holds a dict and no dictionary of tensors"),
        (tensor(), "holds one tensor and no dictionary of tensors"),
    ],
)
def test_what_is_no_set_of_weights(tmp_path: Path, root: bytes, message: str):
    with pytest.raises(UserError, match=rf"x\.pth holds.*{message}|x\.pth {message}"):
        files.read(write_zip(tmp_path / "x.pth", root))


SYSTEM = call(name_of("os", "system"), text("touch marker"))
EXTENSION = 240

# Name -> (what the file holds, what the refusal says). Every one runs `touch marker` in Python's own pickle.load.
PROGRAMS: dict[str, tuple[bytes, str]] = {
    "reduce": (SYSTEM, "'os.system'"),
    "the platform's module": (call(name_of("posix", "system"), text("touch marker")), "'posix.system'"),
    "eval": (
        call(name_of("builtins", "eval"), text("__import__('os').system('touch marker')")),
        "'builtins.eval'",
    ),
    "Python 2's eval": (
        call(name_of("__builtin__", "eval"), text("__import__('os').system('touch marker')")),
        "'__builtin__.eval'",
    ),
    "in a state_dict": (dictionary(state_dict=dictionary(a=number(1), w=SYSTEM)), "'os.system'"),
    "beside a state_dict": (dictionary(state_dict=dictionary(w=number(1)), epoch=SYSTEM), "'os.system'"),
    "thrown away": (SYSTEM + b"0" + dictionary(a=number(1)), "'os.system'"),
    "stack global": (text("os") + text("system") + b"\x93" + tuple_of(text("touch marker")) + b"R", "'os.system'"),
    "inst": (b"(" + text("touch marker") + b"ios\nsystem\n", "'os.system'"),
    "obj": (b"(" + name_of("os", "system") + text("touch marker") + b"o", "'os.system'"),
    "state of a dictionary": (
        call(name_of("collections", "OrderedDict")) + dictionary(hook=SYSTEM) + b"b",
        "'os.system'",
    ),
    "a __setstate__ of its own": (
        call(name_of("collections", "OrderedDict"))
        + dictionary(__setstate__=name_of("os", "system"))
        + b"b"
        + text("touch marker")
        + b"b",
        "'os.system'",
    ),
    "an extension of copyreg": (
        b"\x82" + bytes([EXTENSION]) + tuple_of(text("touch marker")) + b"R",
        f"copyreg's extension {EXTENSION}",
    ),
    "an attribute of a name": (
        b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + tuple_of(text("touch marker")) + b"R",
        "'os.path.os.system'",
    ),
}


@pytest.fixture
def extension() -> Iterator[None]:
    """An extension code for os.system, which is also in pickle's cache, as if an earlier file had used it."""
    copyreg.add_extension("os", "system", EXTENSION)
    pickle._Unpickler(io.BytesIO(b"\x80\x02\x82" + bytes([EXTENSION]) + b".")).load()
    yield
    copyreg.remove_extension("os", "system", EXTENSION)


@both_forms
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("extension")
def test_programs_are_refused_by_name_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, name: str
):
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "marker"
    root, message = PROGRAMS[name]
    path = write_zip_or_legacy(tmp_path / "x.pth", form, root)
    with pytest.raises(UserError) as error:
        files.read(path)
    assert f"{path} is refused: it asks for {message}" in str(error.value)
    assert not marker.exists()
    pickle.loads(b"\x80\x02" + root + b".")  # the file is as dangerous as it pretends to be
    assert marker.exists()


DEEP = b")" + b"\x85" * 200_000

# Name -> (what the file holds, what the refusal says): pickles that would make something else than tensors.
REFUSED: dict[str, tuple[bytes, str]] = {
    "a name of torch": (
        dictionary(w=call(name_of("torch.serialization", "load"), text("x"))),
        "torch.serialization.load",
    ),
    "a file in bytes": (
        call(name_of("torch.storage", "_load_from_bytes"), b"C\x01x"),
        "torch.storage._load_from_bytes",
    ),
    "a dotted name": (name_of("torch", "_utils._rebuild_tensor_v2"), "'torch._utils._rebuild_tensor_v2'"),
    "a name through an allowed module": (name_of("torch._utils", "os"), "'torch._utils.os'"),
    "the class of the dictionary": (name_of("collections", "OrderedDict.__class__"), "OrderedDict.__class__"),
    "a storage of no kind": (storage(6, "0", "ComplexFloatStorage"), "'torch.ComplexFloatStorage'"),
    "a text as persistent id": (text("storage") + b"Q", "no storage"),
    "a line as persistent id": (b"Pstorage\n", "no storage"),
    "a persistent id of another kind": (
        tuple_of(text("module"), name_of("torch", "FloatStorage"), text("0"), text("cpu"), number(6)) + b"Q",
        "no storage",
    ),
    "a function as kind of storage": (
        tuple_of(text("storage"), name_of("torch", "Size"), text("0"), text("cpu"), number(6)) + b"Q",
        "no storage",
    ),
    "a storage of two kinds": (tuple_of(storage(), storage(6, "0", "LongStorage")), "two types"),
    "a storage of negative size": (storage(-1), "wrong size"),
    "a storage of absurd size": (storage(2**60), "wrong size"),
    "a view outside of its storage": (
        storage(6, "0", "FloatStorage", tuple_of(text("view"), number(4), number(3))),
        "wrong size",
    ),
    "a tensor of texts": (call(name_of("torch._utils", "_rebuild_tensor_v2"), *[text("x")] * 6), "wrong arguments"),
    "a tensor of nothing": (call(name_of("torch._utils", "_rebuild_tensor_v2")), "wrong arguments"),
    "a size of texts": (
        call(name_of("torch._utils", "_rebuild_tensor_v2"), storage(), number(0), tuple_of(text("2")), numbers(1)),
        "wrong arguments",
    ),
    "a parameter of a text": (call(name_of("torch._utils", "_rebuild_parameter"), text("x")), "a parameter of"),
    "a dictionary of a text": (call(name_of("collections", "OrderedDict"), text("ab")), "makes a dictionary"),
    "a call of a number": (number(3) + b")R", "calls a int"),
    "a call with a list": (name_of("collections", "OrderedDict") + b"]R", "calls a"),
    "the state of a function": (
        name_of("torch._utils", "_rebuild_tensor_v2") + dictionary(x=number(1)) + b"b",
        "state of",
    ),
    "the state of a list": (b"]" + dictionary(x=number(1)) + b"b", "the state of a list"),
    "an object of a class": (name_of("collections", "OrderedDict") + b")\x81", "the instruction b'\\x81'"),
    "an object with keywords": (name_of("collections", "OrderedDict") + b")}\x92", "the instruction b'\\x92'"),
    "a set": (b"\x8f", "the instruction b'\\x8f'"),
    "a bytearray of absurd size": (b"\x96" + struct.pack("<Q", 2**40), "the instruction b'\\x96'"),
    "a buffer": (b"\x97", "the instruction b'\\x97'"),
    "an unknown instruction": (b"\xff", "the instruction b'\\xff'"),
    "a tuple as a key": (b"}" + DEEP + b"Ns", "a tuple as a key"),
    "a tuple as one of the keys": (b"}(" + DEEP + b"Nu", "a tuple as a key"),
    "a tuple as a key of an OrderedDict": (
        call(name_of("collections", "OrderedDict"), b"](](" + DEEP + b"Nee"),
        "a tuple as a key",
    ),
    "an item of a list": (b"]" + number(0) + b"Ns", "an item of a list"),
    "a tensor with more strides than sizes": (tensor((2,), (1, 1)), "cannot be"),
    "a tensor of negative size": (tensor((-2, 3)), "cannot be"),
    "a tensor of negative stride": (tensor((2, 3), (-3, 1), 5), "cannot be"),
    "a tensor of negative offset": (tensor(offset=-1), "cannot be"),
    "a tensor of absurd size": (tensor((2**40, 2**40), (0, 0)), "cannot be"),
    "an empty tensor of absurd size": (tensor((0, 2**62), (1, 1)), "cannot be"),
    "a tensor of 40 dimensions": (tensor((1,) * 40, (1,) * 40), "cannot be"),
    "a tensor over the end": (dictionary(w=tensor((3, 3))), "needs 9 elements of storage '0', which has 6"),
    "a tensor over the end by its offset": (dictionary(w=tensor(offset=1)), "needs 7 elements"),
    "a tensor over the end by its strides": (dictionary(w=tensor((2, 3), (4, 1))), "needs 7 elements"),
    "a tensor over the end by a great stride": (dictionary(w=tensor((2, 3), (2**70, 1))), "elements of storage"),
    "much memory of few bytes": (dictionary(w=tensor((2**35,), (0,))), "asks for tensors of 137,438,953,472 bytes"),
    "much memory in small pieces": (
        dictionary(**{f"w{i}": tensor((2**20,), (0,)) for i in range(8)}),
        "asks for tensors of 33,554,432 bytes",
    ),
    "a conjugate": (
        call(
            name_of("torch._utils", "_rebuild_tensor_v2"),
            *(storage(), number(0), numbers(6), numbers(1), b"\x89", dictionary(), dictionary(conj=b"\x88")),
        ),
        "is marked",
    ),
}


@both_forms
@pytest.mark.parametrize("name", REFUSED)
def test_pickles_that_make_no_tensors_are_refused(tmp_path: Path, form: str, name: str):
    root, message = REFUSED[name]
    path = write_zip_or_legacy(tmp_path / "x.pth", form, root)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as error:
            files.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(error.value).startswith(f"{path} is ") and message in str(error.value)
    assert "\n" not in str(error.value)
    assert peak < 100e6


def test_strides_of_one_and_no_elements_do_not_matter(tmp_path: Path):
    root = dictionary(one=tensor((1, 2), (2**70, 1)), none=tensor((0, 3), (2**70, 2**70), 6))
    expected = {"one": ramp((1, 2), 0), "none": np.zeros((0, 3), np.float32)}
    assert_same(files.read(write_zip(tmp_path / "x.pth", root)), expected)


def test_storages_that_are_too_short_or_missing(tmp_path: Path):
    root = dictionary(w=tensor())
    with pytest.raises(UserError, match=r"x\.pth is damaged: storage '0' has 20 bytes and should have 24"):
        files.read(write_zip(tmp_path / "x.pth", root, {"0": bytes(20)}))
    with pytest.raises(UserError, match=r"x\.pth is damaged: it lacks 'data/0'"):
        files.read(write_zip(tmp_path / "x.pth", root, {"1": bytes(24)}))
    with pytest.raises(UserError, match=r"y\.pth is damaged or cut short: storage '0' ends after the file"):
        files.read(write_legacy(tmp_path / "y.pth", root, numel=2**50))
    with pytest.raises(UserError, match=r"y\.pth is damaged or cut short: storage '0' ends after the file"):
        files.read(write_legacy(tmp_path / "y.pth", root, numel=-1))
    with pytest.raises(UserError, match=r"y\.pth is damaged: storage '0' has 8 bytes and should have 24"):
        files.read(write_legacy(tmp_path / "y.pth", root, numel=2))
    with pytest.raises(UserError, match=r"y\.pth is damaged: it lists a storage that no tensor has"):
        files.read(write_legacy(tmp_path / "y.pth", dictionary(w=tensor(of=storage(6, "1")))))


def test_big_endian_files_are_refused(tmp_path: Path):
    root = dictionary(w=tensor())
    with pytest.raises(UserError, match=r"x\.pth is refused: its byte order is 'big'"):
        files.read(write_zip(tmp_path / "x.pth", root, byte_order=b"big"))
    with pytest.raises(UserError, match=r"y\.pth is refused: its byte order is 'big'"):
        files.read(write_legacy(tmp_path / "y.pth", root, little_endian=False))


def test_compressed_storages_are_refused(tmp_path: Path):
    path = write_zip(tmp_path / "x.pth", dictionary(w=tensor()), {"0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"x\.pth is refused: '.*' is compressed"):
        files.read(path)


def test_a_torchscript_archive_is_refused(tmp_path: Path):
    path = write_zip(tmp_path / "x.pth", dictionary(w=tensor()))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("any/constants.pkl", b"")
    with pytest.raises(UserError, match=r"x\.pth is a TorchScript archive"):
        files.read(path)


# --------------------------------------------------------------------------------------------------------- safetensors


def test_safetensors_come_back_as_written(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    written = {
        "transposed": ramp((2, 3), 0).T,
        "every other": ramp((6,), 0)[::2],
        "big-endian": ramp((2,), 3).astype(">f4"),
        "float16": ramp((2,), 1).astype(np.float16),
        "int64": np.array(5),
        "empty": np.zeros((0, 2), np.float32),
        "bool": np.array([True, False]),
    }
    files.write_safetensors(path, written, {"origin": "a test"})
    found = files.read(path)
    expected = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in written.items()}
    assert_same({name: found[name] for name in expected}, expected)
    assert len(found) == len(expected)
    header = path.read_bytes()
    assert json.loads(header[8 : 8 + struct.unpack_from("<Q", header)[0]])["__metadata__"] == {"origin": "a test"}
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [plain, path]


def test_writing_overwrites_nothing_and_leaves_nothing_half_done(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    path.write_text("mine")
    with pytest.raises(UserError, match=r"x\.safetensors exists already"):
        files.write_safetensors(path, {"w": np.zeros(2)}, {})
    assert path.read_text() == "mine"
    with pytest.raises(UserError, match=r"cannot write .*no/such\.safetensors"):
        files.write_safetensors(tmp_path / "no" / "such.safetensors", {"w": np.zeros(2)}, {})
    with pytest.raises(UserError, match=r"cannot write .*y\.safetensors"):
        files.write_safetensors(tmp_path / "y.safetensors", {"w": np.array(["text"])}, {})
    assert list(tmp_path.iterdir()) == [path]


def write_raw_safetensors(path: Path, header: Mapping[str, object], data: bytes) -> Path:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_safetensors_of_other_programs(tmp_path: Path):
    """In the order of the file, with bfloat16."""
    header = {
        "z": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "a": {"dtype": "F32", "shape": [], "data_offsets": [4, 8]},
    }
    data = bytes([0x80, 0x3F, 0x20, 0xC0]) + np.float32(7).tobytes()
    expected = {"z": np.array([1, -2.5], np.float32), "a": np.array(7, np.float32)}
    assert_same(files.read(write_raw_safetensors(tmp_path / "x", header, data)), expected)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}, "'w' holds F8_E4M3"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 16]}, "damaged or cut short"),
        ({"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]}, "damaged or cut short"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}, "damaged or cut short"),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "damaged or cut short"),
    ],
)
def test_wrong_safetensors(tmp_path: Path, entry: Mapping[str, object], message: str):
    with pytest.raises(UserError, match=rf"{tmp_path}/x is .*{message}"):
        files.read(write_raw_safetensors(tmp_path / "x", {"w": entry}, bytes(8)))


# --------------------------------------------------------------------------------------------------------------- NumPy


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Callable[..., None]):
    path = tmp_path / "x"
    bits = np.array([0x3F80], np.uint16).view("V2")
    with path.open("wb") as file:
        save(file, b=ramp((2, 3), 0).T, a=np.array(3), big=ramp((2,), 0).astype(">f8"), bfloat16=bits)
    expected = {"b": ramp((2, 3), 0).T, "a": np.array(3), "big": ramp((2,), 0).astype(np.float64)}
    found = files.read(path)
    assert_same({name: np.ascontiguousarray(found[name]).reshape(found[name].shape) for name in expected}, expected)
    assert_same({"bfloat16": found["bfloat16"]}, {"bfloat16": np.ones(1, np.float32)})
    assert list(found) == [*expected, "bfloat16"]


class Touch:
    def __reduce__(self):
        return os.system, ("touch marker",)


def test_npz_of_objects_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", w=np.array([Touch()], object))
    with pytest.raises(UserError, match=r"x\.npz is refused: 'w' holds object"):
        files.read(tmp_path / "x.npz")
    np.savez("x.npz", w=np.array(["text"]))
    with pytest.raises(UserError, match=r"x\.npz is refused: 'w' holds <U4"):
        files.read(tmp_path / "x.npz")
    assert not Path("marker").exists()


@pytest.mark.parametrize("num_bytes", [200_000_000, 10**14])
def test_npz_that_unpacks_to_far_more_is_refused(tmp_path: Path, num_bytes: int):
    path = tmp_path / "x.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (num_bytes,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", header.getvalue() + bytes(2**20))
    with pytest.raises(UserError, match=rf"x\.npz is refused: .* asks for tensors of {num_bytes:,} bytes"):
        files.read(path)


# ----------------------------------------------------------------------------------------------------- Keras and Caffe

KERAS = {
    "z_conv/kernel": ramp((2, 2, 1, 2), 0),
    "z_conv/bias": ramp((2,), 1),
    **{
        f"conv1_bn/{name}": ramp((2,), place)
        for place, name in enumerate(("gamma", "beta", "moving_mean", "moving_variance"))
    },
    "dw/kernel": ramp((2, 2, 2, 1), 0),
    "dw/bias": ramp((2,), 1),
    "a_conv/kernel": ramp((1, 1, 2, 2), 0),
    "predictions/kernel": ramp((2, 3), 0),
    "predictions/bias": ramp((3,), 1),
}
NESTED = {
    "sep/depthwise_kernel": ramp((1, 1, 1, 1), 0),
    "sep/pointwise_kernel": ramp((1, 1, 1, 2), 1),
    "sep/bias": ramp((2,), 2),
    "in/kernel": ramp((2, 2), 3),
    "in/bias": ramp((2,), 4),
    **{f"a_bn/{name}": ramp((2,), place) for place, name in enumerate(("beta", "moving_mean", "moving_variance"))},
    "out/kernel": ramp((2, 2), 0),
    "out/bias": ramp((2,), 1),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("keras_3.15.1.keras", KERAS),
        ("keras_3.15.1.h5", KERAS),
        ("keras_3.0.5.keras", KERAS),
        ("keras_3.0.5.h5", KERAS),
        ("nested_3.15.1.keras", NESTED),
        ("nested_3.15.1.h5", NESTED),
        ("nested_3.0.5.keras", NESTED),
    ],
)
def test_keras_in_the_order_of_the_layers(name: str, expected: Mapping[str, np.ndarray]):
    assert_same(files.read(DATA / name), expected)


def test_weights_alone_of_keras_3():
    """In the order of the groups; before Keras put the layers' names in, nobody can know them."""
    found = files.read(DATA / "keras_3.15.1.weights.h5")
    assert_same({name: found[name] for name in KERAS}, KERAS)
    assert len(found) == len(KERAS)
    with pytest.raises(
        UserError, match=r"weights\.h5 does not say which layer '.*' is; save the model as \.keras or as \.h5"
    ):
        files.read(DATA / "keras_3.0.5.weights.h5")


def write_keras_3(path: Path, group: str, shapes: list[tuple[int, ...]], name: str = "layer") -> Path:
    with h5py.File(path, "w") as file:
        variables = file.create_group(f"layers/{group}/vars")
        variables.attrs["name"] = name
        for place, shape in enumerate(shapes):
            variables[str(place)] = ramp(shape, place)
    return path


def test_variables_that_nobody_can_name(tmp_path: Path):
    with pytest.raises(UserError, match="3 variables in layer 'bn' of kind 'batch_normalization'"):
        files.read(write_keras_3(tmp_path / "x.h5", "batch_normalization_2", [(2,)] * 3, "bn"))
    with pytest.raises(UserError, match="1 variables in layer 'mine' of kind 'my_layer'"):
        files.read(write_keras_3(tmp_path / "x.h5", "my_layer", [(2,)], "mine"))
    with pytest.raises(UserError, match="variables in '/layers/bidirectional/forward'"):
        files.read(write_keras_3(tmp_path / "x.h5", "bidirectional/forward", [(2,)]))


def test_a_random_state_is_no_weight(tmp_path: Path):
    path = write_keras_3(tmp_path / "x.h5", "dense", [(2, 3), (3,)], "fc")
    with h5py.File(path, "a") as file:
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
        file["optimizer/vars/0"] = np.zeros(2, np.float32)
    assert_same(files.read(path), {"fc/kernel": ramp((2, 3), 0), "fc/bias": ramp((3,), 1)})


def write_legacy_keras(path: Path, layers: Mapping[str, Mapping[str, np.ndarray]], root: str = "/") -> Path:
    """As Keras 1 and 2 do: `layers` is layer -> weight name -> array."""
    with h5py.File(path, "w") as file:
        top = file.require_group(root)
        top.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in weights], "S")
            for name, array in weights.items():
                group[name] = array
    return path


@pytest.mark.parametrize("root", ["/", "model_weights"])
def test_keras_2(tmp_path: Path, root: str):
    w = [ramp((2,), place) for place in range(9)]
    stored = {
        "z_conv": {"z_conv/kernel:0": w[0], "z_conv/bias:0": w[1]},
        "relu": {},
        "conv_dw_1": {"conv_dw_1/depthwise_kernel:0": w[2]},
        "sep": {"sep/depthwise_kernel:0": w[3], "sep/pointwise_kernel:0": w[4]},
        "twice": {"twice_1/kernel:0": w[5]},
        "inner": {"a/kernel:0": w[6], "b/kernel:0": w[7]},
        "block/slash": {"block/slash/gamma:0": w[8].astype(">f4")},
    }
    names = ["z_conv/kernel", "z_conv/bias", "conv_dw_1/kernel", "sep/depthwise_kernel", "sep/pointwise_kernel"]
    names += ["twice/kernel", "a/kernel", "b/kernel", "block/slash/gamma"]
    assert_same(files.read(write_legacy_keras(tmp_path / "x.h5", stored, root)), dict(zip(names, w, strict=True)))


def test_keras_1(tmp_path: Path):
    w = [ramp((2,), place) for place in range(6)]
    stored = {
        "block1_conv1": {"block1_conv1_W_1:0": w[0], "block1_conv1_b_1:0": w[1]},
        "bn": {"bn_gamma": w[2], "bn_beta": w[3], "bn_running_mean": w[4], "bn_running_std": w[5]},
    }
    names = ["block1_conv1/kernel", "block1_conv1/bias", "bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"]
    assert_same(files.read(write_legacy_keras(tmp_path / "x.h5", stored)), dict(zip(names, w, strict=True)))


def test_lists_of_names_that_are_too_long_for_one_attribute(tmp_path: Path):
    path = write_legacy_keras(tmp_path / "x.h5", {name: {f"{name}/kernel:0": ramp((2,), 0)} for name in "cab"})
    with h5py.File(path, "a") as file:
        del file.attrs["layer_names"]
        file.attrs["layer_names0"] = [b"c", b"a"]
        file.attrs["layer_names1"] = [b"b"]
    assert list(files.read(path)) == ["c/kernel", "a/kernel", "b/kernel"]


def test_caffe(tmp_path: Path):
    path = tmp_path / "x.caffemodel.h5"
    with h5py.File(path, "w") as file:
        for place, name in enumerate(["conv1/7x7_s2/0", "conv1/7x7_s2/1", "conv2/0", "conv10/0"]):
            file[f"data/{name}"] = ramp((2,), place)
        file.create_group("data/relu1")
        file["diff/conv2/0"] = ramp((2,), 9)
    names = ["conv1/7x7_s2/0", "conv1/7x7_s2/1", "conv2/0", "conv10/0"]
    assert_same(files.read(path), {name: ramp((2,), place) for place, name in enumerate(names)})


def test_two_weights_of_one_name(tmp_path: Path):
    path = write_legacy_keras(tmp_path / "x.h5", {"m": {"a/x/kernel": ramp((2,), 0), "b/x/kernel": ramp((2,), 1)}})
    with pytest.raises(UserError, match=r"x\.h5 has two weights named 'x/kernel'"):
        files.read(path)


def external_link(file: h5py.File, secret: Path) -> None:
    file["layers/dense/vars/0"] = h5py.ExternalLink(str(secret), "/secret")


def soft_link(file: h5py.File, secret: Path) -> None:
    file["layers/dense/vars/0"] = h5py.SoftLink("/optimizer/vars/0")


def external_storage(file: h5py.File, secret: Path) -> None:
    file["layers/dense/vars"].create_dataset("0", (8,), "u1", external=[(str(secret), 0, 8)])


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "secret", (2,))
    file["layers/dense/vars"].create_virtual_dataset("0", layout)


def groups_shared_by_groups(file: h5py.File, secret: Path) -> None:
    """Few bytes, no circle, and 10 to the power of 10 ways to go."""
    inner = file["layers/dense"]
    for level in range(10):
        outer = file.create_group(f"level{level}")
        for place in range(10):
            outer[f"layers/x{place}"] = inner
        inner = outer
    file["layers/outer"] = inner


def many_bytes_of_none(file: h5py.File, secret: Path) -> None:
    file["layers/dense/vars"].create_dataset("0", (10**12,), "f4", chunks=(1000,))


def text_as_weight(file: h5py.File, secret: Path) -> None:
    file["layers/dense/vars/0"] = "text"


def a_group_in_itself(file: h5py.File, secret: Path) -> None:
    file["layers/dense/layers"] = file["layers"]


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (external_link, "is a link to somewhere else"),
        (soft_link, "is a link to somewhere else"),
        (external_storage, "is kept in another file"),
        (virtual, "is kept in another file"),
        (many_bytes_of_none, "asks for tensors of 4,000,000,000,000 bytes"),
        (text_as_weight, "'fc/kernel' holds object, which is no kind of weight"),
        (groups_shared_by_groups, "more than 10,000 groups and arrays"),
        (a_group_in_itself, "nested more than 16 deep"),
    ],
)
def test_hdf5_that_reaches_beyond_itself(tmp_path: Path, put: Callable[[h5py.File, Path], None], message: str):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["secret"] = ramp((2,), 0)
    path = write_keras_3(tmp_path / "x.h5", "dense", [], "fc")
    with h5py.File(path, "a") as file:
        file["optimizer/vars/0"] = ramp((2,), 0)
        put(file, secret)
    with pytest.raises(UserError, match=rf"x\.h5 is refused: .*{message}"):
        files.read(path)


def test_keras_archive_that_is_compressed(tmp_path: Path):
    with zipfile.ZipFile(DATA / "keras_3.15.1.keras") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(UserError, match=r"x\.keras is refused: 'config\.json' is compressed"):
        files.read(tmp_path / "x.keras")


# ----------------------------------------------------------------------------------------------------------- all files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is of no known format; known: torch"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is of no known format; known: torch"),
        (pickle.dumps({"w": 1}), "is a plain pickle"),
        (b"PK\x05\x06" + bytes(18), "is a zip archive of no known format"),
    ],
)
def test_unknown_formats(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.pth {message}"):
        files.read(path)


def test_what_is_not_there_or_has_nothing(tmp_path: Path):
    with pytest.raises(UserError, match=r"there is no file .*nothing"):
        files.read(tmp_path / "nothing")
    with pytest.raises(UserError, match="there is no file"):
        files.read(tmp_path)
    with pytest.raises(UserError, match=r"x\.h5 holds no weights"):
        files.read(write_legacy_keras(tmp_path / "x.h5", {"relu": {}}))
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["else"] = ramp((2,), 0)
    with pytest.raises(UserError, match=r"y\.h5 is HDF5 and neither of Keras nor of Caffe"):
        files.read(tmp_path / "y.h5")


def samples(folder: Path) -> dict[str, bytes]:
    """One small file of each format."""
    files.write_safetensors(folder / "s", STATE_DICT, {})
    np.savez(folder / "n.npz", **STATE_DICT)
    paths = {"safetensors": folder / "s", "npz": folder / "n.npz"}
    paths |= {name: DATA / name for name in ("tensors.zip.pth", "tensors.legacy.pth", "state_dict.protocol4.pth")}
    return {name: path.read_bytes() for name, path in paths.items()}


def test_every_file_that_is_cut_short_is_refused(tmp_path: Path):
    content = samples(tmp_path)
    content |= {name: (DATA / name).read_bytes() for name in ("keras_3.15.1.h5", "keras_3.15.1.keras")}
    path = tmp_path / "cut"
    for data in content.values():
        for length in {*range(0, len(data), len(data) // 97), *range(len(data) - 60, len(data), 7), len(data) - 1}:
            path.write_bytes(data[:length])
            with pytest.raises(UserError, match=str(path)):
                files.read(path)


def test_wrong_bytes_never_end_otherwise_than_in_a_line(tmp_path: Path):
    """1,500 files with a few bytes changed: each is read or refused; how HDF5 is parsed is the library's matter."""
    draw = random.Random(7)
    path = tmp_path / "wrong"
    outcomes = {"read": 0, "refused": 0}
    for data in samples(tmp_path).values():
        for _ in range(300):
            wrong = bytearray(data)
            for _ in range(draw.randint(1, 4)):
                wrong[draw.randrange(len(wrong))] = draw.randrange(256)
            path.write_bytes(wrong)
            try:
                found = files.read(path)
            except UserError as error:
                outcomes["refused"] += str(path) in str(error) and "\n" not in str(error)
            else:
                outcomes["read"] += sum(array.nbytes for array in found.values()) < 20e6
    assert sum(outcomes.values()) == 1500 and min(outcomes.values()) > 100


def test_sha256(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"weights" * 100_000)
    assert files.sha256(path) == hashlib.sha256(b"weights" * 100_000).hexdigest()
