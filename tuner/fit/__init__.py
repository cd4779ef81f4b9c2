"""From samples to bands: `fit_cell` for one cell, `fit_cells` for a whole study. Pure: same samples, same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.table import CellTable, Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.curves.cells import families
from ccl_dispatch.tuner.fit.bands import build_bands, earned_labels
from ccl_dispatch.tuner.fit.grid import FitGrid, fit_grids, learn_noises
from ccl_dispatch.tuner.fit.points import FitPoint, Workload, join_points, joined_exclusions
from ccl_dispatch.tuner.fit.regret import regret_estimate
from ccl_dispatch.tuner.fit.verdicts import find_overrides, find_ties
from ccl_dispatch.tuner.samples import PointResult

__all__ = ["fit_cell", "fit_cells"]


def fit_cell(
    cell: Cell,
    results: Sequence[PointResult],
    *,
    baseline: str,
    candidates: Sequence[str],
    policy: Policy,
    workload: Workload,
) -> CellTable:
    """The table's answer for one cell from its own results alone; their order does not matter.

    Args:
        cell: the curve to fit; results of other cells are left out.
        results: measured, replayed or imported points, several of one size are joined.
        baseline: the backend that is used when in doubt.
        candidates: the backends that may replace it.
        policy: min_gain and confidence that a candidate's band has to prove.
        workload: per size the shape that it stands for and its weight.

    Raises:
        MeasuringError: the baseline has no samples in this cell, though there was a candidate to compare it with.
    """
    mine = [result for result in results if result.cell == cell]
    how = {cell: workload}
    return _fit_family((cell,), {cell: mine}, baseline, candidates, policy, how)[0]


def fit_cells(
    results: Sequence[PointResult],
    *,
    baseline: str,
    candidates: Sequence[str],
    policy: Policy,
    workload: Mapping[Cell, Workload],
) -> tuple[CellTable, ...]:
    """A table for every cell that has results, sorted by cell; their order does not matter.

    Cells that differ in nothing but the dtype are a family: what was measured in one tells of the curves of the others
    as far as their points show that they are alike. What a candidate's band has to prove it proves in its own cell.

    Raises:
        MeasuringError: a cell has no samples of the baseline.
    """
    by_cell: dict[Cell, list[PointResult]] = {}
    for result in results:
        by_cell.setdefault(result.cell, []).append(result)
    tables = [
        table
        for cells in families(sorted(by_cell))
        for table in _fit_family(cells, by_cell, baseline, candidates, policy, workload)
    ]
    return tuple(sorted(tables))


def _fit_family(
    cells: Sequence[Cell],
    by_cell: Mapping[Cell, Sequence[PointResult]],
    baseline: str,
    candidates: Sequence[str],
    policy: Policy,
    workload: Mapping[Cell, Workload],
) -> list[CellTable]:
    family = [_points(cell, by_cell[cell], baseline, candidates, policy, workload.get(cell, {})) for cell in cells]
    grids = fit_grids(family, candidates, learn_noises(family, candidates))
    return [
        _fit_grid(cell, grid, baseline, policy, workload.get(cell, {})) for cell, grid in zip(cells, grids, strict=True)
    ]


def _fit_grid(cell: Cell, grid: FitGrid, baseline: str, policy: Policy, workload: Workload) -> CellTable:
    min_gain, confidence = policy.min_gain, policy.confidence
    labels = earned_labels(grid, baseline=baseline, min_gain=min_gain, confidence=confidence)
    bands, crossovers = build_bands(grid, labels, baseline=baseline, min_gain=min_gain, confidence=confidence)
    points = grid.points
    return CellTable(
        cell=cell,
        measured_from=points[0].size,
        measured_to=points[-1].size,
        bands=bands,
        crossovers=crossovers,
        ties=find_ties(grid, min_gain=min_gain, confidence=confidence),
        exclusions=joined_exclusions(points),
        overrides=find_overrides(grid, bands, workload, baseline=baseline, min_gain=min_gain, confidence=confidence),
        regret_estimate=regret_estimate(grid, labels, min_gain=min_gain),
    )


def _points(
    cell: Cell,
    results: Sequence[PointResult],
    baseline: str,
    candidates: Sequence[str],
    policy: Policy,
    workload: Workload,
) -> tuple[FitPoint, ...]:
    # Where nothing may replace the baseline it is not timed, and a cell may be like that from end to end.
    settled = all({e.backend for e in result.exclusions} >= {*candidates} for result in results)
    if not settled and not any(result.latencies_us.get(baseline) for result in results):
        reasons = {f"{e.reason}: {e.detail}" for result in results for e in result.exclusions if e.backend == baseline}
        found = "; ".join(sorted(reasons)) or "no result has any"
        raise MeasuringError(
            f"{cell.name}: the baseline {baseline} has no samples ({found}), expected them at one size at least. "
            f"Choose another baseline, or leave this cell out of the sweep"
        )
    return join_points(
        results, baseline=baseline, candidates=candidates, confidence=policy.confidence, workload=workload
    )
