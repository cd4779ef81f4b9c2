"""Measurements from elsewhere as points of a study: nothing was run here, so nothing is counted as run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.units import counted, full_size
from ccl_dispatch.runtime.vocabulary import TIMINGS, Cell
from ccl_dispatch.tuner.measurements.csv_file import Measurements
from ccl_dispatch.tuner.measurements.logs import LogReading
from ccl_dispatch.tuner.measurements.rows import EXCLUDED, ExcludedRow, platforms
from ccl_dispatch.tuner.samples import PointExclusion, PointResult


def joined(readings: Mapping[str, LogReading], platform: str = "") -> Measurements:
    """The rows of several files as those of one, in the order given: what one lacks another may have.

    Args:
        readings: file name to what was read from it.
        platform: the one machine that they all are of; needed when they name several.

    Raises:
        UsageError: the files are of several platforms.
    """
    named = {source: platforms((*reading.rows, *reading.exclusions)) for source, reading in readings.items()}
    if not platform and len({name for names in named.values() for name in names}) > 1:
        listed = "; ".join(f"{source}: {', '.join(map(repr, names))}" for source, names in named.items() if names)
        raise UsageError(
            f"rows of several platforms, which must not be mixed: {listed}. Choose one with --where platform=..., or "
            "say that they are one machine with --platform NAME"
        )
    return Measurements(
        ", ".join(readings),
        tuple(row for reading in readings.values() for row in reading.rows),
        tuple(row for reading in readings.values() for row in reading.exclusions),
    )


def common_timing(readings: Mapping[str, LogReading]) -> str:
    """How the calls of all files were timed; `isolated` when none says.

    Raises:
        UsageError: they were timed in different ways, so that their latencies can't be compared.
    """
    said: dict[str, str] = {}
    for source, reading in readings.items():
        if reading.timing:
            said.setdefault(reading.timing, source)
    if len(said) > 1:
        listed = ", ".join(f"{source} {timing.replace('_', ' ')}" for timing, source in said.items())
        raise UsageError(
            f"calls timed in different ways ({listed}): such latencies can't be compared. Import the files apart, each "
            "with a --study of its own"
        )
    return next(iter(said), TIMINGS[0])


def import_measurements(measurements: Measurements, baseline: str, candidates: Sequence[str] = ()) -> list[PointResult]:
    """One point for each cell and size at which `baseline` and a candidate were measured, by rising cell and size.

    A candidate that may not be used at a size is excluded there, also where nothing could be compared, and where other
    rows have latencies of it: one wrong output is enough. Where the baseline may not be used nothing is compared.

    Args:
        baseline: a backend of the file.
        candidates: backends of the file; every other one when empty.

    Raises:
        UsageError: a name that the file doesn't have or that is given twice, or no point with a comparison.
    """
    candidates = _checked(measurements, baseline, candidates)
    excluded = _excluded(measurements)
    curves = measurements.by_cell()
    points: list[PointResult] = []
    for cell in sorted({*curves, *(cell for cell, _ in excluded)}):
        if cell.world_size < 2:
            continue
        told = {size: rows for (other, size), rows in excluded.items() if other == cell}
        found = _points(cell, curves.get(cell, {}), told, baseline, candidates)
        # Without the baseline a cell says something only if nothing could replace it anywhere.
        refused = all({item.backend for item in point.exclusions} >= {*candidates} for point in found)
        if refused or any(point.latencies_us for point in found):
            points += found
    if not points:
        raise UsageError(
            f"{measurements.source}: at no size of a cell are {baseline!r} and one of {', '.join(candidates)} both "
            "measured. Name another baseline or other candidates"
        )
    return points


def _excluded(measurements: Measurements) -> dict[tuple[Cell, int], list[ExcludedRow]]:
    """What is excluded, by cell and size; said twice it is said once."""
    found: dict[tuple[Cell, int], dict[tuple[str, str, str], ExcludedRow]] = {}
    for row in measurements.exclusions:
        found.setdefault((row.cell, row.size), {}).setdefault((row.backend, row.reason, row.detail), row)
    return {key: list(rows.values()) for key, rows in found.items()}


def _points(
    cell: Cell,
    curves: Mapping[str, Mapping[int, Sequence[float]]],
    excluded: Mapping[int, Sequence[ExcludedRow]],
    baseline: str,
    candidates: Sequence[str],
) -> list[PointResult]:
    """The points of one cell, by rising size."""
    points = []
    base = curves.get(baseline, {})
    for size in sorted({*base, *excluded}):
        rows = excluded.get(size, ())
        exclusions = tuple(PointExclusion(r.backend, r.reason, r.detail) for r in rows if r.backend in candidates)
        latencies = {}
        if size in base and all(row.backend != baseline for row in rows):
            compared = {name: tuple(curves[name][size]) for name in candidates if size in curves.get(name, {})}
            latencies = {baseline: tuple(base[size]), **compared} if compared or exclusions else {}
        if latencies or exclusions:
            points.append(PointResult(cell, size, latencies, exclusions=exclusions, stopped_by="imported"))
    return points


def left_out(measurements: Measurements, points: Sequence[PointResult], baseline: str) -> list[str]:
    """One line for each cell and backend with rows that `points` have not taken up, for whoever imports to read."""
    taken = {(point.cell, name, point.size) for point in points for name in point.latencies_us}
    known = {(point.cell, item.backend, point.size) for point in points for item in point.exclusions}
    chosen = {name for _, name, _ in taken | known}
    wrong: dict[Cell, dict[int, ExcludedRow]] = {}
    lost: dict[tuple[Cell, str], set[int]] = {}
    for row in measurements.exclusions:
        if row.backend == baseline:
            wrong.setdefault(row.cell, {}).setdefault(row.size, row)
        elif (row.cell, row.backend, row.size) not in known:
            lost.setdefault((row.cell, row.backend), set()).add(row.size)
    lines = []
    for cell, curves in measurements.by_cell().items():
        for name, sizes in curves.items():
            count = sum(1 for size in sizes if (cell, name, size) not in taken and size not in wrong.get(cell, ()))
            if count:
                why = "nothing to compare it with" if name in chosen else "neither the baseline nor a candidate"
                lines.append(f"{cell.name}: {name} left out at {count} of {len(sizes)} sizes: {why}")
    for cell, rows in sorted(wrong.items()):
        size, first = min(rows.items())
        lines.append(
            f"{cell.name}: nothing compared at {counted(len(rows), 'size')}, the smallest {full_size(size)}: there "
            f"the baseline {baseline} may not be used ({first.column(EXCLUDED)})"
        )
    for (cell, name), without in sorted(lost.items()):
        why = "nothing to compare it with in this cell" if name in chosen else "neither the baseline nor a candidate"
        lines.append(f"{cell.name}: exclusions of {name} left out at {counted(len(without), 'size')}: {why}")
    return lines


def _checked(measurements: Measurements, baseline: str, candidates: Sequence[str]) -> tuple[str, ...]:
    there = measurements.backends()
    for name in (baseline, *candidates):
        if name not in there:
            raise UsageError(f"{measurements.source} has no backend {name!r}. {nearest(name, there)}")
    if baseline in candidates or len(set(candidates)) < len(candidates):
        raise UsageError(f"baseline {baseline!r} and candidates {', '.join(candidates)}: a name is given twice")
    chosen = tuple(candidates) or tuple(name for name in there if name != baseline)
    if not chosen:
        raise UsageError(f"{measurements.source} has measurements of {baseline!r} alone: nothing to compare it with")
    return chosen
