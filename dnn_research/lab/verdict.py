"""The rule by which a claim is called supported, contradicted or under-powered, written down before any run.

Two p-values belong to a claim, one for it and one against it, both from exact sign-flip tests of the paired
differences in the claimed direction (`statistics`):

- A claim of a difference. For it: two-sided, against "no difference", in the claimed direction. Against it: two-sided,
  against "the effect is at least the margin".
- A claim of no difference. For it: two one-sided tests, the effect lies within the margin. Against it: two-sided, it
  lies beyond the margin.

The margin of a difference is 0 unless the claim writes one: the least effect that would still be what it says. Both
lists of p-values are adjusted by Holm over all claims of the experiment. At most `ALPHA` against it: *contradicted*;
else at most `ALPHA` for it: *supported*; else *under-powered*, which means that these runs cannot tell. A claim is
*not yet run* while a run of any claim is missing (Holm needs them all), *not comparable* where its runs are not of one
code and versions, and *without a value* where one of them diverged and what is measured has no value for that.
"""

import dataclasses
from collections.abc import Sequence

from dnn_research.lab import statistics
from dnn_research.lab.statistics import ALPHA

SUPPORTED, CONTRADICTED, UNDER_POWERED = "supported", "contradicted", "under-powered"
NOT_RUN, NOT_COMPARABLE, WITHOUT_VALUE = "not yet run", "not comparable", "without a value: runs diverged"

RULE = (
    "Exact sign-flip tests of the paired differences, two-sided, Holm over the claims of the experiment, alpha "
    f"{ALPHA}. Contradicted: an effect in the other direction, or less than the claim's margin, is shown. Supported: "
    "an effect in the claimed direction is shown. A claim of no difference is supported when the effect is shown to "
    "lie within the margin, contradicted when it is shown to lie beyond it. Under-powered: neither; these runs cannot "
    "tell. The rule stands in dnn_research/lab/verdict.py and was there before the runs."
)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the runs say to one claim.

    Attributes:
        differences: of the pairs, in the measure's unit, the claimed direction counted positive (a claim of no
            difference: as measured).
        equal: whether the claim is that there is no difference.
        margin: see the module; 0 for none.
    """

    differences: tuple[float, ...]
    equal: bool
    margin: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A claim's verdict and the adjusted p-values that it rests on."""

    word: str
    p_for: float
    p_against: float


def judge(evidence: Sequence[Evidence | None]) -> list[Verdict]:
    """The verdicts over all claims of an experiment; a claim without a value, None, counts among them."""
    supporting = statistics.holm([_for(claim) if claim else 1.0 for claim in evidence])
    contradicting = statistics.holm([_against(claim) if claim else 1.0 for claim in evidence])
    return [
        Verdict(_word(p_for, p_against) if claim else WITHOUT_VALUE, p_for, p_against)
        for claim, p_for, p_against in zip(evidence, supporting, contradicting, strict=True)
    ]


def _word(p_for: float, p_against: float) -> str:
    if p_against <= ALPHA:
        return CONTRADICTED
    return SUPPORTED if p_for <= ALPHA else UNDER_POWERED


def _for(claim: Evidence) -> float:
    if claim.equal:
        return statistics.p_equivalent(claim.differences, claim.margin)
    return min(1.0, 2 * statistics.p_greater(claim.differences))


def _against(claim: Evidence) -> float:
    if claim.equal:
        outside = statistics.p_greater(claim.differences, claim.margin)
        return min(1.0, 2 * min(outside, statistics.p_less(claim.differences, -claim.margin)))
    return min(1.0, 2 * statistics.p_less(claim.differences, claim.margin))
