"""The arithmetic of estimates: rooflines, links, and the search for the largest batch."""

import pytest

from dnn_research.errors import UserError
from dnn_research.tools.compiling import chips, estimate

V5E = chips.named("v5e:2x4")


@pytest.mark.parametrize(
    ("cost", "seconds", "bound"),
    [
        # 197 TFLOP/s; 819 GB/s; a corner of 2 x 4 chips has two links of 50 GB/s.
        (estimate.Cost(8, 98_500_000_000_000, 0, 0, "float32"), 1.0, "compute"),
        (estimate.Cost(8, 985, 819_000_000_000, 0, "float32"), 1.0, "memory bandwidth"),
        (estimate.Cost(8, 985, 819, 50_000_000_000, "float32"), 0.5, "interconnect"),
    ],
)
def test_the_longest_of_three_bounds_a_step(cost, seconds, bound):
    times = estimate.roofline(cost, V5E)
    assert times.seconds == pytest.approx(seconds) and times.bound == bound


def test_one_chip_sends_nothing():
    assert estimate.roofline(estimate.Cost(8, 1, 1, 0, "float32"), chips.named("v5e:1x1")).interconnect == 0


@pytest.mark.parametrize(
    ("name", "size", "links"),
    [
        ("v5e:1x1", 1, 0),
        ("v5e:2x2", 4, 2),
        ("v5e:8x16", 128, 3),
        ("v6e:16x16", 256, 4),
        ("v4:2x2x1", 4, 2),
        ("v5p:2x4x4", 32, 3),
        ("v5p:4x4x8", 128, 6),
        ("h100:1", 1, 0),
        ("a100:8", 8, 1),
    ],
)
def test_slices(name, size, links):
    found = chips.named(name)
    assert (found.name, found.size, found.links) == (name, size, links)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5f:2x4", "unknown chip 'v5f'; did you mean 'v5.'.*known: v4, v5e, v5p, v6e"),
        ("v5e:2x5", "unknown topology 'v5e:2x5'; did you mean 'v5e:2x.'.*known: v5e:1x1, v5e:2x2, v5e:2x4"),
        ("v5e", "unknown topology 'v5e'"),
        ("", "unknown chip ''"),
    ],
)
def test_unknown_names_list_those_that_there_are(name, message):
    with pytest.raises(UserError, match=message):
        chips.named(name)


@pytest.mark.parametrize(
    ("per_image", "first", "tries", "found"),
    [
        (10, 16, 3, (80, None)),  # 90 fit; three leading binary digits of that are 80
        (10, 16, 1, (16, None)),
        (10, 128, 4, (80, 96)),
        (10, 128, 1, (None, 128)),
        (2000, 8, 9, (None, 1)),  # not even one image
    ],
)
def test_the_largest_share_is_found_in_few_tries(per_image, first, tries, found):
    asked = []

    def total(share):
        asked.append(share)
        used = 100 + per_image * share
        return used if used <= 1000 else None

    limit = estimate.largest_share(total, first=first, fixed=100, capacity=1000, tries=tries)
    assert (limit.fits, limit.too_many) == found
    assert len(asked) == len(set(asked)) <= tries


def test_growth_that_is_not_even_never_takes_the_search_out_of_its_bounds():
    def total(share):
        used = 100 + share**2
        return used if used <= 10_000 else None

    limit = estimate.largest_share(total, first=8, fixed=100, capacity=10_000, tries=12)
    assert limit.fits == 96 and (limit.too_many is None or limit.too_many > 96)
