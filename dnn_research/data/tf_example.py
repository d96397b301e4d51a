"""tf.train.Example, of which an image and a label are read: the protocol buffer's wire format, without its library.

    message Example  { Features features = 1; }
    message Features { map<string, Feature> feature = 1; }      an entry is { string key = 1; Feature value = 2; }
    message Feature  { oneof { BytesList = 1; FloatList = 2; Int64List = 3; } }     each { repeated ... value = 1; }

(tensorflow/core/example/example.proto and feature.proto; protobuf.dev, "Encoding".) Parsing only what is needed leaves
the image in one slice and takes a small part of the time that TensorFlow Datasets' own parser takes.
"""

from collections.abc import Iterator

from dnn_research.data.damage import DamagedExample

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10


def image_and_label(example: bytes) -> tuple[bytes, int]:
    """The encoded image in the feature `image` and the number in `label` of a serialized tf.train.Example.

    Raises:
        DamagedExample: the message is damaged, or a feature is missing or not a single value of its kind.
    """
    image, label = None, None
    for features in _messages(example, 0, len(example)):
        for entry in _messages(example, *features):
            key, value = b"", (0, 0)
            for field, wire, start, end in _fields(example, *entry):
                if field == 1 and wire == BYTES:
                    key = example[start:end]
                elif field == 2 and wire == BYTES:
                    value = start, end
            if key == b"image":
                image = _single_bytes(example, *value)
            elif key == b"label":
                label = _single_integer(example, *value)
    if image is None or label is None:
        raise DamagedExample("it has no feature 'image' with one image and 'label' with one number")
    return image, label


def _single_bytes(data: bytes, start: int, end: int) -> bytes | None:
    found = None
    for field, wire, *span in _fields(data, start, end):
        if field == 1 and wire == BYTES:
            values = [data[a:b] for number, kind, a, b in _fields(data, *span) if number == 1 and kind == BYTES]
            found = values[0] if len(values) == 1 else None
    return found


def _single_integer(data: bytes, start: int, end: int) -> int | None:
    found = None
    for field, wire, *span in _fields(data, start, end):
        if field == 3 and wire == BYTES:
            values = []
            for number, kind, first, last in _fields(data, *span):
                # Packed, as proto3 writes numbers, or one by one.
                while number == 1 and kind in (BYTES, VARINT) and first < last:
                    value, first = _varint(data, first, last)
                    values.append(value - (value >> 63 << 64))
            found = values[0] if len(values) == 1 else None
    return found


def _messages(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans of the messages in field 1 of the message between two positions."""
    return ((a, b) for field, wire, a, b in _fields(data, start, end) if field == 1 and wire == BYTES)


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type and span of every field of the message between two positions."""
    while position < end:
        tag, position = _varint(data, position, end)
        wire, start = tag & 7, position
        if wire == BYTES:
            length, start = _varint(data, position, end)
            position = start + length
        elif wire == VARINT:
            _, position = _varint(data, position, end)
        elif wire in (FIXED32, FIXED64):
            position += 4 if wire == FIXED32 else 8
        else:
            raise DamagedExample(f"it is no tf.train.Example (wire type {wire})")
        if position > end:
            raise DamagedExample("it is no tf.train.Example (a field ends after its message)")
        yield tag >> 3, wire, start, position


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and the position after it."""
    value = 0
    for i in range(min(MAX_VARINT_BYTES, end - position)):
        byte = data[position + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + i + 1
    raise DamagedExample("it is no tf.train.Example (a number does not end)")
