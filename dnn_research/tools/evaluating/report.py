"""What evaluations found, as a table for a person and as numbers for JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dnn_research.data import conditions
from dnn_research.tools.evaluating.members import Member, Row


def as_results(rows: Sequence[Row], members: Sequence[Member]) -> list[dict[str, Any]]:
    """The rows for JSON; accuracies in 0..1, differences from the run's own protocol in points."""
    own = next(row for row in rows if row.own).outcome.values
    crop = members[0].dataset.image_shape[0] * members[0].dataset.image_shape[1]
    return [
        {
            **row.outcome.values,
            **dataclasses.asdict(row.under),
            "checkpoints": [str(member.folder) for member in members],
            "views": row.outcome.views,
            "cost_in_crops": row.outcome.pixels / crop,
            "seconds": row.seconds,
            "images_per_second": row.outcome.values["examples"] / row.seconds,
            "own_protocol": row.own,
            "top1_points_by_protocol": 100 * (row.outcome.values["top1_accuracy"] - own["top1_accuracy"]),
            "top5_points_by_protocol": 100 * (row.outcome.values["top5_accuracy"] - own["top5_accuracy"]),
        }
        for row in rows
    ]


def as_table(rows: Sequence[Row], members: Sequence[Member]) -> str:
    """The rows for a person, with what each protocol is and how they compare to what the run recorded."""
    results = as_results(rows, members)
    width = max(len(row.name) for row in rows)
    under = rows[0].under
    lines = [f"checkpoint {member.folder}" for member in members]
    if len(members) > 1:
        lines.append(f"an ensemble of {len(members)}: the mean of their softmax outputs")
    examples = rows[0].outcome.values["examples"]
    lines.append(f"{under.dataset} {under.dataset_version}, split {under.dataset_split}, {examples:,} examples")
    lines += ["", f"{'':<{width}}  {'top-1':>8} {'top-5':>8} {'loss':>8}  {'by protocol':>13}  views    cost  images/s"]
    for row, result in zip(rows, results, strict=True):
        points = "the run's own"
        if not row.own:
            points = f"{result['top1_points_by_protocol']:+.2f} {result['top5_points_by_protocol']:+.2f}"
        lines.append(
            f"{row.name:<{width}}  {100 * result['top1_accuracy']:6.2f} % {100 * result['top5_accuracy']:6.2f} % "
            f"{result['loss']:8.4f}  {points:>13}  {result['views']:5d}  {result['cost_in_crops']:6.1f}  "
            f"{result['images_per_second']:8.1f}"
        )
    lines += [
        "",
        "by protocol: points of top-1 and top-5 accuracy that are the protocol's alone; results under unlike protocols "
        "say nothing about networks.",
        "cost: pixels through the network, in crops of its own size. images/s: compilation included.",
        *(f"{row.under.protocol_hash}: {row.under.protocol}" for row in rows),
    ]
    return "\n".join([*lines, *_recorded(rows, members)])


def _recorded(rows: Sequence[Row], members: Sequence[Member]) -> list[str]:
    """What the run itself recorded at this step, and whether that compares."""
    manifest, own = members[0].manifest, next(row for row in rows if row.own)
    recorded = manifest.results.get(f"{'eval_ema' if members[0].ema else 'eval'}/top1_accuracy")
    if len(members) > 1 or recorded is None or not manifest.conditions:
        return []
    differ = conditions.unlike([manifest.conditions, dataclasses.asdict(own.under)])
    label = f"NOT COMPARABLE, {', '.join(differ)} differ" if differ else "under the same conditions"
    return [f"recorded by the run: top-1 accuracy {100 * recorded:.2f} % ({label})"]
