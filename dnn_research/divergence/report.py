"""The report on a divergence: `divergence.json`, with everything, and `divergence.md`, to read."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Layers before and after the first that is not finite that the text shows.
AROUND = 12


def write(found: Mapping[str, Any], workdir: Path) -> None:
    """Writes both files, whole or not at all."""
    for name, text in (
        ("divergence.json", json.dumps(_plain(found), indent=1, allow_nan=False)),
        ("divergence.md", markdown(found)),
    ):
        temporary = workdir / f"{name}.tmp"
        temporary.write_text(text)
        temporary.replace(workdir / name)


def markdown(found: Mapping[str, Any]) -> str:
    """The report as text."""
    what = "evaluation after step" if found["evaluating"] else "step"
    lines = [
        f"# Divergence at {what} {found['step']:,}",
        "",
        f"{found['sentence'][0].upper()}{found['sentence'][1:]}. Repeated from step {found['replayed_from']:,}"
        + ("" if found.get("diverges_again", True) else "; this time the step was finite")
        + ".",
        "",
        "## Likely causes",
        "",
        *(f"- {one['cause']} ({one['evidence']}). Try: {one['try']}." for one in found["causes"]),
        "",
    ]
    if found["layers"]:
        part = f", part {found['part'] + 1} of the batch" if found.get("part") else ""
        lines += [f"## Layers, forward{part}", "", "Of the values that are finite:", ""]
        header = ("layer", "mean", "std", "largest", "not finite")
        rows = [
            (one["layer"], *(f"{one[key]:.3g}" for key in ("mean", "std", "largest")), f"{one['not_finite']:,.0f}")
            for one in _around(found["layers"])
        ]
        lines += [*_table(header, rows), ""]
    if found["parameters"]:
        lines += ["## Parameters", "", "Norms before the step:", ""]
        header = ("parameter", "parameter", "gradient", "update", "gradient not finite")
        rows = [
            (
                one["name"],
                *(f"{one[key]['norm']:.3g}" for key in ("parameter", "gradient", "update")),
                f"{one['gradient']['not_finite']:,.0f}",
            )
            for one in _most(found["parameters"], found["layer"])
        ]
        lines += [*_table(header, rows), ""]
    for title, steps in (("Steps before", found["history"][-AROUND:]), ("Recorded before", found["recorded"])):
        if steps:
            keys = tuple(key for key in steps[-1] if key != "finite")
            rows = [tuple(f"{step.get(key, math.nan):.4g}" for key in keys) for step in steps]
            lines += [f"## {title}", "", *_table(tuple(key.replace("_", " ") for key in keys), rows), ""]
    if found.get("examples"):
        indices = [example["index"] for example in found["examples"]]
        bad = found["not_finite_examples"].get(found["layer"], [])
        lines += [
            "## Examples",
            "",
            f"Positions in the training split, in the order of the batch: {', '.join(map(str, indices))}.",
            *([f"Not finite in {found['layer']}: {', '.join(str(indices[p]) for p in bad)}."] if bad else []),
            *(["All of one colour: " + ", ".join(constant) + "."] if (constant := _constant(found)) else []),
            "",
        ]
    return "\n".join(lines)


def _around(layers: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The layers about the first that is not finite; of a network where all are, the last."""
    first = next((number for number, one in enumerate(layers) if one["not_finite"]), len(layers) - 1)
    return layers[max(0, first - AROUND) : first + AROUND // 3]


def _most(parameters: Sequence[Mapping[str, Any]], layer: str | None) -> list[Mapping[str, Any]]:
    """Those of the layer, and those with the largest gradients or with any that are not finite."""

    def weight(one: Mapping[str, Any]) -> float:
        norm = one["gradient"]["norm"]
        return norm if math.isfinite(norm) else math.inf

    chosen = sorted(parameters, key=weight, reverse=True)[:AROUND]
    return [one for one in parameters if one["layer"] == layer or one in chosen]


def _constant(found: Mapping[str, Any]) -> list[str]:
    return [str(example["index"]) for example in found["examples"] if example.get("constant")]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|---|{'---:|' * (len(header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
