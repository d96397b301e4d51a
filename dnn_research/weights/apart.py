"""Reads a file's HDF5 in a process of its own.

The library for HDF5 is made for files that are sound: of some that are damaged inside its parser crashes, hangs or asks
for more memory than there is. What happens to the process that reads is seen from this one, and becomes a line.
"""

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

from dnn_research.errors import UserError, first_line
from dnn_research.weights import keras_file

START_SECONDS, BYTES_A_SECOND = 60, 2**20  # far slower than any disk
SIGNATURE = b"\x89HDF\r\n\x1a\n"
NAMES = "names"


def read(path: Path) -> dict[str, np.ndarray]:
    """The weights of a .keras archive or an HDF5 file, by name, in its order.

    Raises:
        UserError: it is damaged, or what it asks for is refused.
    """
    _check_end(path)
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    size = path.stat().st_size
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dnn_research.weights.apart", str(path.absolute())],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_SECONDS + size / BYTES_A_SECOND,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{path} is damaged: the library for HDF5 does not come to an end with it") from error
    if done.returncode == 1:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UserError(told[-1].replace(str(path.absolute()), str(path)) if told else f"{path} is damaged")
    if done.returncode:
        raise UserError(f"{path} is damaged: the library for HDF5 broke down over it")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        names = json.loads(arrays[NAMES].tobytes())
        return {name: arrays[str(number)] for number, name in enumerate(names)}


def _check_end(path: Path) -> None:
    """Refuses a file that is cut short, which HDF5 says of itself, at no cost."""
    with path.open("rb") as file:
        head = file.read(48)
    if not head.startswith(SIGNATURE) or len(head) < 48:
        return
    # Superblocks of versions 0 and 1 have four addresses from byte 24 or 28 on, those of 2 and 3 from byte 12.
    place = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8], 0)
    wide = head[13] if head[8] < 2 else head[9]
    if (
        place
        and wide == 8
        and len(head) >= place + 8
        and struct.unpack_from("<Q", head, place)[0] > path.stat().st_size
    ):
        raise UserError(f"{path} is damaged or cut short: it ends before it says")


def _main(path: Path) -> int:
    """What the process does: the arrays go to standard output, a refusal to standard error."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found = keras_file.read_zip(path, archive)
        else:
            found = keras_file.read_hdf5(path)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:  # what the library raises on damaged bytes is of every kind
        print(f"{path} is damaged or cut short: {first_line(error)}", file=sys.stderr)
        return 1
    names = np.frombuffer(json.dumps(list(found)).encode(), np.uint8)
    numbered = {str(number): array for number, array in enumerate(found.values())}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{NAMES: names}, **numbered)
    sys.stdout.buffer.write(stream.getbuffer())
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
