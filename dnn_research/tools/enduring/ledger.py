"""The ledger of a soak: a line for each fault and for each run that was finished, kept on the disk as it grows."""

import collections
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dnn_research.errors import UserError, first_line, parse_json

HEADER = ("fault", "times", "how the process ended", "at most repeated", "held")
STATUSES = {0: "done", 1: "one line, 1", 75: "saved, 75", 130: "saved, 130", -9: "killed"}


class Ledger:
    """Lines of `ledger.jsonl`.

    The first names what is soaked. A fault is {"fault", "number", "lap", "hit", "status", "what", "repeated",
    "wrong"}: `repeated` is how many recorded steps were done again after it, `wrong` what was not as it must be. The
    end of a lap, a run from nothing to its end, is {"lap", "differs"}.

    Raises:
        UserError: the file is of another soak.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        self._lines: list[dict[str, Any]] = []
        if path.exists():
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            try:
                first, *self._lines = [parse_json(line) for line in whole] or [dict(about)]
            except ValueError as error:
                raise UserError(f"{path} is damaged ({first_line(error)}); give another --workdir") from error
            if first != dict(about):
                raise UserError(f"{path} is of another soak ({first}, here {dict(about)}); give another --workdir")
            path.write_text("".join(whole) or json.dumps(first) + "\n")
        else:
            self._append(about)

    def add(self, line: Mapping[str, Any]) -> None:
        """Writes a line."""
        self._lines.append(dict(line))
        self._append(line)

    @property
    def count(self) -> int:
        """Faults that were done to a run that was not at its end yet."""
        return sum(line["hit"] for line in self._faults)

    @property
    def tried(self) -> int:
        """The number of the next fault."""
        return len(self._faults)

    @property
    def laps(self) -> int:
        """Runs that were finished and compared."""
        return len(self._lines) - len(self._faults)

    @property
    def held(self) -> bool:
        """Whether all was as it must be."""
        return not any(line.get("wrong") or line.get("differs") for line in self._lines)

    def table(self) -> str:
        """Fault by fault: how often, how the process ended, the most steps that were done again, and what held."""
        groups: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        for line in self._faults:
            if line["hit"]:
                groups[line["fault"]].append(line)
        rows = [HEADER]
        for fault, lines in sorted(groups.items(), key=lambda group: -len(group[1])):
            ends = collections.Counter(STATUSES.get(line["status"], str(line["status"])) for line in lines)
            held = sum(not line["wrong"] for line in lines)
            ended = ", ".join(f"{end}: {count}" for end, count in ends.most_common())
            repeated = max(line["repeated"] for line in lines)
            rows.append((fault, f"{len(lines):,}", ended, f"{repeated} steps", f"{held:,} of {len(lines):,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        ended = [line for line in self._lines if "differs" in line]
        same = sum(not line["differs"] for line in ended)
        text.append(
            f"{self.count:,} faults in {len(ended):,} runs; bit for bit as undisturbed: {same:,} of {len(ended):,}"
        )
        text += [f"NOT HELD: {json.dumps(line)}" for line in self._lines if line.get("wrong") or line.get("differs")]
        return "\n".join(text)

    @property
    def _faults(self) -> list[dict[str, Any]]:
        return [line for line in self._lines if "fault" in line]

    def _append(self, line: Mapping[str, Any]) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
