"""What the search thinks of a cell while others are measured, and when it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ccl_dispatch.runtime.table import CellTable, Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.fit import fit_cells
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import Budget, Observation, RegretSampler, SearchSpace, Visit
from ccl_dispatch.tuner.sizes import size_grid

CELLS = {
    cell.name: cell for cell in (Cell("all_gather", "eager", "first", dtype, 2) for dtype in ("bfloat16", "float32"))
}
SIZES = size_grid(16, 4 << 20, 4)


@pytest.mark.parametrize("shapes", [1, 3, 5])
@pytest.mark.parametrize("seed", range(10))
def test_a_search_that_ends_by_its_regret_leaves_nothing_to_prove(shapes: int, seed: int) -> None:
    """Of two cells that are alike one is visited again, which shows that visits differ by far more than repetitions.

    What the other cell had proven by then is proven no more. The search does not end on what it thought of that cell
    before: in the table that is made of its samples the candidate, ten times faster everywhere, is used everywhere.
    Seen on a virtual machine: 25 repetitions of 6 us in one visit, of 110 us in the next.
    """
    work = dict.fromkeys(SIZES[1 : 1 + 5 * shapes : 5], 1.0)
    space = SearchSpace(dict.fromkeys(CELLS, SIZES), {next(iter(CELLS)): work}, families=(tuple(CELLS),))
    budget = Budget(regret=0.005, seconds=1000.0)
    sampler = RegretSampler(space, ["fast"], threshold=np.log(1.03), budget=budget, repeats=(8, 400), visits_again=True)
    found: list[Observation] = []
    results = []
    while (proposal := sampler.judge(found).proposal) is not None and len(found) < 200:
        rng = np.random.default_rng([seed, len(found)])
        repeats = max(25, proposal.repeats)
        values = rng.normal(2.3 + rng.normal(0, 1.2), 0.3, repeats)
        samples = PointSamples(tuple(values.tolist()))
        visit = Visit(1e-2, repeats, 1e-4, 2, 2 * repeats + 6)
        found = [*found, Observation(proposal.cell, proposal.size, {"fast": samples}, visit)]
        latencies = {"base": tuple((10 * np.exp(values)).tolist()), "fast": (10.0,) * repeats}
        results.append(PointResult(CELLS[proposal.cell], proposal.size, latencies, (), stopped_by="settled"))
    outlook = sampler.judge(found)
    assert (outlook.exhausted, outlook.regret < 0.005) == ("", True)
    cells = fit_cells(
        results, baseline="base", candidates=("fast",), policy=Policy(0.03, 0.95, "isolated"), workload={}
    )
    assert min(map(_share_of_fast, cells)) > 0.75


def _share_of_fast(cell: CellTable) -> float:
    """Of the octaves of a cell those in which the candidate is used: where a visit lied it may be given up nearby."""
    ends = [cell.measured_from, *(band.up_to for band in cell.bands)]
    used = [
        math.log2(high / low) for band, low, high in zip(cell.bands, ends, ends[1:], strict=False) if band.use == "fast"
    ]
    return sum(used) / math.log2(ends[-1] / ends[0])
