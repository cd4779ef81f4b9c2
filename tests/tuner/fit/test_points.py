"""The measured sizes of one cell: what is joined of several results, what each size counts, where backends are out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccl_dispatch.runtime.table import Exclusion
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.fit.points import FitPoint, Workload, join_points, joined_exclusions, log_shares
from ccl_dispatch.tuner.samples import PointExclusion, PointResult
from ccl_dispatch.tuner.statistics import median_interval

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)


def _result(size: int, ratios: list[float], *excluded: tuple[str, str, str], first: float | None = None) -> PointResult:
    """A result whose candidate `fast` is by `ratios` ahead of `base`."""
    latencies = {"base": tuple(math.exp(ratio) for ratio in ratios), "fast": (1.0,) * len(ratios)} if ratios else {}
    firsts = {} if first is None else {"base": math.exp(first), "fast": 1.0}
    return PointResult(CELL, size, latencies, tuple(PointExclusion(*item) for item in excluded), first_us=firsts)


def _joined(*results: PointResult, workload: Workload | None = None) -> tuple[FitPoint, ...]:
    return join_points(results, baseline="base", candidates=["fast", "other"], confidence=0.95, workload=workload or {})


def test_results_of_one_size_are_one_point() -> None:
    """Their samples are pooled, visit by visit, with those of first calls; the interval is at the candidates' share."""
    one, other = _result(64, [0.3, 0.1], first=0.7), _result(64, [0.2] * 6, first=0.6)
    (point,) = _joined(one, other)
    assert point == _joined(other, one)[0]
    ratio = point.ratios["fast"]
    assert ratio.samples == pytest.approx((0.1, *[0.2] * 6, 0.3))
    assert sorted(ratio.visits.firsts) == pytest.approx([0.6, 0.7])
    assert sorted(ratio.visits.lengths) == [2, 6]
    assert ratio.interval == median_interval(ratio.samples, 1 - 0.05 / 2, ratio.correlation)
    assert set(point.ratios) == {"fast"}, "of the other there are no samples"


def test_one_exclusion_is_enough_and_the_first_reason_of_several_is_told() -> None:
    """Whatever other results say, and in whatever order they come."""
    reasons = [("hung", "b"), ("crashed", "z"), ("crashed", "a"), ("wrong_output", "c")]
    results = [_result(64, [0.1] * 8), *(_result(64, [0.1] * 8, ("fast", *reason)) for reason in reasons)]
    for order in (results, results[::-1]):
        (point,) = _joined(*order)
        assert point.ratios == {}
        assert point.exclusions == {"fast": ("crashed", "a")}


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=6, unique=True),
    st.dictionaries(st.integers(1, 20), st.sampled_from([0.0, 1.0, 3.0])),
)
def test_sizes_count_by_octaves_and_by_the_workload(powers: list[int], weights: dict[int, float]) -> None:
    """Octaves add up to the measured span, or to one of a lone size; all of a workload's shapes that were measured, if
    they weigh anything, count as much as the whole span, each by its weight.
    """
    workload = {1 << power: ((1, 1), weight) for power, weight in weights.items()}
    points = _joined(*(_result(1 << power, [0.1]) for power in powers), workload=workload)
    assert [point.size for point in points] == sorted(1 << power for power in powers)
    span = max(powers) - min(powers) or 1
    assert math.fsum(point.octaves for point in points) == pytest.approx(span)
    assert [point.octaves for point in points] == log_shares([point.size for point in points])
    total = sum(weight for power, weight in weights.items() if power in powers)
    for point in points:
        weight = workload.get(point.size, ((), 0.0))[1]
        share = span * weight / total if total else 0.0
        assert point.weight == pytest.approx(point.octaves + share)


def test_neighbours_that_are_excluded_alike_are_one_run() -> None:
    """A size between them that is not, or is for another reason, parts them; the first size gives the detail."""
    excluded = {
        64: [("fast", "hung", "a")],
        128: [("fast", "hung", "b"), ("other", "crashed", "c")],
        256: [("fast", "crashed", "d"), ("other", "crashed", "e")],
        512: [],
        1024: [("fast", "crashed", "f")],
    }
    points = _joined(*(_result(size, [0.1], *reasons) for size, reasons in excluded.items()))
    assert joined_exclusions(points) == (
        Exclusion("fast", "hung", 64, 128, "a"),
        Exclusion("other", "crashed", 128, 256, "c"),
        Exclusion("fast", "crashed", 256, 256, "d"),
        Exclusion("fast", "crashed", 1024, 1024, "f"),
    )
