"""What a report shows, worked out from a study: curves with their spread, the table, how it came about, the time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccl_dispatch.runtime.table import CellTable, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table, executions
from ccl_dispatch.tuner.emit.compare import compare
from ccl_dispatch.tuner.fit.points import join_points
from ccl_dispatch.tuner.report.notes import cell_notes
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study import StudyMeta

# Parts of the visits after which the table is built again, to show how the answer came about. That is a third of a
# report's time; the rest is drawing.
CHECKPOINTS = (0.1, 0.25, 0.5, 0.75, 1.0)
# The same from where on every cell was measured from end to end, which in a short sweep is near its end: before that no
# estimate is of the whole.
LATE_CHECKPOINTS = (0.0, 0.35, 0.7)


@dataclass(frozen=True)
class CurvePoint:
    """One size of a curve, in per-rank input bytes, with the middle of its samples and how far they or it may lie."""

    size: int
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class CellReport:
    """One cell: its answer, its curves by backend, and where its time went.

    Attributes:
        points: sizes that were measured.
        visits: how often they were, a size that was visited again counting each time.
        latencies: by backend, in microseconds of the slowest rank, between the quartiles.
        ratios: by candidate T(baseline)/T(candidate), with its interval at the policy's confidence, maybe endless.
        collective_seconds: in collectives and their barriers.
        other_seconds: the rest of the time that its visits took.
        notes: slow ranks, faults and nodes, as sentences.
    """

    table: CellTable
    latencies: Mapping[str, tuple[CurvePoint, ...]]
    ratios: Mapping[str, tuple[CurvePoint, ...]]
    points: int
    visits: int
    samples: int
    collective_seconds: float
    other_seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """The table as it would have been after some of the visits.

    Attributes:
        visits: how many.
        seconds: that they took.
        regret: mean of the cells' estimates; None when no cell had one, or not every cell was measured from end to end.
        differing: share of the measured octaves in which it decided otherwise than the whole study's table.
    """

    visits: int
    seconds: float
    regret: float | None
    differing: float


@dataclass(frozen=True)
class Report:
    """A whole report."""

    table: Table
    cells: tuple[CellReport, ...]
    progress: tuple[Progress, ...]
    executions: Mapping[str, int]


def make_report(meta: StudyMeta, results: Sequence[PointResult]) -> Report:
    """The report of a study's visits, in the order in which they were made.

    Raises:
        StorageError: there are none.
    """
    table = build_table(meta, results)
    by_cell: dict[Cell, list[PointResult]] = {}
    for result in results:
        by_cell.setdefault(result.cell, []).append(result)
    return Report(
        table=table,
        cells=tuple(_cell_report(meta, cell, by_cell[cell.cell]) for cell in table.cells),
        progress=tuple(_progress(meta, results, table)),
        executions=executions(results),
    )


def _cell_report(meta: StudyMeta, cell: CellTable, results: Sequence[PointResult]) -> CellReport:
    samples: dict[str, dict[int, list[float]]] = {}
    for result in results:
        for name, values in result.latencies_us.items():
            if values:
                samples.setdefault(name, {}).setdefault(result.size, []).extend(values)
    order = (meta.baseline, *meta.candidates)
    points = join_points(
        results,
        baseline=meta.baseline,
        candidates=meta.candidates,
        confidence=meta.policy.confidence,
        workload={},
    )
    ratios: dict[str, tuple[CurvePoint, ...]] = {}
    for name in meta.candidates:
        found = [(point.size, point.ratios[name].interval) for point in points if name in point.ratios]
        if found:
            ratios[name] = tuple(
                CurvePoint(size, math.exp(at.low), math.exp(at.median), math.exp(at.high)) for size, at in found
            )
    collective = sum(result.collective_seconds for result in results)
    return CellReport(
        table=cell,
        latencies={
            name: tuple(_latency(size, samples[name][size]) for size in sorted(samples[name]))
            for name in order
            if name in samples
        },
        ratios=ratios,
        points=len(points),
        visits=len(results),
        samples=sum(max((len(values) for values in result.latencies_us.values()), default=0) for result in results),
        collective_seconds=collective,
        other_seconds=max(sum(result.wall_seconds for result in results) - collective, 0.0),
        notes=cell_notes(results),
    )


def _latency(size: int, values: Sequence[float]) -> CurvePoint:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return CurvePoint(size, max(low, min(values)), middle, min(high, max(values)))


def _ranges(table: Table) -> dict[Cell, tuple[int, int]]:
    return {cell.cell: (cell.measured_from, cell.measured_to) for cell in table.cells}


def _progress(meta: StudyMeta, results: Sequence[PointResult], final: Table) -> list[Progress]:
    progress: list[Progress] = []
    for count in _checkpoints(meta, results, final):
        some = results[:count]
        # A cell of which the baseline is not measured yet has no answer yet, unless nothing may replace it anywhere.
        ready = {result.cell for result in some if result.latencies_us.get(meta.baseline)}
        waiting = {result.cell for result in some if not _is_refused(meta, result)} - ready
        taken = [result for result in some if result.cell not in waiting]
        if not taken:
            continue
        table = final if count == len(results) else build_table(meta, taken)
        # Before a cell's range was measured from end to end, what is said of a part of it says little of the whole.
        whole = _ranges(table) == _ranges(final)
        estimates = [cell.regret_estimate for cell in table.cells if cell.regret_estimate is not None and whole]
        changed, measured = compare(table, final).octaves
        progress.append(
            Progress(
                visits=count,
                seconds=sum(result.wall_seconds for result in some),
                regret=statistics.fmean(estimates) if estimates else None,
                differing=changed / measured if measured else 0.0,
            )
        )
    return progress


def _checkpoints(meta: StudyMeta, results: Sequence[PointResult], final: Table) -> list[int]:
    """The numbers of visits after which the table is built again, rising."""
    counts = {max(round(part * len(results)), 1) for part in CHECKPOINTS}
    ends = {(cell.cell, size) for cell in final.cells for size in (cell.measured_from, cell.measured_to)}
    for whole, result in enumerate(results, 1):
        if result.latencies_us.get(meta.baseline) or _is_refused(meta, result):
            ends.discard((result.cell, result.size))
        if not ends:
            counts |= {whole + round(part * (len(results) - whole)) for part in LATE_CHECKPOINTS}
            break
    return sorted(counts)


def _is_refused(meta: StudyMeta, result: PointResult) -> bool:
    """Whether nothing may replace the baseline at this point: then it is not timed."""
    return {item.backend for item in result.exclusions} >= {*meta.candidates}
