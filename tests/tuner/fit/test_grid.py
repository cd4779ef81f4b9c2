"""The grid of a fit: where a candidate may be used, and what is taken for noise where nothing was repeated."""

from __future__ import annotations

import math

import pytest
from curve_bench import Bench

from ccl_dispatch.tuner.fit.grid import FitGrid, fit_grids, learn_noises
from ccl_dispatch.tuner.fit.points import join_points
from ccl_dispatch.tuner.samples import PointResult


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
