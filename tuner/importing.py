"""Measurements from elsewhere as points of a study: nothing was run here, so nothing is counted as run."""

from __future__ import annotations

from collections.abc import Sequence

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.measurements import Measurements
from ccl_dispatch.tuner.samples import PointResult


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
