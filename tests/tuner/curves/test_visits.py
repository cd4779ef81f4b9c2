"""How far visits of one size differ, and what that leaves open."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves import Noise, PointSamples
from ccl_dispatch.tuner.curves.visits import LONG, SIZES_AGAIN, likely_ratio, slack, visit_ratio, votes, with_visits


def cell(ratio: float, *, sizes: int, visits: int, repeats: int, seed: int = 0) -> dict[int, PointSamples]:
    """Sizes whose samples scatter by 1 to 0.05 within a visit and by `ratio` times that between visits."""
    rng = np.random.default_rng(seed)
    found = {}
    for place in range(sizes):
        scale = 0.05 ** (place / max(sizes - 1, 1))
        values = [rng.normal(rng.normal(0.3, ratio * scale), scale, repeats).tolist() for _ in range(visits)]
        found[16 * (place + 1)] = PointSamples.joined([PointSamples(tuple(v)) for v in values])
    return found


@pytest.mark.parametrize("ratio", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("visits", [2, 8])
def test_the_ratio_is_found_whatever_the_scale(ratio: float, visits: int) -> None:
    """Over two hundred sizes whose scatter falls twentyfold, from two or eight visits of each."""
    found = visit_ratio([cell(ratio, sizes=200, visits=visits, repeats=100)])
    assert found == pytest.approx(ratio, abs=max(0.1, 0.2 * ratio))


def test_nothing_is_concluded_from_little() -> None:
    """Not from sizes that were visited once, nor from short visits, nor from too few sizes."""
    assert visit_ratio([cell(2.0, sizes=40, visits=1, repeats=100)]) is None
    assert visit_ratio([cell(2.0, sizes=40, visits=8, repeats=LONG - 1)]) is None
    assert visit_ratio([cell(2.0, sizes=SIZES_AGAIN - 1, visits=8, repeats=100)]) is None


def test_one_disturbed_size_of_three_does_not_speak_for_all() -> None:
    """Another program ran during one visit of one size."""
    calm = cell(0.0, sizes=3, visits=2, repeats=100)
    first = min(calm)
    one, two = calm[first].by_visit()
    visits = [PointSamples(one), PointSamples(tuple(value + 5 for value in two))]
    disturbed = {**calm, first: PointSamples.joined(visits)}
    found = visit_ratio([disturbed])
    assert found is not None
    assert found < 0.5


def test_the_slack_is_what_visits_are_off_by() -> None:
    """Of ten thousand runs of five visits each 95 % have a mean that is off by less, to either side alone."""
    rng = np.random.default_rng(3)
    ratio, scale = 0.7, 0.1
    points = [PointSamples(tuple(rng.normal(0, scale, 4000).tolist())) for _ in range(5)]
    off = rng.normal(0, ratio * scale, (10_000, 5)).mean(axis=1)
    assert float(np.mean(off <= slack(points, ratio, scale, 0.95))) == pytest.approx(0.95, abs=0.01)


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 3))
def test_more_visits_leave_less_open(few: int, more: int, ratio: float) -> None:
    """Falling with the root of their number, and nothing where visits do not differ."""
    one, other = ([PointSamples((0.1,), visits=(1,))] * count for count in (few, few + more))
    assert slack(one, 0.0, 0.1, 0.95) == 0
    assert slack(other, ratio, 0.1, 0.95) * np.sqrt(few + more) == pytest.approx(
        slack(one, ratio, 0.1, 0.95) * np.sqrt(few)
    )


def again(ratio: float, seed: int, *, sizes: int = 6, repeats: tuple[int, ...] = (1, 4)) -> dict[int, PointSamples]:
    """Sizes that were visited again, shortly, with an outlier among the first visits of every other seed."""
    rng = np.random.default_rng(seed)
    found = {}
    for place in range(sizes):
        visits = [rng.normal(rng.normal(0, ratio * 0.07), 0.07, count).tolist() for count in repeats]
        if place == 0 and seed % 2:
            visits[0][0] += abs(rng.normal(0, 1))
        found[16 * (place + 1)] = PointSamples.joined([PointSamples(tuple(v)) for v in visits])
    return found


def test_short_visits_tell_too_where_they_differ() -> None:
    """From six sizes with a visit of one sample, or four, and another of four: visits that differ are found out, those
    that do not are hardly ever suspected, an outlier among the first ones or none.
    """
    for repeats, least in (((1, 4), 75), ((4, 4), 95)):
        suspected, found = (
            sum(likely_ratio([again(ratio, seed, repeats=repeats)], 0.07) > 0 for seed in range(100))
            for ratio in (0.0, 3.0)
        )
        assert suspected <= 3
        assert found >= least
    assert likely_ratio([again(2.0, 0, sizes=100)], 0.07) == pytest.approx(2.0, rel=0.3)
    assert likely_ratio([again(3.0, seed, repeats=(4,)) for seed in range(20)], 0.07) == 0


def test_an_outlier_among_many_visits_of_one_size_is_one() -> None:
    """Wherever it stands among them."""
    rng = np.random.default_rng(1)
    for place in range(7):
        visits = [PointSamples((float(rng.normal(0.8 if other == place else 0.0, 0.07)),)) for other in range(7)]
        point = PointSamples.joined(visits)
        assert likely_ratio([{64: point}], 0.07) == 0


@pytest.mark.parametrize("late", [0.7, 1.5, 2.3, 3.0])
def test_one_late_call_does_not_speak_for_all_visits(late: float) -> None:
    """A size that was visited again since its call took ten times as long says nothing of all others, nor do two such
    sizes: else every point of the curve is as uncertain as that one, and the table is the baseline's.
    """
    odd = PointSamples.joined([PointSamples((0.1 - late,)), PointSamples((0.05,))])
    others = {size: PointSamples((0.3,)) for size in range(256, 512, 16)}
    for scale in (0.03, 0.07, 0.14):
        assert likely_ratio([{64: odd, **others}], scale) == 0
        assert likely_ratio([{64: odd, 128: odd, **others}], scale) == 0


def test_visits_that_differ_bear_witness_as_one_each() -> None:
    """Where short visits were seen to differ a run has as many samples as visits; elsewhere all that it has."""
    cells = [again(4.0, seed) for seed in (0, 2)]
    noise = with_visits(Noise(0.07), cells)
    assert (noise.whole, noise.settled) == (True, False)
    values, scale = votes(cells[0].values(), noise)
    assert len(values) == 2 * len(cells[0])
    assert scale > 2 * 0.07
    calm = with_visits(Noise(0.07), [again(0.0, 0)])
    assert (calm.whole, calm.settled) == (False, False)
    assert len(votes(cells[0].values(), calm)[0]) == 5 * len(cells[0])


def test_whoever_has_most_of_the_samples_has_most_of_the_say() -> None:
    """One visit of a thousand samples beside nine of ten is off by nearly all that one visit is off by."""
    rng = np.random.default_rng(5)
    points = [PointSamples(tuple(rng.normal(0, 0.1, count).tolist())) for count in (1000, *[10] * 9)]
    alone = slack(points[:1], 1.0, 0.1, 0.95)
    assert 0.85 * alone < slack(points, 1.0, 0.1, 0.95) < alone
    assert slack(points, 1.0, 0.1, 0.95, [1.0] * 10) < 0.4 * alone


@settings(deadline=None)
@given(st.integers(0, 40), st.floats(-5, 5))
def test_where_a_curve_lies_says_nothing_of_how_visits_differ(seed: int, shift: float) -> None:
    """Whether the candidate takes half as long or twice, and in whatever order a size's visits came, with an outlier
    among them or none: the same is found.
    """
    cell = again(seed % 5, seed, repeats=(1, 4) if seed % 4 < 2 else (1,) * 7)
    found = likely_ratio([cell], 0.07)
    moved = {
        size: PointSamples.joined([PointSamples(tuple(v + shift for v in visit)) for visit in point.by_visit()][::-1])
        for size, point in cell.items()
    }
    assert likely_ratio([moved], 0.07) == found


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_the_slack_is_that_of_a_weighted_mean_of_visits(lengths: list[list[int]], data: st.DataObject) -> None:
    """Each visit counts by its share of its point's samples, each point by its share of the weights, and what visits
    are off by adds up in squares; where no weights are given, as if each sample had one.
    """
    given_weights = data.draw(st.lists(st.floats(0.01, 10), min_size=len(lengths), max_size=len(lengths)))
    points = [PointSamples((0.1,) * sum(visits), visits=tuple(visits)) for visits in lengths]
    for weights in (None, given_weights):
        counts = weights or [sum(visits) for visits in lengths]
        shares = [
            weight / sum(counts) * length / sum(visits)
            for weight, visits in zip(counts, lengths, strict=True)
            for length in visits
        ]
        expected = NormalDist().inv_cdf(0.95) * 0.7 * 0.1 * math.hypot(*shares)
        assert slack(points, 0.7, 0.1, 0.95, weights) == pytest.approx(expected)


def test_what_long_visits_show_widens_what_they_prove_and_takes_no_sample_away() -> None:
    """Known from long visits, how far they differ is settled; then repetitions bear witness one by one."""
    cells = [cell(2.0, sizes=SIZES_AGAIN, visits=2, repeats=LONG)]
    noise = with_visits(Noise(0.07), cells)
    assert (noise.settled, noise.whole, noise.visit) == (True, False, visit_ratio(cells))
    assert votes(cells[0].values(), noise) == ([v for point in cells[0].values() for v in point.repeats], 0.07)
