"""The pictures of a report, as SVG text: effects with intervals, curves with bands over seeds, error against cost."""

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

Result = dict[str, Any]

# title -> (curve, column of its points)
ERRORS = {"training error [%]": ("train", 2), "test error [%]": ("eval", 2), "training loss": ("train", 1)}
LOSSES = {"training loss": ("train", 1), "test loss": ("eval", 1)}


def effects(result: Result) -> str:
    """Every comparison's mean paired difference with its 95 % interval, a panel for each measure."""
    names = [name for name in result["measures"] if _compared(result, name)]
    if not names:
        return ""
    rows = max(len(_compared(result, name)) for name in names)
    figure = matplotlib.figure.Figure(figsize=(5.2 * len(names), 1.4 + 0.42 * rows), layout="constrained")
    for axis, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        _effects(axis, result["measures"][name], _compared(result, name))
    return _svg(figure)


def _compared(result: Result, name: str) -> list[Result]:
    return [one for one in result["comparisons"] if one["measure"] == name and one["effect"] is not None]


def _effects(axis: Axes, measure: Result, compared: Sequence[Result]) -> None:
    scale: Callable[[float], float] = math.exp if measure["ratio"] else float
    for place, one in enumerate(reversed(compared)):
        low, mean, high = (scale(one[key]) for key in ("low", "effect", "high"))
        axis.plot([low, high], [place, place], color="C0", lw=2.5, solid_capstyle="butt")
        axis.plot([mean], [place], "o", color="C0", ms=6)
        pairs = [scale(pair) for pair in one["pairs"]]
        axis.plot(pairs, [place - 0.22] * len(pairs), ".", color="0.55", ms=4)
    axis.axvline(scale(0.0), color="0.3", lw=1)
    if measure["ratio"]:
        logarithmic(axis)
    axis.set_yticks(range(len(compared)), [f"{one['row']} − {one['against']}" for one in reversed(compared)])
    axis.set_ylim(-0.6, len(compared) - 0.4)
    axis.set_xlabel(f"{'factor' if measure['ratio'] else 'difference'} {_unit(measure)}".strip())
    axis.set_title(_wrapped(measure["title"]), fontsize=9)
    axis.grid(alpha=0.3, axis="x")


def curves(result: Result) -> str:
    """Errors, where there are such, and losses against steps: the mean of the seeds and their range, by row."""
    rows = {row: [run for run in held["runs"] if run["curves"]] for row, held in result["rows"].items()}
    if not any(rows.values()):
        return ""
    points = [point for runs in rows.values() for run in runs for point in run["curves"]["train"]]
    panels = LOSSES if all(error is None for _, _, error in points) else ERRORS
    figure = matplotlib.figure.Figure(figsize=(5 * len(panels), 4.4), layout="constrained")
    for axis, (title, (key, column)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for number, (row, runs) in enumerate(rows.items()):
            lines = [run["curves"][key] for run in runs]
            _band(axis, lines, column, row, number)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    figure.axes[-1].legend(fontsize=8)
    return _svg(figure)


def _band(axis: Axes, lines: Sequence[list[list[Any]]], column: int, label: str, number: int) -> None:
    """Where all runs have been; one that diverged early ends its band, not the others' line."""
    steps = sorted({point[0] for line in lines for point in line})
    if not steps:
        return
    at = [{point[0]: point[column] for point in line} for line in lines]
    values = [[one[step] for one in at if step in one and math.isfinite(one[step])] for step in steps]
    kept = [(step, found) for step, found in zip(steps, values, strict=True) if found]
    xs = [step for step, _ in kept]
    style = ("-", "--", ":", "-.")[number // 10 % 4]
    color = f"C{number % 10}"
    marker = "o" if len(xs) < 12 else None
    axis.plot(xs, [np.mean(f) for _, f in kept], style, color=color, label=label, lw=1.6, marker=marker, ms=4)
    axis.fill_between(xs, [min(f) for _, f in kept], [max(f) for _, f in kept], color=color, alpha=0.15, lw=0)


def costs(result: Result) -> str:
    """The main measure of each row against the multiply-adds, parameters and latency of its network."""
    networks = result["clock"]["networks"]
    name = next(iter(result["measures"]))
    known = [row for row in result["rows"] if row in networks and result["rows"][row]["summary"][name]["n"]]
    if not known:
        return ""
    figure = matplotlib.figure.Figure(figsize=(15, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, (key, title) in zip(
        axes, {"macs": "multiply-adds", "params": "parameters", "latency_ms": "latency of one image [ms]"}.items(),
        strict=True,
    ):  # fmt: skip
        for number, row in enumerate(known):
            held = result["rows"][row]["summary"][name]
            spread = held["std"] if not result["measures"][name]["ratio"] else None
            axis.errorbar(networks[row][key], held["mean"], yerr=spread, fmt="o", color=f"C{number % 10}", capsize=3)
            axis.annotate(
                row, (networks[row][key], held["mean"]), xytext=(5, 4), textcoords="offset points", fontsize=8
            )
        axis.set(xlabel=title, ylabel=_wrapped(result["measures"][name]["title"]))
        logarithmic(axis)
        axis.grid(alpha=0.3)
    return _svg(figure)


def layers(result: Result) -> str:
    """By layer: the spread of responses, and gradient norms at initialisation and at the end, mean of the seeds."""
    rows = {row: [run["layers"] for run in held["runs"] if "layers" in run] for row, held in result["rows"].items()}
    rows = {row: found for row, found in rows.items() if found}
    if not rows:
        return ""
    titles = {
        "response_std": "standard deviation of responses",
        "gradient_norm_initial": "gradient norm at initialisation",
        "gradient_norm_final": "gradient norm at the end",
    }
    figure = matplotlib.figure.Figure(figsize=(15, 4.4), layout="constrained")
    for axis, (key, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for row, found in rows.items():
            values = np.mean([list(one[key].values()) for one in found], axis=0)
            axis.plot(np.linspace(0, 1, len(values)), values, label=row, lw=1.4)
        axis.set(title=title, xlabel="layer, from the first to the last", yscale="log")
        axis.grid(alpha=0.3)
    figure.axes[-1].legend(fontsize=8)
    return _svg(figure)


def logarithmic(axis: Axes) -> None:
    """Makes the horizontal axis logarithmic; one of less than two decades has few ticks, whose labels do not meet."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high < 100 * low:
        axis.xaxis.set_major_locator(MaxNLocator(4) if high < 10 * low else LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
        axis.xaxis.set_minor_locator(NullLocator())


def _unit(measure: Result) -> str:
    return f"[{measure['unit']}]" if measure["unit"] and not measure["ratio"] else ""


def _wrapped(title: str) -> str:
    return textwrap.fill(title, 44)


def _svg(figure: matplotlib.figure.Figure) -> str:
    """The same text for the same figure: without a date and with ids of its own; letters stay letters."""
    held = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "dnn_research", "svg.fonttype": "none"}):
        figure.savefig(held, format="svg", metadata={"Date": None, "Creator": None})
    text = held.getvalue()
    return text[text.index("<svg") :]
