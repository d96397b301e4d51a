"""Files of torch.save, read without torch: the zip archive (torch 1.6 and newer) and the stream of pickles before it.

Both hold one pickle that names storages, and the storages' bytes. A pickle is a program; the interpreter here knows the
few instructions and the few names with which torch writes tensors, makes plain records of them, and refuses all else.
Nothing of the file is ever run, imported or looked up by name. A tensor must lie inside its storage, and only those of
the one dictionary that is wanted are copied.

Differs from torch.load: complex, quantized, sparse and float8 tensors, files of big-endian machines, TorchScript
archives and whole modules are refused.
"""

import collections
import dataclasses
import io
import math
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dnn_research.errors import UserError
from dnn_research.weights import arrays

MAGIC = 0x1950A86A20F9469CFC6C  # begins the pickles before torch 1.6
PROTOCOL = 1001  # follows it

BFLOAT16 = "bfloat16"

# Storage class of torch -> how its numbers stand in the file (all little-endian).
STORAGES: dict[str, str] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "bool",
}

# Keys under which training programs put the weights beside the epoch, the optimizer and the rest.
WRAPPERS = ("state_dict", "model_state_dict", "model")

# Instructions of pickle that make what no state_dict has: sets, objects by their class, buffers.
REFUSED_INSTRUCTIONS = frozenset(
    instruction[0]
    for instruction in (
        *(pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS, pickle.DICT, pickle.NEWOBJ, pickle.NEWOBJ_EX),
        *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    )
)

MOST_DIMENSIONS = 32  # NumPy takes 64, torch files have up to 5
MOST_ELEMENTS = 2**48


class _Dictionary(dict[Any, Any]):
    """What the file calls an OrderedDict."""


@dataclasses.dataclass(frozen=True)
class _StorageType:
    dtype: str

    @property
    def itemsize(self) -> int:
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True)
class _Storage:
    """`numel` elements of the storage `key`, from its element `start`."""

    type: _StorageType
    key: str
    start: int
    numel: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage, known to lie inside it. Offset and strides count elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.size) * self.storage.type.itemsize


def is_zip(names: Iterable[str]) -> bool:
    """Whether a zip archive with these entries is a file of torch."""
    return any(name.endswith("/data.pkl") for name in names)


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins like this is a stream of pickles by torch."""
    return head[:1] == b"\x80" and MAGIC.to_bytes(10, "little") in head[:32]


def read_zip(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The tensors of a file of torch 1.6 and newer, by name; the archive's top folder may have any name."""
    entries = {info.filename: info for info in archive.infolist()}
    top = next(name for name in entries if name.endswith("/data.pkl")).removesuffix("data.pkl")

    def entry(name: str) -> bytes:
        info = entries.get(f"{top}{name}")
        if info is None:
            raise UserError(f"{path} is damaged: it lacks '{name}'")
        if info.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{path} is refused: '{name}' is compressed, which torch never does")
        if max(info.compress_size, info.file_size) > path.stat().st_size:
            raise UserError(f"{path} is damaged or cut short: '{name}' would be longer than the file")
        return archive.read(info)

    if f"{top}constants.pkl" in entries:
        raise UserError(f"{path} is a TorchScript archive; save the weights alone: torch.save(model.state_dict(), ...)")
    if f"{top}byteorder" in entries and (order := entry("byteorder")) != b"little":
        _refuse_byte_order(path, order.decode("ascii", "replace"))
    unpickler = _Unpickler(path, io.BytesIO(entry("data.pkl")))
    tensors = _tensors(path, unpickler.load())
    return _copied(path, tensors, lambda storage: entry(f"data/{storage.key}"))


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file before torch 1.6 (or written with `_use_new_zipfile_serialization=False`), by name."""
    # A map, unlike a file, never allocates more than is there for the length that a pickle claims.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        magic, protocol, system = (_Unpickler(path, stream).load() for _ in range(3))
        if magic != MAGIC or protocol != PROTOCOL or not isinstance(system, dict):
            raise UserError(f"{path} is damaged: it begins like a file of torch before 1.6 and goes on otherwise")
        if system.get("little_endian") is not True:
            _refuse_byte_order(path, "big")
        unpickler = _Unpickler(path, stream)
        tensors = _tensors(path, unpickler.load())
        keys = _Unpickler(path, stream).load()
        if not isinstance(keys, list):
            raise UserError(f"{path} is damaged: no list of its storages follows its tensors")
        spans: dict[str, tuple[int, int]] = {}
        position = stream.tell()
        for key in keys:
            if not isinstance(key, str) or key not in unpickler.storage_types:
                raise UserError(f"{path} is damaged: it lists a storage that no tensor has")
            (numel,) = struct.unpack_from("<q", stream, position)
            end = position + 8 + numel * unpickler.storage_types[key].itemsize
            if numel < 0 or end > len(stream):
                raise UserError(f"{path} is damaged or cut short: storage '{key}' ends after the file")
            spans[key] = (position + 8, end)
            position = end

        def span(storage: _Storage) -> bytes:
            if storage.key not in spans:
                raise UserError(f"{path} is damaged: it lacks storage '{storage.key}'")
            return stream[slice(*spans[storage.key])]

        return _copied(path, tensors, span)


def _refuse_byte_order(path: Path, order: str) -> NoReturn:
    raise UserError(f"{path} is refused: its byte order is '{order}'; save it again on a little-endian machine")


def _tensors(path: Path, root: Any) -> Mapping[str, _Tensor]:
    """The one flat dictionary of tensors that the file holds, at its root or in a wrapper."""
    if (tensors := _flat(root)) is not None:
        return tensors
    found = {key: inner for key in WRAPPERS if isinstance(root, dict) and (inner := _flat(root.get(key))) is not None}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UserError(f"{path} holds several sets of weights ({', '.join(found)}); save the one that is meant alone")
    kind = {_Tensor: "one tensor", _Dictionary: "a dictionary"}.get(type(root), f"a {type(root).__name__}")
    raise UserError(
        f"{path} holds {kind} and no dictionary of tensors; save it with torch.save(model.state_dict(), ...)"
    )


def _flat(value: Any) -> Mapping[str, _Tensor] | None:
    if not isinstance(value, dict) or not value:
        return None
    tensors = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, _Tensor)}
    return tensors if len(tensors) == len(value) else None


def _copied(path: Path, tensors: Mapping[str, _Tensor], load: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    """Every tensor as an array of its own; `load` gives the bytes of a storage."""
    arrays.check_total(path, sum(tensor.num_bytes for tensor in tensors.values()))
    of_storage: dict[str, list[str]] = collections.defaultdict(list)
    for name, tensor in tensors.items():
        of_storage[tensor.storage.key].append(name)
    copied: dict[str, np.ndarray] = {}
    for names in of_storage.values():
        data = load(tensors[names[0]].storage)
        for name in names:
            copied[name] = _copy(path, tensors[name], data)
    return {name: copied[name] for name in tensors}


def _copy(path: Path, tensor: _Tensor, data: bytes) -> np.ndarray:
    storage, itemsize = tensor.storage, tensor.storage.type.itemsize
    end = (storage.start + storage.numel) * itemsize
    if end > len(data):
        raise UserError(f"{path} is damaged: storage '{storage.key}' has {len(data):,} bytes and should have {end:,}")
    stored = {BFLOAT16: "<u2", "bool": "u1"}.get(storage.type.dtype, storage.type.dtype)
    elements = np.frombuffer(data, stored, count=storage.numel, offset=storage.start * itemsize)
    if 0 in tensor.size:
        view = np.empty(tensor.size, stored)
    else:
        strides = [stride * itemsize for stride in tensor.stride]
        view = np.lib.stride_tricks.as_strided(elements[tensor.offset :], tensor.size, strides, writeable=False)
    if storage.type.dtype == BFLOAT16:
        return arrays.from_bfloat16(view)
    if storage.type.dtype == "bool":
        return np.array(view != 0)
    return np.array(view, np.dtype(stored).newbyteorder("="), order="C")


class _Dispatch(dict[int, Callable[[Any], None]]):
    """What to do for each instruction; for one that is not there, to refuse it."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        return lambda unpickler: unpickler.refuse_instruction(code)


class _Unpickler(pickle._Unpickler):
    """An interpreter of the pickles that torch.save writes: it makes numbers, strings, lists, tuples, dictionaries and
    records of tensors, and nothing else.

    It is Python's own interpreter, the one written in Python, with the instructions that could do more taken out or
    replaced. The one in C, whose instructions cannot be replaced, would ask the process-wide registry of copyreg, set
    attributes of whatever BUILD is given, hash keys of any depth and allocate a memo of any size.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, path: Path, stream: Any) -> None:
        super().__init__(stream, encoding="utf-8")  # strings of Python 2
        self.path = path
        self.storage_types: dict[str, _StorageType] = {}
        self.known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): self._dictionary,
            ("collections", "Counter"): self._dictionary,  # of learning rate schedules
            ("torch", "Size"): self._size,
            ("torch._utils", "_rebuild_tensor"): self._tensor,  # before torch 0.4
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch.nn.parameter", "Parameter"): self._parameter,  # before torch 0.4
            **{("torch", name): _StorageType(dtype) for name, dtype in STORAGES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise UserError(
                f"{self.path} is refused: it asks for '{module}.{name}', which is no tensor; "
                "save the weights alone: torch.save(model.state_dict(), ...)"
            )
        return self.known[module, name]

    def get_extension(self, code: int) -> NoReturn:
        raise UserError(f"{self.path} is refused: it asks for copyreg's extension {code}, which is no tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType() as kind, str(key), str(), int(numel), *view) if type(pid) is tuple:
                pass
            case _:
                raise UserError(f"{self.path} is refused: it asks for an object outside of it that is no storage")
        if self.storage_types.setdefault(key, kind) != kind:
            raise UserError(f"{self.path} is refused: storage '{key}' has two types")
        match view:
            case [] | [None] if 0 <= numel <= MOST_ELEMENTS:
                return _Storage(kind, key, 0, numel)
            case [(str(), int(start), int(length))] if 0 <= start <= start + length <= numel <= MOST_ELEMENTS:
                return _Storage(kind, key, start, length)
        raise UserError(f"{self.path} is refused: storage '{key}' has a wrong size")

    def _dictionary(self, *arguments: Any) -> _Dictionary:
        """OrderedDict(), OrderedDict([[key, value], ...]) of Python 2, or Counter({...})."""
        match arguments:
            case ():
                return _Dictionary()
            case (dict() as content,):
                return _Dictionary(content)
            case (list() as pairs,) if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
                for key, _ in pairs:
                    self._check_key(key)
                return _Dictionary(pairs)
        raise UserError(f"{self.path} is refused: it makes a dictionary of something else")

    def _size(self, *arguments: Any) -> tuple[int, ...]:
        match arguments:
            case (list() | tuple() as sizes,) if all(type(size) is int for size in sizes):
                return tuple(sizes)
        raise UserError(f"{self.path} is refused: a torch.Size of something else than numbers")

    def _parameter(self, *arguments: Any) -> _Tensor:
        match arguments:
            case (_Tensor() as tensor, *_):
                return tensor
        raise UserError(f"{self.path} is refused: a parameter of something else than a tensor")

    def _tensor(self, *arguments: Any) -> _Tensor:
        """A tensor of (storage, offset, size, stride, ...), once it is sure that it lies inside the storage."""
        match arguments:
            case (_Storage() as storage, int(offset), tuple(size), tuple(stride), *more) if all(
                type(number) is int for number in (offset, *size, *stride)
            ):
                pass
            case _:
                raise UserError(f"{self.path} is refused: a tensor is made of the wrong arguments")
        if len(more) > 2 and more[2]:
            raise UserError(f"{self.path} is refused: a tensor is marked {more[2]}: only plain ones are read")
        if (
            len(size) != len(stride)
            or len(size) > MOST_DIMENSIONS
            or offset < 0
            or any(number < 0 for number in (*size, *stride))
            or math.prod(max(number, 1) for number in size) > MOST_ELEMENTS
        ):
            shown = f"size {size[:8]}, strides {stride[:8]} and offset {offset}"
            raise UserError(f"{self.path} is refused: a tensor of {shown} cannot be")
        stride = tuple(step if length > 1 else 0 for length, step in zip(size, stride, strict=True))
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if 0 not in size and last >= storage.numel:
            raise UserError(
                f"{self.path} is damaged: a tensor of size {size} needs {last + 1:,} elements "
                f"of storage '{storage.key}', which has {storage.numel:,}"
            )
        return _Tensor(storage, offset, size, stride)

    def _check_key(self, key: Any) -> None:
        if type(key) not in (str, int, float, bool, bytes, type(None)):
            raise UserError(f"{self.path} is refused: it has a dictionary with a {type(key).__name__} as a key")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set_items(self.stack[-1], items)

    def _set_items(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict):
            raise UserError(f"{self.path} is refused: it sets an item of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._check_key(key)
            target[key] = value

    def load_build(self) -> None:
        """A dictionary's attributes (such as `_metadata`) and a parameter's `requires_grad` are not wanted."""
        self.stack.pop()
        if not isinstance(self.stack[-1], (_Dictionary, _Tensor)):
            raise UserError(f"{self.path} is refused: it sets the state of a {type(self.stack[-1]).__name__}")

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(arguments) is not tuple or not callable(function):
            raise UserError(f"{self.path} is refused: it calls a {type(function).__name__}")
        self.stack.append(function(*arguments))

    def refuse_instruction(self, code: int) -> NoReturn:
        raise UserError(
            f"{self.path} is refused: its pickle has the instruction {bytes([code])!r}, which no tensor needs"
        )

    dispatch = _Dispatch(
        {code: load for code, load in pickle._Unpickler.dispatch.items() if code not in REFUSED_INSTRUCTIONS}
        | {
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
            pickle.BUILD[0]: load_build,
            pickle.REDUCE[0]: load_reduce,
        }
    )
