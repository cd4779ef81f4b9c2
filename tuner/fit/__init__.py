"""From samples to bands: `fit_cell` for one cell, `fit_cells` for a whole study. Pure: same samples, same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.table import Band, CellTable, Crossover, Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.fit.bands import build_bands, earned_labels
from ccl_dispatch.tuner.fit.curve import Curve, fit_curves
from ccl_dispatch.tuner.fit.points import FitPoint, Workload, join_points, joined_exclusions
from ccl_dispatch.tuner.fit.regret import regret_estimate, removable_regret
from ccl_dispatch.tuner.fit.verdicts import find_overrides, find_ties
from ccl_dispatch.tuner.samples import PointResult

__all__ = ["fit_cell", "fit_cells", "remaining_regret"]


def fit_cell(
    cell: Cell,
    results: Sequence[PointResult],
    *,
    baseline: str,
    candidates: Sequence[str],
    policy: Policy,
    workload: Workload,
) -> CellTable:
    """The table's answer for one cell; the order of `results` does not matter.

    Args:
        cell: the curve to fit; results of other cells are left out.
        results: measured, replayed or imported points, several of one size are joined.
        baseline: the backend that is used when in doubt.
        candidates: the backends that may replace it.
        policy: min_gain and confidence that a candidate's band has to prove.
        workload: per size the shape that it stands for and its weight.

    Raises:
        MeasuringError: the baseline has no samples in this cell, so there is nothing to compare with.
    """
    points = _points(cell, results, baseline, candidates, policy, workload)
    curves = fit_curves(points, candidates)
    bands, crossovers = _bands(points, curves, baseline, policy)
    return CellTable(
        cell=cell,
        measured_from=points[0].size,
        measured_to=points[-1].size,
        bands=bands,
        crossovers=crossovers,
        ties=find_ties(points, candidates, policy.min_gain),
        exclusions=joined_exclusions(points),
        overrides=find_overrides(points, bands, workload, baseline=baseline, min_gain=policy.min_gain),
        regret_estimate=regret_estimate(points, bands, curves, baseline=baseline),
    )


def fit_cells(
    results: Sequence[PointResult],
    *,
    baseline: str,
    candidates: Sequence[str],
    policy: Policy,
    workload: Mapping[Cell, Workload],
) -> tuple[CellTable, ...]:
    """`fit_cell` for every cell that has results, sorted by cell.

    Raises:
        MeasuringError: a cell has no samples of the baseline.
    """
    by_cell: dict[Cell, list[PointResult]] = {}
    for result in results:
        by_cell.setdefault(result.cell, []).append(result)
    return tuple(
        fit_cell(
            cell,
            by_cell[cell],
            baseline=baseline,
            candidates=candidates,
            policy=policy,
            workload=workload.get(cell, {}),
        )
        for cell in sorted(by_cell)
    )


def remaining_regret(
    cell: Cell,
    results: Sequence[PointResult],
    *,
    baseline: str,
    candidates: Sequence[str],
    policy: Policy,
    workload: Workload,
) -> float:
    """The mean regret that more measuring of this cell could still take away (see `regret.removable_regret`).

    Raises:
        MeasuringError: the baseline has no samples in this cell.
    """
    points = _points(cell, results, baseline, candidates, policy, workload)
    curves = fit_curves(points, candidates)
    bands, _ = _bands(points, curves, baseline, policy)
    return removable_regret(points, bands, curves, baseline=baseline, min_gain=policy.min_gain)


def _bands(
    points: Sequence[FitPoint], curves: Mapping[str, Curve], baseline: str, policy: Policy
) -> tuple[tuple[Band, ...], tuple[Crossover, ...]]:
    min_gain, confidence = policy.min_gain, policy.confidence
    labels = earned_labels(points, curves, baseline=baseline, min_gain=min_gain, confidence=confidence)
    return build_bands(points, labels, curves, baseline=baseline, min_gain=min_gain, confidence=confidence)


def _points(
    cell: Cell,
    results: Sequence[PointResult],
    baseline: str,
    candidates: Sequence[str],
    policy: Policy,
    workload: Workload,
) -> tuple[FitPoint, ...]:
    mine = [result for result in results if result.cell == cell]
    if not any(result.latencies_us.get(baseline) for result in mine):
        reasons = {f"{e.reason}: {e.detail}" for result in mine for e in result.exclusions if e.backend == baseline}
        found = "; ".join(sorted(reasons)) or "no result has any"
        raise MeasuringError(
            f"{cell.name}: the baseline {baseline} has no samples ({found}), expected them at one size at least. "
            f"Choose another baseline, or leave this cell out of the sweep"
        )
    return join_points(mine, baseline=baseline, candidates=candidates, confidence=policy.confidence, workload=workload)
