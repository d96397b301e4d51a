"""From the runs of an experiment to what the report says: values, effects, verdicts. No run that came to an end is left
out: a diverged one counts at chance, or where nothing is guessed has no value; a failed one is listed and leaves its
pairs open.
"""

import json
import math
import statistics as spread
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnn_research import recipe
from dnn_research.errors import UserError, read_json
from dnn_research.lab import measures, statistics, verdict
from dnn_research.lab.experiment import Claim, Experiment
from dnn_research.lab.measures import MEASURES
from dnn_research.lab.sweep import DIVERGED, FAILED, Run, Sweep, read_outcome

Result = dict[str, Any]


def collect(sweep: Sweep) -> Result:
    """Everything that the runs in the sweep's directory say, in JSON's types.

    What a clock decides is under `clock`: the rest is the same however often the sweep was interrupted.

    Raises:
        UserError: the directory holds runs of another config than the experiment's.
    """
    experiment = sweep.experiment
    runs = {(run.row, run.seed): _run(sweep, run) for run in sweep.runs()}
    tuned = {row: _tuned(sweep, row) for row in experiment.rows} if experiment.tuning else {}
    rows = {row: _row(experiment, row, [runs[row, seed] for seed in experiment.seeds]) for row in experiment.rows}
    comparisons = [
        _comparison(experiment, runs, row, against, name)
        for name in experiment.measures
        for row, against in experiment.comparisons
    ]
    for name in experiment.measures:
        family = [one for one in comparisons if one["measure"] == name and one["p"] is not None]
        for one, adjusted in zip(family, statistics.holm([one["p"] for one in family]), strict=True):
            one["p_holm"] = adjusted
    return {
        "experiment": experiment.name,
        "scale": experiment.scale,
        "spec": experiment.spec,
        "question": experiment.question,
        "text": experiment.text,
        "baseline": experiment.baseline,
        "baseline_row": experiment.baseline_row,
        "seeds": list(experiment.seeds),
        "seeds_needed": statistics.seeds_needed(max(len(experiment.comparisons), len(experiment.claims))),
        "measures": {
            name: {"title": MEASURES[name].title, "ratio": MEASURES[name].ratio, "unit": MEASURES[name].unit}
            for name in experiment.measures
        },
        "tuning": tuned,
        "evaluated": sorted(sweep.evaluated),
        "rows": rows,
        "comparisons": comparisons,
        "claims": _claims(experiment, runs),
        "protocol": next((run["protocol"] for run in runs.values() if run["protocol"]), None),
        "environments": _environments(runs.values()),
        "config": recipe.plain(experiment.load(experiment.baseline_row, experiment.seeds[0]).config),
        "clock": _clock(sweep),
    }


def _run(sweep: Sweep, run: Run) -> Result:
    """One run's outcome, numbers and curves."""
    outcome = read_outcome(run)
    result: Result = {
        "row": run.row,
        "seed": run.seed,
        "status": outcome.status if outcome else ("unfinished" if (run.workdir / "run.json").exists() else "missing"),
        "message": outcome.message if outcome else "",
        "attempts": outcome.attempts if outcome else 0,
        "values": {},
        "at_chance": False,
        "environment": None,
        "protocol": None,
        "curves": {},
    }
    if outcome is None or outcome.status == FAILED:
        return result
    sweep.check(run)
    diverged = outcome.status == DIVERGED
    records = measures.read(run.workdir, outcome.total_steps)
    for name in sweep.experiment.measures:
        value = measures.value(MEASURES[name], records, diverged=diverged)
        result["values"][name] = value if math.isfinite(value) else None
    result["at_chance"] = not diverged and measures.at_chance(records)
    result["environment"] = _environment(run.workdir)
    result["protocol"] = records.evaluation[-1]["protocol"] if records.evaluation else None
    result["curves"] = {
        "train": measures.curve(records.train),
        "eval": measures.curve(records.evaluation),
    }
    if records.layers:
        result["layers"] = dict(records.layers)
    return result


def _environment(workdir: Path) -> Result:
    """The code, versions and devices of a run; a resumed one's must all be one."""
    held = json.loads((workdir / "run.json").read_text())
    parts = [
        {
            "code": part["revision"].get("code"),
            "python": part["python"],
            "versions": part["versions"],
            "devices": part["devices"],
            "processes": part["processes"],
        }
        for part in (held, *held["resumed"])
    ]
    mixed = any(part != parts[0] for part in parts)
    return {
        **parts[0],
        "commit": held["revision"]["commit"],
        "dirty": held["revision"]["dirty"],
        "mixed": mixed,
        "inputs": _inputs(held["config"]["task"], held.get("task", {})),
    }


def _inputs(section: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """What a task read besides its data: what was asked for, and the SHA-256 of what was there."""
    found = {}
    if "loss_network" in facts:
        wanted = section["loss_network"]
        asked = [wanted[key] for key in ("weights", "step", "seed", "model")]
        found[json.dumps(asked, sort_keys=True)] = facts["loss_network"]["sha256"]
    for name, digest in facts.get("style_images", {}).items():
        found[json.dumps([name, section["style_size"]])] = digest
    return found


def comparable(one: Result | None, other: Result | None) -> bool:
    """Whether two runs are of one code, one set of versions and one kind of machine, and found the same at each place.

    Rows may ask for different loss networks; the same one must not have changed in between.
    """
    if one is None or other is None or one["mixed"] or other["mixed"]:
        return False
    if any(other["inputs"].get(asked, found) != found for asked, found in one["inputs"].items()):
        return False
    return all(one[key] == other[key] for key in ("code", "python", "versions", "devices", "processes"))


def _environments(runs: Any) -> list[Result]:
    found: list[Result] = []
    for run in runs:
        if run["environment"] and run["environment"] not in found:
            found.append(run["environment"])
    return found


def _row(experiment: Experiment, row: str, runs: Sequence[Result]) -> Result:
    values = {name: [run["values"].get(name) for run in runs] for name in experiment.measures}
    return {
        "differences": json.loads(json.dumps(dict(experiment.rows[row]))),
        "runs": list(runs),
        "diverged": sum(run["status"] == DIVERGED for run in runs),
        "failed": sum(run["status"] == FAILED for run in runs),
        "at_chance": sum(run["at_chance"] for run in runs),
        "done": sum(bool(run["values"]) for run in runs),
        "summary": {name: _summary(name, [v for v in found if v is not None]) for name, found in values.items()},
    }


def _summary(name: str, values: Sequence[float]) -> Result:
    """Mean and standard deviation; of a ratio the geometric mean, and the factor of one standard deviation."""
    if not values:
        return {"n": 0, "mean": None, "std": None}
    scaled = [math.log(v) for v in values] if MEASURES[name].ratio else list(values)
    mean, std = spread.fmean(scaled), spread.stdev(scaled) if len(scaled) > 1 else None
    if MEASURES[name].ratio:
        mean, std = math.exp(mean), math.exp(std) if std is not None else None
    return {"n": len(values), "mean": mean, "std": std}


def differences(runs: dict[tuple[str, int], Result], row: str, against: str, measure: str, seeds: Any) -> Result:
    """Paired differences, seed by seed (of a ratio those of logarithms), and the seeds that make no pair.

    `open` are the seeds to be run yet, `without_value` those of which a run diverged and has nothing to count.
    """
    pairs, open_pairs, without_value, foreign = [], [], [], []
    for seed in seeds:
        one, other = runs[row, seed], runs[against, seed]
        values = one["values"].get(measure), other["values"].get(measure)
        if any(run["status"] == DIVERGED and run["values"].get(measure) is None for run in (one, other)):
            without_value.append(seed)
        elif values[0] is None or values[1] is None:
            open_pairs.append(seed)
        elif not comparable(one["environment"], other["environment"]):
            foreign.append(seed)
        elif MEASURES[measure].ratio:
            pairs.append(math.log(values[0]) - math.log(values[1]))
        else:
            pairs.append(values[0] - values[1])
    return {"pairs": pairs, "open": open_pairs, "without_value": without_value, "not_comparable": foreign}


def _comparison(
    experiment: Experiment, runs: dict[tuple[str, int], Result], row: str, against: str, measure: str
) -> Result:
    found = differences(runs, row, against, measure, experiment.seeds)
    pairs = found["pairs"]
    interval = statistics.interval(pairs) if len(pairs) > 1 else None
    return {
        "row": row,
        "against": against,
        "measure": measure,
        **found,
        "effect": interval and interval.mean,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "p": statistics.p_different(pairs) if len(pairs) > 1 else None,
        "p_holm": None,
    }


def _claims(experiment: Experiment, runs: dict[tuple[str, int], Result]) -> list[Result]:
    """Every claim with its verdict; Holm's correction is over all claims, run or not."""
    found = [differences(runs, c.row, c.against, c.measure, experiment.seeds) for c in experiment.claims]
    complete = all(not one["open"] and not one["not_comparable"] for one in found)
    evidence = [
        None if one["without_value"] else _evidence(claim, one["pairs"])
        for claim, one in zip(experiment.claims, found, strict=True)
    ]
    verdicts = verdict.judge(evidence) if complete else [None] * len(found)
    results = []
    for claim, one, judged in zip(experiment.claims, found, verdicts, strict=True):
        word = verdict.NOT_COMPARABLE if one["not_comparable"] else verdict.NOT_RUN
        pairs = one["pairs"]
        interval = statistics.interval(pairs) if len(pairs) > 1 else None
        results.append(
            {
                **{key: getattr(claim, key) for key in claim.__dataclass_fields__},
                "verdict": judged.word if judged else word,
                "p_for": judged and judged.p_for,
                "p_against": judged and judged.p_against,
                "effect_found": interval and interval.mean,
                "low": interval and interval.low,
                "high": interval and interval.high,
                "pairs": len(pairs),
                **_power(claim, pairs, len(experiment.seeds), len(experiment.claims)),
            }
        )
    return results


def _evidence(claim: Claim, pairs: Sequence[float]) -> verdict.Evidence:
    sign = -1 if claim.direction == "lower" else 1
    margin = math.log(claim.margin) if MEASURES[claim.measure].ratio and claim.margin else claim.margin
    return verdict.Evidence(tuple(sign * value for value in pairs), claim.direction == "equal", margin)


def _power(claim: Claim, pairs: Sequence[float], seeds: int, claims: int) -> Result:
    """What so many seeds could see, given the spread found, and how many the published effect would need."""
    nothing = {"detectable": None, "seeds_for_published": None}
    if len(pairs) < 2:
        return nothing
    std = spread.stdev(pairs)
    if std == 0:
        return nothing
    detectable = statistics.detectable(seeds, claims) * std
    nothing["detectable"] = detectable if math.isfinite(detectable) else None
    if not claim.effect:
        return nothing
    published = math.log(claim.effect) if MEASURES[claim.measure].ratio else claim.effect
    return {**nothing, "seeds_for_published": statistics.seeds_for(published / std, claims)}


def _tuned(sweep: Sweep, row: str) -> Result:
    tuning = sweep.experiment.tuning
    assert tuning is not None
    try:
        chosen = sweep.tuned(row)
        runs = sweep.tuning_runs(row)
        name = sweep.experiment.measures[0]
        tried = {str(v): [sweep.value(r, name) for r in runs if r.tried == v] for v in tuning.values}
    except UserError:
        chosen, tried = None, {}
    return {"path": tuning.path, "values": list(tuning.values), "seeds": list(tuning.seeds), "chosen": chosen,
            "tried": tried}  # fmt: skip


def _clock(sweep: Sweep) -> Result:
    """What the rows cost: of their networks, and the seconds of their runs."""
    path = sweep.directory / "cost.json"
    held = read_json(path, "remove it") if path.exists() else {}
    # Without a config it is of an earlier version.
    networks = {row: one.get("network", one) for row, one in held.items()}
    seconds = {
        row: [time.run_seconds for run in sweep.runs() if run.row == row and (time := sweep.time(run))]
        for row in sweep.experiment.rows
    }
    return {"networks": networks, "run_seconds": seconds}
