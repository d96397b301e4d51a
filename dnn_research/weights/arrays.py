"""What every reader of a weight file needs: which numbers are taken, bfloat16 made wide, a limit to memory."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dnn_research.errors import UserError

DTYPES = frozenset(
    np.dtype(name) for name in ("bool", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8")
)

BFLOAT16_BYTES = np.dtype("V2")

# Weights hardly compress, and few tensors share a storage: a file that asks for more than this is no file of weights.
MOST_TIMES_FILE = 16
ALWAYS_ALLOWED_BYTES = 16 * 2**20


def check_dtype(path: Path, name: str, dtype: np.dtype) -> None:
    """Refuses what a network cannot have as parameters.

    NumPy and HDF5 have no bfloat16: theirs are written as two bytes of no kind.
    """
    if dtype != BFLOAT16_BYTES and dtype.newbyteorder("=") not in DTYPES:
        raise UserError(f"{path} is refused: '{name}' holds {dtype}, which is no kind of weight")


def native(array: np.ndarray) -> np.ndarray:
    """`array` in this machine's byte order, bfloat16 as float32."""
    if array.dtype == BFLOAT16_BYTES:
        return from_bfloat16(array.view("<u2"))
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 of the same values: bfloat16 is the upper half of a float32. `bits` are uint16 of any shape."""
    wide = np.array(bits, np.uint32, order="C")
    wide <<= 16
    return wide.view(np.float32)


def check_total(path: Path, num_bytes: int) -> None:
    """Refuses a file whose tensors together would take far more memory than the file takes on disk."""
    size = path.stat().st_size
    if num_bytes > MOST_TIMES_FILE * size + ALWAYS_ALLOWED_BYTES:
        raise UserError(
            f"{path} is refused: it has {size:,} bytes and asks for tensors of {num_bytes:,} bytes, "
            f"over {MOST_TIMES_FILE} times as many"
        )


def named(path: Path, items: Iterable[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """A dictionary of `items`, in which no name may come twice."""
    arrays: dict[str, np.ndarray] = {}
    for name, array in items:
        if name in arrays:
            raise UserError(
                f"{path} has two weights named '{name}'; save the network with a name of its own each layer"
            )
        arrays[name] = array
    return arrays
