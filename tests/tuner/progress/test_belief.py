"""What a picture says the table would use is what the points say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from watched import CELL, point, small_plan

from ccl_dispatch.tuner.fit import fit_cell
from ccl_dispatch.tuner.progress.belief import Beliefs
from ccl_dispatch.tuner.progress.words import so_far
from ccl_dispatch.tuner.samples import PointExclusion, PointResult

# shm is ahead below some 32 KiB and behind above.
POINTS = [point(1 << power, 1.3 if power < 15 else 0.7) for power in range(4, 21)]


def test_nothing_is_believed_before_the_first_point(tmp_path: Path) -> None:
    """Without a point no size has a backend, and the regret is not known."""
    belief = Beliefs(small_plan(tmp_path)).of(CELL.name)
    assert set(belief.uses) == {""}
    assert math.isinf(belief.regret)
    assert so_far(belief) == "nothing known yet"


def test_it_agrees_with_the_fit(tmp_path: Path) -> None:
    """With every octave measured the backend of each size is the table's, but next to the crossover, and sure."""
    plan = small_plan(tmp_path)
    beliefs = Beliefs(plan)
    for result in POINTS:
        beliefs.take(result)
    assert beliefs.stale(CELL.name)
    belief = beliefs.of(CELL.name)
    assert not beliefs.stale(CELL.name)
    table = fit_cell(CELL, POINTS, baseline="gloo", candidates=["shm"], policy=plan.policy, workload={})
    assert [band.use for band in table.bands] == ["shm", "gloo"]
    for size, use, sure in zip(belief.sizes, belief.uses, belief.sureness, strict=True):
        if not 1 << 14 <= size <= 1 << 15:
            assert use == ("shm" if size <= table.bands[0].up_to else "gloo")
            assert sure > 0.95
    assert so_far(belief).startswith("shm to ")


def test_few_points_leave_doubt(tmp_path: Path) -> None:
    """With both ends measured the choice between them is less sure than at the ends, and regret is left."""
    beliefs = Beliefs(small_plan(tmp_path))
    for result in (POINTS[0], POINTS[-1]):
        beliefs.take(result)
    belief = beliefs.of(CELL.name)
    assert min(belief.sureness) < 0.8 < min(belief.sureness[0], belief.sureness[-1])
    assert belief.regret > 0.001


def test_where_a_candidate_is_excluded_the_baseline_is_used(tmp_path: Path) -> None:
    """An excluded size and those up to its measured neighbours have the baseline, whatever the curve says."""
    beliefs = Beliefs(small_plan(tmp_path))
    out = (PointExclusion("shm", "crashed", "signal 11"),)
    for result in POINTS[:9]:
        beliefs.take(replace(result, latencies_us={}, exclusions=out) if result.size == 256 else result)
    uses = dict(zip(beliefs.of(CELL.name).sizes, beliefs.of(CELL.name).uses, strict=True))
    assert {use for size, use in uses.items() if 128 < size < 512} == {"gloo"}
    assert {uses[128], uses[512], uses[16]} == {"shm"}


def test_a_size_that_is_refused_alone_leaves_its_neighbours(tmp_path: Path) -> None:
    """Of a workload's size that is not aligned nothing follows for others, in the picture as in the table."""
    plan = small_plan(tmp_path, "workload: [{shape: [37], dtype: bfloat16}]\n")
    out = (PointExclusion("shm", "unsupported", "74 bytes are not a multiple of 16"),)
    points = [*POINTS[:9], PointResult(CELL, 74, {}, out)]
    beliefs = Beliefs(plan)
    for result in points:
        beliefs.take(result)
    belief = beliefs.of(CELL.name)
    assert {size for size, use in zip(belief.sizes, belief.uses, strict=True) if use == "gloo"} == {74}
    table = fit_cell(CELL, points, baseline="gloo", candidates=["shm"], policy=plan.policy, workload={})
    assert [band.use for band in table.bands] == ["shm", "gloo", "shm"]
