"""The report of an experiment: one self-contained HTML file, and a Markdown one with its pictures beside it."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnn_research.lab import plots, verdict
from dnn_research.lab.measures import GUESSING, MEASURES
from dnn_research.lab.statistics import ALPHA, POWER

Result = dict[str, Any]
Table = tuple[Sequence[str], Sequence[Sequence[str]]]

PICTURES = {
    "effects": (plots.effects, "Effects: mean of the paired differences, 95 % interval, and every pair as a dot"),
    "curves": (plots.curves, "Curves: mean over seeds; the band goes from the least to the greatest"),
    "costs": (plots.costs, "Against cost: mean and standard deviation"),
    "layers": (plots.layers, "Layer by layer"),
}

COLORS = {
    verdict.SUPPORTED: "#1a7f37",
    verdict.CONTRADICTED: "#b3261e",
    verdict.UNDER_POWERED: "#8a6100",
    verdict.NOT_RUN: "#5f6b7a",
    verdict.NOT_COMPARABLE: "#5f6b7a",
    verdict.WITHOUT_VALUE: "#5f6b7a",
}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; max-width: 1180px; margin: 2rem auto;
  padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.lead { font-size: 1.05rem; color: #3d4654; max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid #e3e7ee; vertical-align: top; }
th { border-bottom: 2px solid #aeb7c4; font-weight: 600; } svg { max-width: 100%; height: auto; }
.verdict { color: #fff; border-radius: .8rem; padding: .1rem .6rem; white-space: nowrap; font-weight: 600;
  font-size: .82rem; }
pre, code { font: .85rem/1.45 ui-monospace, monospace; background: #f4f6f9; } pre { padding: .7rem; overflow-x: auto; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
"""


def write(result: Result, directory: Path, command: str) -> None:
    """Writes results.json, report.html, report.md and plots/ into the experiment's directory."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {name: svg for name, (draw, _) in PICTURES.items() if (svg := draw(result))}
    folder = directory / "plots"
    folder.mkdir(exist_ok=True)
    for name, svg in pictures.items():
        (folder / f"{name}.svg").write_text(svg + "\n")
    (directory / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / "report.html").write_text(as_html(result, pictures, command))
    (directory / "report.md").write_text(as_markdown(result, list(pictures), command))


def as_html(result: Result, pictures: dict[str, str], command: str) -> str:
    """The report as one HTML file without anything outside it."""

    def table(content: Table) -> str:
        header, rows = content
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'

    figures = "".join(f"<h2>{html.escape(PICTURES[name][1])}</h2>{svg}" for name, svg in pictures.items())
    paragraphs = [" ".join(part.split()) for part in result["text"].split("\n\n")]
    lead, *rest = paragraphs
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(result["experiment"])}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(title(result))}</h1><p class="lead">{html.escape(lead)}</p>
{"".join(f"<p>{html.escape(part)}</p>" for part in rest)}
<h2>Verdicts</h2>{table(claims(result))}<p>{html.escape(verdict.RULE)}</p>
{figures}
<h2>Rows</h2>{table(rows(result))}
<h2>Paired differences</h2>{table(comparisons(result))}
<h2>Protocol</h2>{table(protocol(result))}
<h2>All runs</h2><details><summary>{len(_runs(result))} runs</summary>{table(runs(result))}</details>
<details><summary>The baseline row's config</summary><pre>{html.escape(json.dumps(result["config"], indent=1))}</pre>
</details>
<h2>Reproduce</h2><pre>{html.escape(command)}</pre></body></html>
"""


def markdown_table(content: Table) -> str:
    """A header and rows of cells in Markdown."""
    header, body = content
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def run_seconds(result: Result) -> float:
    """What all runs took, added up."""
    return sum(sum(taken) for taken in result["clock"]["run_seconds"].values())


def as_markdown(result: Result, pictures: Sequence[str], command: str) -> str:
    """The same in Markdown; its pictures are in plots/."""
    parts = [
        f"# {title(result)}",
        result["text"],
        "## Verdicts",
        markdown_table(claims(result)),
        verdict.RULE,
        *(f"## {PICTURES[name][1]}\n\n![{name}](plots/{name}.svg)" for name in pictures),
        "## Rows",
        markdown_table(rows(result)),
        "## Paired differences",
        markdown_table(comparisons(result)),
        "## Protocol",
        markdown_table(protocol(result)),
        "## All runs",
        markdown_table(runs(result)),
        f"## Reproduce\n\n    {command}",
    ]
    return "\n\n".join(parts) + "\n"


def title(result: Result) -> str:
    """What the report is of."""
    return f"{result['experiment'].replace('_', ' ')}, {result['scale']} scale"


def claims(result: Result) -> Table:
    """Each claim with its verdict and what it rests on."""
    header = ("claim", "source", "published", "compared", "ours, 95 % interval", "p for", "p against", "verdict",
              f"effect seen with {POWER:.0%} power", "seeds for the published effect")  # fmt: skip
    lines = []
    for claim in result["claims"]:
        measure = result["measures"][claim["measure"]]
        sign = {"lower": "<", "higher": ">", "equal": "="}[claim["direction"]]
        margin = f" (margin {claim['margin']:g})" if claim["margin"] else ""
        needed = claim["seeds_for_published"]
        lines.append(
            (
                f"{claim['id']}: {claim['says']}",
                claim["source"],
                claim["published"],
                f"{claim['row']} {sign} {claim['against']}, {claim['measure']}{margin}{at_chance(result, claim)}",
                effect(claim["effect_found"], claim["low"], claim["high"], measure),
                _p(claim["p_for"]),
                _p(claim["p_against"]),
                claim["verdict"],
                _amount(claim["detectable"], measure) if claim["detectable"] is not None else "",
                (str(needed) if needed else "more than 20")
                if claim["effect"] and claim["detectable"] is not None
                else "",
            )
        )
    return header, lines


def rows(result: Result) -> Table:
    """Each row: what it differs in, its measures over the seeds, its cost."""
    names = list(result["measures"])
    header = ("row", "differs in", *(result["measures"][name]["title"] for name in names), "runs", "parameters",
              "multiply-adds", "latency [ms]", "seconds a run")  # fmt: skip
    lines = []
    for row, held in result["rows"].items():
        network = result["clock"]["networks"].get(row, {})
        seconds = result["clock"]["run_seconds"].get(row, [])
        differing = ", ".join(f"{path}={value}" for path, value in held["differences"].items()) or "the recipe"
        tuned = result["tuning"].get(row)
        if tuned and tuned["chosen"] is not None:
            differing += f"; {tuned['path']}={tuned['chosen']} chosen"
            if tuned["chosen"] in (min(tuned["values"]), max(tuned["values"])):
                differing += ", at an end of what was tried: a better one may lie beyond"
        counts = f"{held['done']} of {len(held['runs'])}"
        counts += f", {held['at_chance']} at chance" if held["at_chance"] else ""
        counts += f", {held['diverged']} diverged" if held["diverged"] else ""
        counts += f", {held['failed']} failed" if held["failed"] else ""
        lines.append(
            (
                f"{row}{' (baseline)' if row == result['baseline_row'] else ''}",
                differing,
                *(_summary(held["summary"][name], result["measures"][name]) for name in names),
                counts,
                f"{network['params']:,}" if network else "",
                f"{network['macs']:,}" if network else "",
                f"{network['latency_ms']:.2f}" if network else "",
                f"{sum(seconds) / len(seconds):.0f}" if seconds else "",
            )
        )
    return header, lines


def comparisons(result: Result) -> Table:
    """Every paired difference, of every measure."""
    header = ("measure", "difference", "mean, 95 % interval", "pairs", "p, exact", "p, Holm")
    return header, [
        (
            one["measure"],
            f"{one['row']} − {one['against']}",
            effect(one["effect"], one["low"], one["high"], result["measures"][one["measure"]]),
            str(len(one["pairs"]))
            + (f", {len(one['not_comparable'])} not comparable" if one["not_comparable"] else ""),
            _p(one["p"]),
            _p(one["p_holm"]),
        )
        for one in result["comparisons"]
    ]


def protocol(result: Result) -> Table:
    """How it was run and judged."""
    codes = {environment["code"] for environment in result["environments"]}
    first = result["environments"][0] if result["environments"] else {}
    tuned = next(iter(result["tuning"].values()), None)
    rate = (
        f"{tuned['path']} of each row from {tuned['values']}, chosen on seeds {tuned['seeds']}, which no verdict sees"
        if tuned
        else "one for all rows, the baseline recipe's"
    )
    seconds = run_seconds(result)
    evaluated = ", ".join(result["evaluated"])
    same = f"; {evaluated} evaluate the networks of {result['baseline_row']}" if evaluated else ""
    lines = [
        ("baseline", f"{result['baseline']}, row {result['baseline_row']}"),
        ("seeds", f"{', '.join(map(str, result['seeds']))}; the comparisons need {result['seeds_needed']}"),
        ("pairs", f"row and other share seed, order of the data and, where shapes agree, initial values{same}"),
        ("learning rate", rate),
        ("evaluation", result["protocol"] or "not yet run"),
        ("intervals", "Student's t over paired differences, 95 %, not adjusted for the number of comparisons"),
        ("tests", f"exact sign flips, two-sided, alpha {ALPHA}, Holm over claims (verdicts) and over rows (table)"),
        ("diverged runs", f"{_diverged(list(result['measures']))}, not run again"),
        ("at chance", f"runs whose error at the end is at least {GUESSING:.0%} of a guess's: nothing was learned"),
        ("code", ", ".join(sorted(f"{code}" for code in codes)) or "not yet run"),
        ("commit", f"{first['commit']}{' with changes' if first['dirty'] else ''}" if first else ""),
        ("versions", ", ".join(f"{k} {v}" for k, v in first.get("versions", {}).items())),
        ("devices", ", ".join(first.get("devices", []))),
        ("time of the runs", f"{seconds / 60:.0f} min, of those that were not interrupted"),
    ]
    return ("what", "how"), lines


def _diverged(measured: Sequence[str]) -> str:
    """What a diverged run counts as."""
    without = [name for name in measured if MEASURES[name].diverged is None]
    if not without:
        return "counted at chance"
    return f"without a value{'' if len(without) == len(measured) else ' of ' + ', '.join(without)}"


def runs(result: Result) -> Table:
    """Every run that there is to be, whatever became of it."""
    names = list(result["measures"])
    header = ("row", "seed", "status", "attempts", *names, "message")
    return header, [
        (
            run["row"],
            str(run["seed"]),
            run["status"],
            str(run["attempts"]),
            *(_number(run["values"].get(name)) for name in names),
            run["message"],
        )
        for run in _runs(result)
    ]


def effect(mean: float | None, low: float | None, high: float | None, measure: Result) -> str:
    """`−1.2 [−2.0, −0.4] points`, of a ratio `x 0.25 [0.2, 0.31]`."""
    if mean is None or low is None or high is None:
        return "—"
    if measure["ratio"]:
        return f"× {math.exp(mean):.3g} [{math.exp(low):.3g}, {math.exp(high):.3g}]"
    return f"{_signed(mean)} [{_signed(low)}, {_signed(high)}] {measure['unit']}".rstrip()


def at_chance(result: Result, claim: Mapping[str, Any]) -> str:
    """` (at chance: a 2 of 6)` of a claim's rows that have runs which learned nothing, else nothing."""
    held = {row: result["rows"][row] for row in (claim["against"], claim["row"])}
    said = [f"{row} {one['at_chance']} of {one['done']}" for row, one in held.items() if one["at_chance"]]
    return f" (at chance: {', '.join(said)})" if said else ""


def _runs(result: Result) -> list[Result]:
    return [run for held in result["rows"].values() for run in held["runs"]]


def _signed(value: float) -> str:
    return f"{value:+.2f}" if abs(value) >= 0.1 else f"{value:+.4f}"


def _amount(value: float, measure: Result) -> str:
    return f"× {math.exp(value):.3g}" if measure["ratio"] else f"{value:.2f} {measure['unit']}".rstrip()


def _summary(held: Result, measure: Result) -> str:
    if held["mean"] is None:
        return "—"
    if held["std"] is None:
        return _number(held["mean"])
    between = " ×/÷ " if measure["ratio"] else " ± "
    return f"{_number(held['mean'])}{between}{_number(held['std'])}"


def _number(value: float | None) -> str:
    if value is None:
        return "—"
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 1000 else f"{value:.4g}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _cell(cell: str) -> str:
    if cell in COLORS:
        return f'<span class="verdict" style="background:{COLORS[cell]}">{cell}</span>'
    return html.escape(cell)
