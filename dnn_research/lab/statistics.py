"""The statistics of paired runs: intervals, exact tests, Holm's correction, and how many seeds a question needs.

Everything works on paired differences, one for each seed: a row's measure minus that of the row it is compared with,
from the same initial values and the same order of the data.

- The interval is Student's, which covers at five seeds where a percentile bootstrap does not (84 %).
- The test flips signs (Fisher 1935, "The Design of Experiments", section 21): if the compared rows are alike, a
  difference is as likely to be d as -d, so all 2^n patterns of signs are. It is exact for any symmetric distribution.
- "No difference" is tested as two one-sided tests against a margin (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15).
- Several comparisons of one experiment are corrected by Holm's procedure (1979, Scand. J. Statist. 6).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 20

# Draws of a simulated experiment for its power, with a seed of their own: the same numbers every time.
_DRAWS, _SIMULATION_SEED = 4000, 2026


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean difference and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def seeds_needed(comparisons: int, alpha: float = ALPHA) -> int:
    """The fewest paired seeds at which an experiment of so many comparisons can find anything.

    The smallest two-sided p-value of n sign flips is 2 / 2^n, and Holm's first step asks for alpha / comparisons.
    """
    if comparisons < 1:
        raise ValueError(f"an experiment has at least one comparison, not {comparisons}")
    return math.ceil(math.log2(2 * comparisons / alpha))


def interval(differences: Sequence[float], confidence: float = 1 - ALPHA) -> Interval:
    """The mean of paired differences and Student's interval for it; infinite for fewer than two."""
    values = np.asarray(differences, np.float64)
    if values.size < 2:
        return Interval(float(values.mean()) if values.size else math.nan, -math.inf, math.inf)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size)
    half = float(scipy.stats.t.ppf(0.5 + confidence / 2, values.size - 1)) * error
    return Interval(mean, mean - half, mean + half)


def p_greater(differences: Sequence[float], than: float = 0.0) -> float:
    """The exact sign-flip p-value against "the differences are symmetric about `than`, or lie below it"; one-sided."""
    values = np.asarray(differences, np.float64) - than
    if not 1 <= values.size <= MOST_SEEDS:
        raise ValueError(f"the exact test takes 1 to {MOST_SEEDS} differences, not {values.size}")
    if not np.isfinite(values).all():
        raise ValueError(f"differences must be finite: {values}")
    sums = np.zeros(1)
    for value in np.abs(values):
        sums = np.concatenate([sums + value, sums - value])
    # Sums that are equal but for rounding are ties, and ties count.
    slack = 1e-9 * float(np.abs(values).sum())
    return float(np.mean(sums >= values.sum() - slack))


def p_less(differences: Sequence[float], than: float = 0.0) -> float:
    """As `p_greater`, against "they are symmetric about `than`, or lie above it"."""
    return p_greater([-value for value in differences], -than)


def p_different(differences: Sequence[float], than: float = 0.0) -> float:
    """The two-sided exact sign-flip p-value against "the differences are symmetric about `than`"."""
    return min(1.0, 2 * min(p_greater(differences, than), p_less(differences, than)))


def p_equivalent(differences: Sequence[float], margin: float) -> float:
    """The p-value against "the effect is `margin` or more, in either direction": two one-sided tests, the worse."""
    if margin <= 0:
        raise ValueError(f"equivalence needs a positive margin, not {margin}")
    return max(p_greater(differences, -margin), p_less(differences, margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: rejecting those up to alpha keeps the chance of any false rejection at alpha."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def detectable(seeds: int, comparisons: int = 1, alpha: float = ALPHA, power: float = POWER) -> float:
    """The effect, in standard deviations of the paired difference, that so many seeds find with the chance `power`.

    Normal differences and the first step of Holm's procedure are assumed; infinite where no pattern of signs is rare
    enough. The power is that of the exact test itself, simulated up to 12 seeds, and of the t test beyond.
    """
    level = alpha / comparisons
    if seeds < 2 or 2 / 2**seeds > level:
        return math.inf
    low, high = 0.0, 16.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(seeds, middle, level) >= power else (middle, high)
    return high


def seeds_for(effect: float, comparisons: int = 1, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """The fewest seeds that find an effect given in standard deviations of the paired difference.

    None: more than `MOST_SEEDS`.
    """
    for seeds in range(2, MOST_SEEDS + 1):
        if 2 / 2**seeds <= alpha / comparisons and _power(seeds, abs(effect), alpha / comparisons) >= power:
            return seeds
    return None


@functools.lru_cache(maxsize=4096)
def _power(seeds: int, effect: float, level: float) -> float:
    """The chance that a two-sided test at `level` finds an effect of so many standard deviations."""
    if seeds > 12:
        critical, shift = scipy.stats.t.ppf(1 - level / 2, seeds - 1), effect * math.sqrt(seeds)
        return float(scipy.stats.nct.sf(critical, seeds - 1, shift))
    draws = effect + _noise(seeds)
    flipped = np.abs(draws) @ _signs(seeds).T
    p_values = 2 * (flipped >= draws.sum(1, keepdims=True) - 1e-9).mean(1)
    return float((p_values <= level).mean())


@functools.lru_cache(maxsize=16)
def _noise(seeds: int) -> np.ndarray:
    return np.random.default_rng(_SIMULATION_SEED).standard_normal((_DRAWS, seeds))


@functools.lru_cache(maxsize=16)
def _signs(seeds: int) -> np.ndarray:
    patterns = np.arange(2**seeds)[:, None] >> np.arange(seeds) & 1
    return (2 * patterns - 1).astype(np.float64)
