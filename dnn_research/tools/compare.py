"""Shows what differs between two runs, and how their metrics moved.

    python -m dnn_research.tools.compare runs/a runs/b [--json]

Config, code revision, data and versions from run.json; the last line of each split, and the best evaluation, from
metrics.jsonl.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnn_research import checkpoint, recipe, record
from dnn_research.arguments import Parser, answer
from dnn_research.tools.curves import read

# What metrics.jsonl says of a split besides its metrics.
ABOUT = ("step", "epoch", "examples", *record.WORDS)
# What describes code, data, what the task read beside them, and machine in run.json; the config is compared by itself.
ENVIRONMENT = ("revision", "versions", "python", "devices", "processes", "num_classes", "task")


def compare(one: Path, other: Path) -> dict[str, Any]:
    """What differs between two work directories, and their metrics side by side.

    Returns:
        `config` and `environment`: key -> `before -> after`; `metrics`: one entry for each split and metric, with the
        steps that the two values are of.

    Raises:
        UserError: a directory holds no run, or nothing was recorded yet.
    """
    before, after = checkpoint.read_run(one), checkpoint.read_run(other)
    return {
        "config": recipe.differences(before["config"], after["config"]),
        "environment": recipe.differences(_environment(before), _environment(after)),
        "metrics": _metrics(read(one), read(other)),
    }


def _environment(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: run[key] for key in ENVIRONMENT if key in run}


def _metrics(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The last values of each split that both have, and the best of each evaluation."""
    entries = []
    for split in dict.fromkeys(line["split"] for line in one):
        before, after = ([line for line in lines if line["split"] == split] for lines in (one, other))
        if not after:
            continue
        for name in before[-1]:
            if name in ABOUT or name not in after[-1]:
                continue
            entries.append(_entry(f"{split}/{name}", before[-1], after[-1], name))
            if name == "top1_accuracy" and split != "train":
                entries.append(_entry(f"{split}/best {name}", _best(before, name), _best(after, name), name))
    return entries


def _best(lines: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return max((line for line in lines if name in line), key=lambda line: line[name])


def _entry(title: str, before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> dict[str, Any]:
    protocols = [line.get("protocol") for line in (before, after)]
    return {
        "metric": title,
        "before": before[name],
        "after": after[name],
        "change": after[name] - before[name],
        "steps": [before["step"], after["step"]],
        "same_protocol": protocols[0] == protocols[1],
    }


def table(found: Mapping[str, Any], one: Path, other: Path) -> str:
    """The comparison as text."""
    lines = [f"before: {one}", f"after:  {other}"]
    for title in ("config", "environment"):
        lines += ["", f"{title}:", *(f"  {key}: {change}" for key, change in found[title].items())]
        if not found[title]:
            lines.append("  the same")
    header = ("metric", "before", "after", "change", "at step")
    body = [
        (
            entry["metric"] + ("" if entry["same_protocol"] else " (other protocol)"),
            f"{entry['before']:.4f}",
            f"{entry['after']:.4f}",
            f"{entry['change']:+.4f}",
            " and ".join(f"{step:,}" for step in dict.fromkeys(entry["steps"])),
        )
        for entry in found["metrics"]
    ]
    widths = [max(len(row[column]) for row in (header, *body)) for column in range(len(header))]
    lines += ["", *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                    for row in (header, *body))]  # fmt: skip
    return "\n".join(lines)


def _finite(value: Any) -> Any:
    """What JSON has no word for, as a loss that is not a number, is null."""
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = Parser(prog="python -m dnn_research.tools.compare", description=__doc__.splitlines()[0])
    parser.add_argument("one", type=Path, metavar="RUN_A", help="work directory of a run")
    parser.add_argument("other", type=Path, metavar="RUN_B", help="work directory of another")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    known = parser.parse_args(arguments)

    def command() -> None:
        found = compare(known.one, known.other)
        print(json.dumps(_finite(found)) if known.json else table(found, known.one, known.other))

    return answer(command, debug=known.debug)


if __name__ == "__main__":
    sys.exit(main())
