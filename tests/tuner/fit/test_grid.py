"""The grid of a fit: where a candidate may be used, and what is taken for noise where nothing was repeated."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from curve_bench import Bench
from hypothesis import given
from hypothesis import strategies as st
from made_grids import made_point

from ccl_dispatch.tuner.fit.grid import FitGrid, _open, _sizes, crossover_interval, fit_grids, learn_noises
from ccl_dispatch.tuner.fit.points import join_points
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.sizes import is_alone


def _grid(results: list[PointResult]) -> FitGrid:
    points = join_points(results, baseline="base", candidates=("fast",), confidence=0.95, workload={})
    return fit_grids([points], ("fast",), learn_noises([points], ("fast",)))[0]


def test_measured_sizes_are_on_the_grid(bench: Bench) -> None:
    """Every measured size is a place of the grid, with the curve near its samples and as much doubt as they leave."""
    results = bench.points(bench.grid(9), {"fast": lambda x: 0.05 * (13 - x)})
    grid = _grid(results)
    for result in results:
        place = grid.sizes.index(result.size)
        truth = 0.05 * (13 - math.log2(result.size))
        assert abs(float(grid.curves["fast"].mean[place]) - truth) < 4 * float(grid.curves["fast"].deviation[place])


def test_a_candidate_is_open_between_right_sizes_only(bench: Bench) -> None:
    """Between a right and an excluded size nothing is open; at the right size itself it is."""
    results = [
        bench.point(size, {"fast": lambda _: 0.3}, excluded=[("fast", "crashed")] if size == 4096 else [])
        for size in (256, 1024, 4096, 16384, 65536)
    ]
    grid = _grid(results)
    open_at = {size: bool(grid.open["fast"][place]) for place, size in enumerate(grid.sizes)}
    assert open_at[1024]
    assert open_at[16384]
    assert not any(value for size, value in open_at.items() if 1024 < size < 16384)
    assert all(value for size, value in open_at.items() if size <= 1024 or size >= 16384)


@given(
    st.dictionaries(
        st.sampled_from([60, 64, 72, 128, 136, 256, 264, 512]),
        st.sampled_from(["right", "right", "crashed", "unsupported", "not measured"]),
        min_size=1,
    )
)
def test_a_size_is_open_where_its_neighbours_are_right(found: dict[int, str]) -> None:
    """For any points: a size at which the candidate was right, or that lies between two such; what it refuses for its
    alignment is closed itself, and says nothing of others. Beyond the outermost that tell something nothing is open.
    """
    points = []
    for size, what in sorted(found.items()):
        point = made_point(size, fast=0.1) if what == "right" else made_point(size)
        excluded = {} if what in ("right", "not measured") else {"fast": (what, "")}
        points.append(replace(point, exclusions=excluded))
    telling = {size: what == "right" for size, what in found.items() if not is_alone(size, what)}
    sizes = sorted({*found, 16, 100, 130, 200, 300, 1024})
    for size, there in zip(sizes, _open(points, sizes, "fast").tolist(), strict=True):
        below = telling[max(near)] if (near := [other for other in telling if other <= size]) else False
        above = telling[min(near)] if (near := [other for other in telling if other >= size]) else False
        assert there == (below and above and (size in telling or size not in found)), size


@pytest.mark.parametrize(("low", "high"), [(1024, 4096), (16, 1 << 20), (1000, 1100), (64, 64), (65, 70)])
def test_a_grid_is_fine_between_its_measured_ends(low: int, high: int) -> None:
    """However narrow the range: from end to end, and an eighth of an octave apart but for rounding."""
    sizes = _sizes([made_point(low), made_point(high)])
    assert (sizes[0], sizes[-1]) == (low, high)
    assert list(sizes) == sorted(set(sizes))
    assert all(size % 16 == 0 for size in sizes[1:-1])
    assert all(other <= one * 2 ** (1 / 8) + 32 for one, other in itertools.pairwise(sizes))


@given(st.lists(st.tuples(st.integers(-6, 6), st.integers(0, 3)), min_size=2, max_size=8), st.data())
def test_a_change_is_known_to_lie_between_the_nearest_sizes_that_are_sure(
    curve: list[tuple[int, int]], data: st.DataObject
) -> None:
    """For any leads and deviations, and any place of the change: out to the first size on either side whose lead is two
    deviations from zero on the right side, or to the end.
    """
    place = data.draw(st.integers(0, len(curve) - 2))
    low, high = crossover_interval([float(each) for _, each in curve], [float(lead) for lead, _ in curve], place, 2.0)
    assert low == max((i for i in range(place + 1) if curve[i][0] >= 2 * curve[i][1]), default=0)
    last = len(curve) - 1
    assert high == min((i for i in range(place + 1, last) if -curve[i][0] >= 2 * curve[i][1]), default=last)


def test_a_smooth_table_of_single_rows_is_taken_at_its_word(bench: Bench) -> None:
    """One exact row for each size: the curve goes through the rows, it does not smooth them by a noise nobody saw."""
    results = bench.points(
        bench.grid(25), {"fast": lambda x: 0.2 if x < 14 else -0.2}, samples=1, noise=0.0, outliers=0.0
    )
    grid = _grid(results)
    for result in results:
        place = grid.sizes.index(result.size)
        (seen,) = result.log_ratios("base", "fast")
        assert abs(float(grid.curves["fast"].mean[place]) - seen) < 0.01


def test_noise_of_single_rows_is_seen_in_the_curve(bench: Bench) -> None:
    """One noisy row for each size: the noise that the curve is given is about the noise that there is."""
    results = bench.points(bench.grid(40), {"fast": lambda _: 0.1}, samples=1, noise=0.03, outliers=0.0)
    points = join_points(results, baseline="base", candidates=("fast",), confidence=0.95, workload={})
    assert 0.02 < learn_noises([points], ("fast",))["fast"].scale < 0.08


@pytest.mark.parametrize(("reason", "alone"), [("unsupported", True), ("wrong_output", False)])
def test_what_is_refused_for_its_alignment_says_nothing_of_others(bench: Bench, reason: str, alone: bool) -> None:
    """A size that is not aligned and refused closes itself, and no byte that is aligned; one that fails closes all
    up to the nearest ones that were right.
    """
    results = [
        bench.point(size, {"fast": lambda _: 0.3}, excluded=[("fast", reason)] if size == 5002 else [])
        for size in (256, 1024, 4096, 5002, 16384, 65536)
    ]
    grid = _grid(results)
    shut = [size for place, size in enumerate(grid.sizes) if not grid.open["fast"][place]]
    inside = [size for size in grid.sizes if 4096 < size < 16384]
    assert shut == ([5002] if alone else inside)
    assert {4992, 5008} <= {*grid.sizes} or not alone
