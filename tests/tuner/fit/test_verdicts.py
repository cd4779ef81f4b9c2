"""What single sizes say beside the bands."""

from __future__ import annotations

import math
import random
from functools import partial
from statistics import NormalDist

import pytest
from curve_bench import Bench, Truth
from hypothesis import given
from hypothesis import strategies as st
from made_grids import made_grid, made_point

from ccl_dispatch.runtime.table import Band, CellTable
from ccl_dispatch.tuner.fit.verdicts import find_overrides, find_ties

SIZES = [2**k for k in range(8, 21)]
SHAPES = (1040, 10000, 66000, 300000)
WORKLOAD: dict[int, tuple[tuple[int, ...], float]] = {size // 16 * 16: ((1, size // 32), 1.0) for size in SHAPES}


def _flat(lead: float, _size: float) -> float:
    return lead


def _swept(bench: Bench, seed: int, lead: float = 0.0) -> CellTable:
    """The table of a candidate that is the baseline but for `lead` at the first of the workload's sizes.

    Each visit is off by 3 % of its own in either backend, which 64 repetitions don't show and other visits do.
    """
    rng = random.Random(seed)
    visits = [(size, turn) for size in (*SIZES, *WORKLOAD) for turn in range(2 if size in SIZES[2:9:3] else 1)]
    results = []
    for size, turn in visits:
        off = rng.gauss(0, 0.03) - rng.gauss(0, 0.03) + (lead if size == min(WORKLOAD) else 0.0)
        curve: Truth = partial(_flat, off)
        results.append(bench.point(size, {"fast": curve}, samples=64, seed=100 * seed + turn))
    return bench.fit(results, workload=WORKLOAD)


def test_a_visit_that_is_off_is_no_override(bench: Bench) -> None:
    """Where visits differ, the one visit of a workload's size proves no more than visits do: of 60 cells without any
    difference hardly one gets an override, though each visit by itself is sure to a tenth of what it is off by.
    """
    assert sum(bool(_swept(bench, seed).overrides) for seed in range(60)) <= 2


def test_a_size_that_is_another_by_far_is_one(bench: Bench) -> None:
    """What lies far beyond the difference of visits is seen in spite of it, as an override or in a band."""
    size = min(WORKLOAD)
    used = 0
    for seed in range(20):
        table = _swept(bench, seed, lead=0.4)
        used += "fast" in (bench.use(table, size), *(own.use for own in table.overrides if own.size == size))
    assert used >= 18


_CURVES = st.tuples(
    st.sampled_from([-0.05, -0.03, -0.02, 0.0, 0.005, 0.02, 0.03]), st.sampled_from([0.0, 0.004, 0.02]), st.booleans()
)


@given(st.lists(_CURVES, min_size=1, max_size=6), st.lists(_CURVES, min_size=6, max_size=6), st.sampled_from([0, 0.03]))
def test_a_tie_is_a_run_of_sizes_that_lie_in_the_band(
    one: list[tuple[float, float, bool]], other: list[tuple[float, float, bool]], min_gain: float
) -> None:
    """For any curves: the sizes at which a candidate may be used and is within min_gain, and at least 1 %, on either
    side, its deviation at the confidence for all candidates included; neighbours are one run.
    """
    sizes = [64 << number for number in range(len(one))]
    found = find_ties(
        made_grid([made_point(size) for size in sizes], {"one": one, "other": other[: len(one)]}),
        min_gain=min_gain,
        confidence=0.95,
    )
    sure = NormalDist().inv_cdf(1 - 0.05 / 2 / 2)
    band = math.log1p(max(min_gain, 0.01))
    for name, curve in (("one", one), ("other", other)):
        inside = {
            size
            for size, (mean, deviation, usable) in zip(sizes, curve, strict=False)
            if usable and abs(mean) + sure * deviation <= band
        }
        runs = [tie for tie in found if tie.backend == name]
        assert inside == {size for tie in runs for size in sizes if tie.low <= size <= tie.high}
        assert all(tie.low in inside and tie.high in inside and 2 * tie.high not in inside for tie in runs)
    assert list(found) == sorted(found, key=lambda tie: (tie.low, tie.backend))


def test_a_shape_overrides_its_band_where_its_own_samples_prove_it() -> None:
    """In the baseline's band what gains the most of those proven; in a candidate's, the baseline where it is proven to
    gain less, or another candidate that is proven then; where that of the band was not measured nothing is overridden.
    At the workload's sizes alone, with shape, gain and samples.
    """
    points = [
        made_point(64, one=0.1, other=0.2),
        made_point(128, one=0.2, other=0.1),
        made_point(256, one=0.03, other=0.0),
        made_point(512, one=0.2),
        made_point(1024, one=-0.2, other=0.0),
        made_point(2048, one=-0.2, other=0.2),
        made_point(4096, one=0.2, other=0.3),
        made_point(8192, other=0.2),
        made_point(16384, other=0.0),
    ]
    grid = made_grid(points, {"one": [(0.0, 0.0, True)] * 9, "other": [(0.0, 0.0, True)] * 9})
    bands = [
        Band(512, "base", "tie", None, None, None, 4, 0),
        Band(16384, "one", "faster", "base", 0.1, (0.05, 0.2), 5, 200),
    ]
    workload = {point.size: ((1, point.size // 2), 1.0) for point in points if point.size != 512}
    found = find_overrides(grid, bands, workload, baseline="base", min_gain=0.03, confidence=0.95)
    assert [(item.size, item.use, item.against) for item in found] == [
        (64, "other", "base"),
        (128, "one", "base"),
        (1024, "base", "one"),
        (2048, "other", "base"),
    ]
    for item, gain in zip(found, (0.2, 0.2, 0.2, 0.2), strict=True):
        assert item.gain == pytest.approx(math.expm1(gain), abs=0.01)
        assert item.interval[0] < item.gain < item.interval[1]
        assert item.interval[0] > 0.03
        assert (item.shape, item.samples) == ((1, item.size // 2), 40)
    assert find_overrides(grid, bands, {}, baseline="base", min_gain=0.03, confidence=0.95) == ()
    bare = made_grid([made_point(64)], {})
    assert find_overrides(bare, bands, workload, baseline="base", min_gain=0.03, confidence=0.95) == ()


def test_of_many_shapes_that_are_asked_each_has_its_share_of_the_confidence() -> None:
    """A shape that is just proven by itself is not where twelve more of the workload are asked as well."""
    sizes = [64 << number for number in range(13)]
    workload = {size: ((1, size // 2), 1.0) for size in sizes}
    bands = [Band(sizes[-1], "base", "tie", None, None, None, 13, 0)]

    def overridden(lead: float, asked: int) -> bool:
        points = [made_point(64, fast=lead), *(made_point(size, fast=0.0) for size in sizes[1:])]
        grid = made_grid(points, {"fast": [(0.0, 0.0, True)] * 13})
        shapes = {size: workload[size] for size in sizes[:asked]}
        return bool(find_overrides(grid, bands, shapes, baseline="base", min_gain=0.03, confidence=0.95))

    lead = next(lead for number in range(200) if overridden(lead := 0.03 + 0.0005 * number, 1))
    assert 0.031 < lead < 0.1
    assert not overridden(lead, 13)
    assert overridden(lead + 0.05, 13)
