"""The measured sizes of one cell: results of one size joined, one interval per candidate, one weight per size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccl_dispatch.runtime.table import Exclusion
from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import Interval, mean_correlation_time, median_interval, shared_confidence

Workload = Mapping[int, tuple[tuple[int, ...], float]]


@dataclass(frozen=True)
class Ratio:
    """log(T_baseline / T_candidate) at one size.

    Attributes:
        samples: of all repetitions, ascending.
        interval: of their median.
        correlation: by how much neighbours in time resemble each other: samples count for so many times fewer.
        visits: the samples visit by visit, with those of first calls.
    """

    samples: tuple[float, ...]
    interval: Interval
    correlation: float
    visits: PointSamples


@dataclass(frozen=True)
class FitPoint:
    """One measured size.

    Attributes:
        size: per-rank input bytes.
        octaves: the part of the log2-size axis that the point stands for: half-way to its neighbours.
        weight: `octaves` plus its share of the workload, in octaves; what a wrong choice here counts.
        ratios: per candidate that may be used here its log-ratios.
        exclusions: backends that may not be used here, by name, with (reason, detail).
    """

    size: int
    octaves: float
    weight: float
    ratios: Mapping[str, Ratio]
    exclusions: Mapping[str, tuple[str, str]]


def join_points(
    results: Sequence[PointResult], *, baseline: str, candidates: Sequence[str], confidence: float, workload: Workload
) -> tuple[FitPoint, ...]:
    """The points of one cell by ascending size; the order of `results` does not matter.

    Samples are paired inside each result and pooled over the results of one size. A candidate that any result excludes
    at a size is not used there, whatever others say: one wrong output is enough.

    Args:
        results: results of one cell.
        baseline: the backend that the candidates are compared with.
        candidates: the backends that may replace it.
        confidence: of the verdicts at one point together; each candidate's interval gets its share.
        workload: per size the shape and the weight, of which each present size gets its share.
    """
    by_size: dict[int, list[PointResult]] = {}
    for result in results:
        by_size.setdefault(result.size, []).append(result)
    sizes = sorted(by_size)
    octaves = log_shares(sizes)
    share = shared_confidence(confidence, len(candidates))
    # Fixed order, because a sum of floats depends on it.
    weights = {size: workload[size][1] for size in sizes if size in workload}
    total = math.fsum(weights.values())
    span = math.fsum(octaves)
    points = []
    for size, part in zip(sizes, octaves, strict=True):
        found = {(item.backend, item.reason, item.detail) for result in by_size[size] for item in result.exclusions}
        # The alphabetically first of several reasons, so that the order of arrival does not choose.
        exclusions = {backend: (reason, detail) for backend, reason, detail in sorted(found, reverse=True)}
        ratios = {}
        for candidate in candidates:
            visits = sorted(
                (result.log_ratios(baseline, candidate), result.first_log_ratios(baseline, candidate))
                for result in by_size[size]
            )
            if any(repeats for repeats, _ in visits) and candidate not in exclusions:
                ratios[candidate] = _ratio(visits, share)
        weight = part + (span * weights[size] / total if total > 0 and size in weights else 0.0)
        points.append(FitPoint(size, part, weight, ratios, dict(sorted(exclusions.items()))))
    return tuple(points)


def _ratio(visits: Sequence[tuple[list[float], list[float]]], confidence: float) -> Ratio:
    samples = tuple(sorted(value for repeats, _ in visits for value in repeats))
    correlation = mean_correlation_time(repeats for repeats, _ in visits)
    return Ratio(
        samples,
        median_interval(samples, confidence, correlation),
        correlation,
        PointSamples(
            tuple(value for repeats, _ in visits for value in repeats),
            tuple(value for _, firsts in visits for value in firsts),
            tuple(len(repeats) for repeats, _ in visits if repeats),
        ),
    )


def log_shares(sizes: Sequence[int]) -> list[float]:
    """Octaves that each of the ascending `sizes` stands for; a lone size stands for one octave."""
    if len(sizes) == 1:
        return [1.0]
    logs = [math.log2(size) for size in sizes]
    last = len(logs) - 1
    return [(logs[min(i + 1, last)] - logs[max(i - 1, 0)]) / 2 for i in range(len(logs))]


def joined_exclusions(points: Sequence[FitPoint]) -> tuple[Exclusion, ...]:
    """Runs of neighbouring sizes at which one backend is excluded for one reason; the first size gives the detail."""
    runs: list[Exclusion] = []
    for backend in sorted({name for point in points for name in point.exclusions}):
        current: Exclusion | None = None
        for point in points:
            found = point.exclusions.get(backend)
            if current is not None and (found is None or found[0] != current.reason):
                runs.append(current)
                current = None
            if found is not None:
                reason, detail = found
                current = (
                    current._replace(high=point.size)
                    if current is not None
                    else Exclusion(backend, reason, point.size, point.size, detail)
                )
        if current is not None:
            runs.append(current)
    return tuple(sorted(runs, key=lambda run: (run.low, run.backend, run.high)))
