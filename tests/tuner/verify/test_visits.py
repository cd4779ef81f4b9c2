"""What visits say, and how much they differ."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.verify.visits import Place, learn_spread, location, quantile, t_quantile, visit_of

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)


def test_a_short_visit_looks_neither_faster_nor_slower_than_a_long_one() -> None:
    """The lower quintile of 8 heavy-tailed samples and that of 64 agree on average to half a percent of a deviation."""
    rng = random.Random(1)
    means = [
        statistics.fmean(
            math.log(quantile([rng.lognormvariate(0, 0.3) for _ in range(count)], 0.2)) for _ in range(6000)
        )
        for count in (8, 64)
    ]
    assert means[0] == pytest.approx(means[1], abs=0.015)


def test_the_quantile_of_one_sample_is_that_sample() -> None:
    """A visit of a single repetition has a level, whatever share is asked for."""
    assert quantile([3.5], 0.2) == 3.5
    assert quantile([1.0, 2.0], 0.0) == 1.0
    assert quantile([1.0, 2.0], 1.0) == 2.0


def test_a_visit_has_levels_and_ratios_of_what_was_timed() -> None:
    """The candidate's ratio is the median of the paired log-ratios; where nothing was timed there is no visit."""
    visit = visit_of(PointResult(CELL, 64, {"gloo": (4.0, 4.0, 8.0), "shm": (2.0, 1.0, 1.0)}), "gloo", ("shm",), 3)
    assert visit is not None
    assert visit.set == 3
    assert visit.ratios["shm"] == pytest.approx(math.log(4))
    assert visit.quick_ratio("gloo", "shm") == pytest.approx(math.log(4.0 / 1.0), abs=0.2)
    assert visit.quick_ratio("gloo", "absent") is None
    assert visit_of(PointResult(CELL, 64, {}), "gloo", ("shm",), 0) is None


def test_one_visit_that_is_off_by_a_factor_does_not_carry_the_others_with_it() -> None:
    """Of eight visits one that took three times as long moves the location by less than a twentieth of that."""
    calm = [0.01, -0.01, 0.02, -0.02, 0.0, 0.01, -0.01]
    assert abs(location([*calm, math.log(3)]) - location([*calm, 0.0])) < math.log(3) / 20
    assert location([1.0, 3.0]) == 2.0


def test_luck_that_all_places_share_is_told_from_what_visits_scatter() -> None:
    """With sets of workers that differ by 4 % and visits by 5 %, both are found to within a third."""
    rng = random.Random(3)
    luck = [rng.gauss(0, 0.04) for _ in range(40)]
    values = {
        Place(CELL, 16 * 4**step): [
            (number, own + rng.gauss(0, 0.05)) for number, own in enumerate(luck) for _ in (0, 1)
        ]
        for step in range(8)
    }
    spread = learn_spread([values])
    assert math.sqrt(spread.between[2]) == pytest.approx(statistics.pstdev(luck), rel=0.33)
    # The scatter at a place is that of visits and of their sets.
    assert math.sqrt(statistics.fmean(spread.within.values())) == pytest.approx(math.hypot(0.04, 0.05), rel=0.33)


def test_visits_of_a_set_that_resemble_each_other_count_for_fewer() -> None:
    """Where each of four sets of workers stays in a mode of its own, sixteen visits are worth little more than four."""
    values = {Place(CELL, 64): [(number, mode) for number, mode in enumerate((0.0, 1.0, 0.1, 0.9)) for _ in range(4)]}
    spread = learn_spread([values])
    by_sets = spread.own_variance(Place(CELL, 64), values[Place(CELL, 64)])
    assert by_sets == pytest.approx(statistics.variance((0.0, 1.0, 0.1, 0.9)) / 4, rel=0.1)
    assert by_sets > 1.4 * spread.within[Place(CELL, 64)] / 16


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [(0.975, 4, 2.7764), (0.9995, 6, 5.9588), (0.999, 10, 4.1437), (0.9995, 30, 3.6460), (0.975, 1e9, 1.9600)],
)
def test_quantiles_of_student_are_those_of_the_tables(probability: float, freedom: float, expected: float) -> None:
    """Against printed tables the approximation is at most 4 % too far out, and never too near."""
    found = t_quantile(probability, freedom)
    assert expected * 0.999 <= found <= expected * 1.04
    assert t_quantile(1 - probability, freedom) == pytest.approx(-found)
