"""Intervals cover, tests are exact, and false verdicts are as rare as they should be, at the numbers of seeds used."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from dnn_research.lab import statistics, verdict
from dnn_research.lab.verdict import Evidence

SEEDS_USED = (6, 7, 8, 9)


def paired_runs(rng: np.random.Generator, experiments: int, seeds: int, effect: float) -> np.ndarray:
    """Differences of test errors in points, as runs give them: a seed's own luck, a run's own, 2,560 test images."""
    luck = rng.normal(0, 0.02, (experiments, seeds))
    chances = [0.2 + luck + rng.normal(0, 0.01, luck.shape) + shift for shift in (0.0, effect / 100)]
    before, after = (100 * rng.binomial(2560, chance) / 2560 for chance in chances)
    return after - before


@pytest.mark.parametrize("seeds", SEEDS_USED)
@pytest.mark.parametrize("effect", [0.0, 1.5])
def test_intervals_cover_the_true_effect(seeds, effect):
    rng = np.random.default_rng(seeds)
    runs = paired_runs(rng, 8000, seeds, effect)
    found = [statistics.interval(differences) for differences in runs.tolist()]
    coverage = np.mean([one.low <= effect <= one.high for one in found])
    assert coverage == pytest.approx(0.95, abs=0.01)


def test_the_interval_is_students():
    values = [1.0, 2.5, 0.5, 3.0, 1.5]
    low, high = scipy.stats.t.interval(0.95, 4, np.mean(values), scipy.stats.sem(values))
    found = statistics.interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx((1.7, low, high))
    assert statistics.interval([1.0]) == statistics.Interval(1.0, -math.inf, math.inf)


def test_the_sign_flip_test_counts_patterns():
    values = [3.0, 1.0, -0.5, 2.0, 0.7, 1.1]
    patterns = itertools.product((1, -1), repeat=6)
    count = sum(np.dot(signs, np.abs(values)) >= sum(values) - 1e-9 for signs in patterns)
    assert statistics.p_greater(values) == count / 64
    assert statistics.p_different([1.0] * 6) == 2 / 64
    # 0.1 + 0.2 - 0.3 and its permutations are ties, whatever rounding makes of them.
    assert statistics.p_greater([0.1, 0.2, -0.3]) == statistics.p_greater([1.0, 2.0, -3.0])
    assert statistics.p_different([0.0] * 6) == 1.0
    with pytest.raises(ValueError, match="must be finite"):
        statistics.p_greater([1.0, math.nan])


def test_it_agrees_with_scipy():
    values = np.random.default_rng(1).normal(0.4, 1, 8).tolist()
    theirs = scipy.stats.permutation_test(
        (np.asarray(values),), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater"
    )
    assert statistics.p_greater(values) == pytest.approx(theirs.pvalue)


def test_equivalence_needs_both_sides():
    assert statistics.p_equivalent([0.1, -0.1, 0.05, 0.0, -0.05, 0.1], 0.5) == 1 / 64
    assert statistics.p_equivalent([0.6, 0.7, 0.5, 0.6, 0.8, 0.7], 0.5) > 0.9
    with pytest.raises(ValueError, match="positive margin"):
        statistics.p_equivalent([0.1], 0.0)


def test_holm_steps_down():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@pytest.mark.parametrize(("comparisons", "seeds"), [(1, 6), (2, 7), (3, 7), (4, 8), (6, 8), (7, 9), (12, 9)])
def test_the_rule_for_the_number_of_seeds(comparisons, seeds):
    assert statistics.seeds_needed(comparisons) == seeds
    assert 2 / 2**seeds <= 0.05 / comparisons < 2 / 2 ** (seeds - 1)


@pytest.mark.parametrize(("seeds", "comparisons"), [(6, 1), (7, 3), (8, 6), (9, 12)])
def test_the_detectable_effect_is_found_four_times_in_five(seeds, comparisons):
    effect = statistics.detectable(seeds, comparisons)
    rng = np.random.default_rng(3)
    found = [statistics.p_different(rng.normal(effect, 1, seeds).tolist()) <= 0.05 / comparisons for _ in range(1500)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)
    assert statistics.seeds_for(effect + 0.01, comparisons) <= seeds


@pytest.mark.parametrize(("seeds", "level"), [(6, 0.05), (8, 0.0125), (9, 0.01)])
def test_the_simulated_power_is_that_of_the_test_that_decides(seeds, level, monkeypatch):
    draws = np.random.default_rng(3).standard_normal((400, seeds))
    monkeypatch.setattr(statistics, "_noise", lambda _: draws)
    found = np.mean([statistics.p_greater((1.0 + draw).tolist()) * 2 <= level for draw in draws])
    assert statistics._power.__wrapped__(seeds, 1.0, level) == found


def test_too_few_seeds_can_find_nothing():
    assert statistics.detectable(5) == math.inf
    assert statistics.seeds_for(0.05) is None
    assert statistics.seeds_for(3.0) == 6


def experiments_with(effects: tuple[float, ...], seeds: int, equal: bool, margin: float) -> list[list[str]]:
    """Verdicts of 2,000 simulated experiments whose claims have these true effects."""
    rng = np.random.default_rng(seeds)
    runs = [paired_runs(rng, 2000, seeds, effect) for effect in effects]
    judged = (
        verdict.judge([Evidence(tuple(differences), equal, margin) for differences in zipped])
        for zipped in zip(*(one.tolist() for one in runs), strict=True)
    )
    return [[one.word for one in claims] for claims in judged]


@pytest.mark.parametrize(("seeds", "claims"), [(6, 1), (7, 3), (8, 6)])
def test_false_support_is_rare(seeds, claims):
    """Without any effect, the chance that even one claim of an experiment is called supported stays at 5 %."""
    verdicts = experiments_with((0.0,) * claims, seeds, equal=False, margin=0.0)
    assert np.mean([verdict.SUPPORTED in words for words in verdicts]) <= 0.05
    assert np.mean([verdict.CONTRADICTED in words for words in verdicts]) <= 0.05


@pytest.mark.parametrize(("seeds", "claims"), [(6, 1), (7, 3), (8, 6)])
def test_false_equivalence_is_rare(seeds, claims):
    """An effect as large as the margin is called "no difference" in at most 5 % (and a hundredth for chance)."""
    verdicts = experiments_with((1.0,) * claims, seeds, equal=True, margin=1.0)
    assert np.mean([verdict.SUPPORTED in words for words in verdicts]) <= 0.06
    assert np.mean([verdict.CONTRADICTED in words for words in verdicts]) <= 0.05


def test_what_is_there_is_found():
    (words,) = zip(*experiments_with((4.0,), 7, equal=False, margin=0.0), strict=True)
    assert words.count(verdict.SUPPORTED) / len(words) > 0.8
    (words,) = zip(*experiments_with((-4.0,), 7, equal=False, margin=0.0), strict=True)
    assert words.count(verdict.CONTRADICTED) / len(words) > 0.8
    (words,) = zip(*experiments_with((0.0,), 7, equal=True, margin=5.0), strict=True)
    assert words.count(verdict.SUPPORTED) / len(words) > 0.8


def test_an_effect_below_its_margin_contradicts():
    small = Evidence((0.1, 0.2, 0.15, 0.12, 0.18, 0.11), equal=False, margin=1.0)
    assert verdict.judge([small])[0].word == verdict.CONTRADICTED
    without = Evidence(small.differences, equal=False, margin=0.0)
    assert verdict.judge([without])[0].word == verdict.SUPPORTED
    unclear = Evidence((0.1, -0.2, 0.15, -0.12, 0.18, -0.11), equal=False, margin=0.0)
    assert verdict.judge([unclear])[0].word == verdict.UNDER_POWERED
