"""Measurements from elsewhere as points of a study: nothing was run here, so nothing is counted as run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.vocabulary import TIMINGS
from ccl_dispatch.tuner.logs import LogReading
from ccl_dispatch.tuner.measurements import Measurements
from ccl_dispatch.tuner.samples import PointResult


def joined(readings: Mapping[str, LogReading], platform: str = "") -> Measurements:
    """The rows of several files as those of one, in the order given: what one lacks another may have.

    Args:
        readings: file name to what was read from it.
        platform: the one machine that they all are of; needed when they name several.

    Raises:
        UsageError: the files are of several platforms.
    """
    named = {
        source: sorted({row.column("platform") for row in reading.rows} - {""}) for source, reading in readings.items()
    }
    if not platform and len({name for names in named.values() for name in names}) > 1:
        listed = "; ".join(f"{source}: {', '.join(map(repr, names))}" for source, names in named.items() if names)
        raise UsageError(
            f"rows of several platforms, which must not be mixed: {listed}. Choose one with --where platform=..., or "
            "say that they are one machine with --platform NAME"
        )
    return Measurements(", ".join(readings), tuple(row for reading in readings.values() for row in reading.rows))


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

    Args:
        baseline: a backend of the file.
        candidates: backends of the file; every other one when empty.

    Raises:
        UsageError: a name that the file doesn't have or that is given twice, or no point with a comparison.
    """
    candidates = _checked(measurements, baseline, candidates)
    points = []
    for cell, curves in measurements.by_cell().items():
        if baseline not in curves or cell.world_size < 2:
            continue
        for size, latencies in curves[baseline].items():
            compared = {name: tuple(curves[name][size]) for name in candidates if size in curves.get(name, {})}
            if compared:
                points.append(PointResult(cell, size, {baseline: tuple(latencies), **compared}, stopped_by="imported"))
    if not points:
        raise UsageError(
            f"{measurements.source}: at no size of a cell are {baseline!r} and one of {', '.join(candidates)} both "
            "measured. Name another baseline or other candidates"
        )
    return points


def left_out(measurements: Measurements, points: Sequence[PointResult]) -> list[str]:
    """One line for each cell and backend with rows that `points` have not taken up, for whoever imports to read."""
    taken = {(point.cell, name, point.size) for point in points for name in point.latencies_us}
    chosen = {name for _, name, _ in taken}
    lines = []
    for cell, curves in measurements.by_cell().items():
        for name, sizes in curves.items():
            count = sum(1 for size in sizes if (cell, name, size) not in taken)
            if count:
                why = "nothing to compare it with" if name in chosen else "neither the baseline nor a candidate"
                lines.append(f"{cell.name}: {name} left out at {count} of {len(sizes)} sizes: {why}")
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
