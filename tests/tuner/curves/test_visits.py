"""How far visits of one size differ, and what that leaves open."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.curves.visits import LONG, SIZES_AGAIN, slack, visit_ratio


def cell(ratio: float, *, sizes: int, visits: int, repeats: int, seed: int = 0) -> dict[int, PointSamples]:
    """Sizes whose samples scatter by 1 to 0.05 within a visit and by `ratio` times that between visits."""
    rng = np.random.default_rng(seed)
    found = {}
    for place in range(sizes):
        scale = 0.05 ** (place / max(sizes - 1, 1))
        values = [rng.normal(rng.normal(0.3, ratio * scale), scale, repeats).tolist() for _ in range(visits)]
        found[16 * (place + 1)] = sum((PointSamples(tuple(v)) for v in values[1:]), PointSamples(tuple(values[0])))
    return found


@pytest.mark.parametrize("ratio", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("visits", [2, 8])
def test_the_ratio_is_found_whatever_the_scale(ratio: float, visits: int) -> None:
    """Over two hundred sizes whose scatter falls twentyfold, from two or eight visits of each."""
    found = visit_ratio([cell(ratio, sizes=200, visits=visits, repeats=100)])
    assert found == pytest.approx(ratio, abs=max(0.1, 0.2 * ratio))


def test_nothing_is_concluded_from_little() -> None:
    """Not from sizes that were visited once, nor from short visits, nor from too few sizes."""
    assert visit_ratio([cell(2.0, sizes=40, visits=1, repeats=100)]) == 0
    assert visit_ratio([cell(2.0, sizes=40, visits=8, repeats=LONG - 1)]) == 0
    assert visit_ratio([cell(2.0, sizes=SIZES_AGAIN - 1, visits=8, repeats=100)]) == 0


def test_one_disturbed_size_of_three_does_not_speak_for_all() -> None:
    """Another program ran during one visit of one size."""
    calm = cell(0.0, sizes=3, visits=2, repeats=100)
    first = min(calm)
    one, two = calm[first].by_visit()
    disturbed = {**calm, first: PointSamples(one) + PointSamples(tuple(value + 5 for value in two))}
    assert visit_ratio([disturbed]) < 0.5


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
