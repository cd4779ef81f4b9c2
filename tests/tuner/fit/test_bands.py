"""From curves to bands, step by step: which ends are given up, where a change lies, and why a band is as it is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_grids import made_grid, made_point

from ccl_dispatch.tuner.fit.bands import _earned, _least_of_neighbours, _options, _weaker_end, build_bands, crossing
from ccl_dispatch.tuner.sizes import ALIGNMENT

_LEADS = st.floats(-0.5, 0.5) | st.sampled_from([0.0, 0.01])


@given(
    ends=st.tuples(st.integers(16, 1 << 20), st.integers(1, 1 << 20)),
    leads=st.tuples(_LEADS, _LEADS),
    usable=st.tuples(st.booleans(), st.booleans()),
    up=st.booleans(),
)
def test_a_change_lies_where_the_lead_is_zero(
    ends: tuple[int, int], leads: tuple[float, float], usable: tuple[bool, bool], up: bool
) -> None:
    """For any two sizes and leads: between the two, at the last aligned size before the lead of the one below is gone,
    by a straight line over log size; and where there is no such place the candidate keeps its own size alone.
    """
    low, high = ends[0], ends[0] + ends[1]
    at = [(lead, 0.0, there) for lead, there in zip(leads, usable, strict=True)]
    grid = made_grid([made_point(low), made_point(high)], {"fast": at})
    below, above = ("base", "fast") if up else ("fast", "base")
    found = crossing(grid, 0, below, above, baseline="base", least=0.01)
    assert low <= found < high
    first, second = ((0.01 - lead if up else lead - 0.01) for lead in leads)
    if not all(usable) or not first >= 0 >= second or first == second:
        assert found == (high - 1 if up else low)
        return
    zero = low * (high / low) ** (first / (first - second))
    assert found <= max(zero * (1 + 1e-12), low)
    assert found % ALIGNMENT == 0 or found in (low, high - 1)
    assert found + ALIGNMENT > zero * (1 - 1e-12) or found == high - 1


@pytest.mark.parametrize("first", [0, 3])
def test_of_runs_side_by_side_the_least_gives_up(first: int) -> None:
    """By what it wins over the baseline, each size by its weight; one that has a gap before it stands for itself."""
    options = [{"a": 0.1, "b": 0.1, "c": 0.3} for _ in range(12)]
    labels = [*"bbb"[:first], *"aab", *"cc", "base", *"bbbbbb"][:12]
    failed = [(first, first + 1), (first + 2, first + 2), (first + 3, first + 4), (first + 6, first + 7)]
    weights = [1.0] * 12
    assert _least_of_neighbours(failed, options, labels, weights) == [failed[1], failed[3]]
    weights[first + 2] = 30.0
    assert _least_of_neighbours(failed, options, labels, weights) == [failed[0], failed[3]]
    assert _least_of_neighbours([], options, labels, weights) == []


@pytest.mark.parametrize(
    ("measured", "utilities", "given_up"),
    [
        ((64, 512), (0.1, 0.0, 0.2), range(1, 4)),
        ((64, 512), (0.2, 0.0, 0.1), range(2, 5)),
        ((64, 512), (0.1, 0.0, 0.1), range(1, 4)),
        ((64, 128, 512), (0.1, 0.0, 0.2), range(1, 2)),
        ((64, 128, 512), (0.2, 0.3, 0.1), range(3, 5)),
        ((256,), (0.1, 0.0, 0.2), range(1, 5)),
        ((16, 1024), (0.1, 0.0, 0.2), range(1, 5)),
    ],
)
def test_the_weaker_end_of_a_run_is_given_up_to_its_next_measured_size(
    measured: tuple[int, ...], utilities: tuple[float, float, float], given_up: range
) -> None:
    """At its outermost measured sizes it is compared; a run with fewer than two is given up whole."""
    sizes = [16, 64, 128, 256, 512, 1024]
    grid = made_grid([made_point(size) for size in measured], {}, sizes=sizes)
    options = [{"fast": utilities[0 if size <= 64 else 1 if size < 512 else 2]} for size in sizes]
    assert _weaker_end(grid, options, 1, 4, "fast") == given_up


def test_a_run_is_earned_by_its_own_samples() -> None:
    """Measured within it, and proven beyond what is asked; with nothing to prove a measured size is enough."""
    points = [made_point(64, fast=0.2), made_point(128, other=0.2), made_point(256, fast=0.02)]
    grid = made_grid(points, {"fast": [(0.3, 0.0, True)] * 3, "other": [(0.3, 0.0, True)] * 3})
    threshold = math.log1p(0.03)
    assert [_earned(grid, place, place, "fast", threshold, 0.95) for place in range(3)] == [True, False, False]
    assert [_earned(grid, place, place, "fast", 0.0, 0.95) for place in range(3)] == [True, False, True]
    assert _earned(grid, 0, 1, "fast", threshold, 0.95)


def test_what_is_closed_or_proven_slower_is_no_option() -> None:
    """At every other size a candidate's utility is its curve less the edge; the baseline's is nothing."""
    points = [made_point(64, fast=0.1), made_point(128, fast=0.1, slower=["fast"]), made_point(256, fast=-0.1)]
    grid = made_grid(points, {"fast": [(0.1, 0.0, True), (0.2, 0.0, True), (-0.1, 0.0, True)]})
    found = _options(grid, "base", 0.02, 0.95)
    assert found == [
        {"base": 0.0, "fast": pytest.approx(0.08)},
        {"base": 0.0},
        {"base": 0.0, "fast": pytest.approx(-0.12)},
    ]
    shut = made_grid(points, {"fast": [(0.1, 0.0, False)] * 3})
    assert _options(shut, "base", 0.02, 0.95) == [{"base": 0.0}] * 3


@pytest.mark.parametrize(
    ("means", "leads", "why"),
    [
        ((-0.2, -0.2, -0.2), (-0.2, -0.2, -0.2), "faster"),
        ((-0.2, -0.2, 0.0), (-0.2, -0.2, 0.0), "faster"),
        ((-0.2, 0.0, 0.0), (-0.2, 0.0, 0.0), "tie"),
        ((-0.2, -0.2, -0.2), (0.0, 0.0, 0.0), "tie"),
        ((-0.02, -0.02, -0.02), (-0.2, -0.2, -0.2), "tie"),
    ],
)
def test_a_baselines_band_is_faster_where_most_of_it_is_and_samples_prove_it(
    means: tuple[float, ...], leads: tuple[float, ...], why: str
) -> None:
    """By more than min_gain over more than half of its octaves, and beyond doubt as a whole; else it is a tie."""
    points = [made_point(size, fast=lead) for size, lead in zip((64, 128, 256), leads, strict=True)]
    grid = made_grid(points, {"fast": [(mean, 0.0, True) for mean in means]})
    (band,), crossovers = build_bands(grid, ["base"] * 3, baseline="base", min_gain=0.03, confidence=0.95)
    assert (band.up_to, band.use, band.why, band.against, band.points, band.samples) == (
        256,
        "base",
        why,
        "fast",
        3,
        120,
    )
    assert crossovers == ()


def test_reasons_of_the_baseline_are_parted_and_a_candidate_is_named_as_proven() -> None:
    """Sizes at which every candidate is excluded, that were never compared, and a candidate's: each has its band, with
    the rival that comes closest, and what is excluded ends just before the first size that is open.
    """
    sizes = (64, 128, 256, 512, 1024, 2048)
    points = [
        made_point(64),
        made_point(128),
        made_point(256, fast=-0.3, other=-0.1),
        made_point(512, fast=-0.3, other=-0.1),
        made_point(1024, fast=0.2, other=-0.1),
        made_point(2048, fast=0.2, other=-0.1),
    ]
    fast = [(0.0, 0.0, False)] * 2 + [(-0.3, 0.0, True)] * 2 + [(0.2, 0.0, True)] * 2
    other = [(0.0, 0.0, False)] * 2 + [(-0.1, 0.0, True)] * 4
    grid = made_grid(points, {"fast": fast, "other": other})
    labels = ["base"] * 4 + ["fast"] * 2
    bands, (change,) = build_bands(grid, labels, baseline="base", min_gain=0.03, confidence=0.95)
    assert [(band.up_to, band.use, band.why, band.against) for band in bands] == [
        (255, "base", "excluded", None),
        (change.at, "base", "faster", "other"),
        (2048, "fast", "faster", "base"),
    ]
    assert [(band.points, band.samples) for band in bands] == [(2, 0), (2, 80), (2, 80)]
    assert bands[1].gain == pytest.approx(math.expm1(0.1), abs=0.01)
    assert bands[2].gain == pytest.approx(math.expm1(0.2), abs=0.01)
    assert 512 <= change.at < 1024
    assert (change.low, change.high, change.below, change.above) == (512, 1024, "base", "fast")
    (likely, *_), _ = build_bands(grid, ["fast"] * 6, baseline="base", min_gain=3.0, confidence=0.95)
    assert likely.why == "likely"
    assert sizes[-1] == likely.up_to
