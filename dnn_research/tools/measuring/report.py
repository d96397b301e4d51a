"""The measurements as a table, 140 columns at most."""

from collections.abc import Mapping, Sequence
from typing import Any

from dnn_research.tools.measuring.machine import SIDE
from dnn_research.tools.measuring.measurement import PASSES, Measurement

COLUMNS = (
    *("images/s", "ms", "quartiles ms", "GFLOP/s", "% peak", "temp", "peak", "compile", "cold", "warm"),
    *("eager", "compiled", "stock"),
)


def heading(about: Mapping[str, Any], steps: int) -> str:
    """What was measured on, and what the columns mean."""
    return "\n".join(
        [
            f"{about['processor']}, {about['cores']} cores, {about['devices']} x {about['device']}; "
            f"jax {about['jax']}, Python {about['python']}",
            f"{steps} turns each, medians and quartiles of their steps. GFLOP: multiply-adds of convolutions and fully "
            f"connected layers x 2, training x {PASSES['train']}.",
            "temp: GiB of the compiled step beside inputs and outputs; peak: GiB of a fresh process; compile: s;",
            "cold, warm: s from a fresh process's start to the end of its first step, without and with a compilation "
            "cache;",
            "eager, compiled, stock: how many times as fast as the peer's better eager format, torch.compile, stock "
            "operations.",
        ]
    )


def group(measurements: Sequence[Measurement]) -> str:
    """The contenders of one network, batch size and mode."""
    first = measurements[0]
    width = max(len("contender"), *(len(m.contender) for m in measurements))
    cells = [_cells(m) for m in measurements]
    kept = [place for place in range(len(COLUMNS)) if any(row[place] for row in cells)]
    widths = {place: max(len(COLUMNS[place]), *(len(row[place]) for row in cells)) for place in kept}

    def line(name: str, row: Sequence[str]) -> str:
        return "  ".join([name.ljust(width), *(row[place].rjust(widths[place]) for place in kept)])

    return "\n".join(
        [
            f"\n{first.network}, batch {first.batch_size}, {first.dtype}, {first.mode}; a {SIDE}x{SIDE} matrix product "
            f"(100 % of the peak) reaches {first.product_gflops:,.0f} GFLOP/s",
            line("contender", COLUMNS),
            *(line(m.contender, row).rstrip() for m, row in zip(measurements, cells, strict=True)),
        ]
    )


def _cells(m: Measurement) -> list[str]:
    """In the order of `COLUMNS`."""
    starts = m.starts
    lower, upper = (1000 * seconds for seconds in m.quartiles)
    return [
        f"{m.images_per_second:.{1 if m.images_per_second < 1000 else 0}f}",
        f"{1000 * m.step_seconds:.{_digits(m)}f}",
        f"{lower:.{_digits(m)}f}..{upper:.{_digits(m)}f}",
        f"{m.gflops:.0f}",
        f"{100 * m.gflops / m.product_gflops:.0f}",
        _number(m.temporary_gib, 2),
        _number(starts.warm.peak_gib if starts else None, 2),
        _number(m.compile_seconds, 1),
        _number(starts.cold.seconds if starts else None, 1),
        _number(starts.warm.seconds if starts else None, 1),
        *(_number(m.versus.get(other), 2) for other in ("eager", "compiled", "stock")),
    ]


def _digits(m: Measurement) -> int:
    """After the point of milliseconds."""
    return 0 if m.step_seconds >= 0.1 else 1 if m.step_seconds >= 0.01 else 2


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
