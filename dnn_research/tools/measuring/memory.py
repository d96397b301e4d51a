"""The most memory that a process has had resident."""

import re
import resource
import sys
from pathlib import Path


def peak() -> int:
    """Bytes, of this process so far.

    Linux counts in `ru_maxrss` what the process was before it became this program, a copy of its parent; `VmHWM` does
    not.
    """
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    if found:
        return 1024 * int(found[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
