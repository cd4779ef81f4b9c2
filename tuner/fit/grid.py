"""The sizes of a cell at which the fit decides: the measured ones and a fine grid between, with the curves there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import Acquittal, CurveModel, Noise, Posterior, learn_noise, summarise, with_visits
from ccl_dispatch.tuner.curves.points import Points, Question
from ccl_dispatch.tuner.fit.points import FitPoint, log_shares
from ccl_dispatch.tuner.sizes import ALIGNMENT, is_alone, size_grid

# Between two of them crossovers are interpolated; coarser, that would place them worse than the curves do.
PER_OCTAVE = 8


@dataclass(frozen=True)
class FitGrid:
    """One cell as the fit sees it, by ascending size.

    Attributes:
        points: the measured sizes.
        sizes: those and the ones between, per-rank input bytes.
        weights: what each size counts: the octaves that it stands for, and its share of the workload.
        octaves: the first part of that alone.
        curves: per candidate its log-ratio to the baseline at each size.
        acquitted: per candidate the most credible of its outliers as none, where that is likely enough.
        surprised: per candidate its log-ratios if something unseen lies between the measured sizes.
        noises: per candidate the scatter of a pair's log-ratio, and of visits.
        open: per candidate the sizes at which it may be used: measured and right there, or at both neighbours. A size
            that it refuses for not being aligned is none, and no neighbour.
    """

    points: tuple[FitPoint, ...]
    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    octaves: tuple[float, ...]
    curves: Mapping[str, Posterior]
    acquitted: Mapping[str, Acquittal]
    surprised: Mapping[str, Posterior]
    noises: Mapping[str, Noise]
    open: Mapping[str, NDArray[np.bool_]]

    def measured_in(self, start: int, end: int) -> tuple[FitPoint, ...]:
        """The measured points from the size at place `start` to that at place `end`, both included."""
        return tuple(point for point in self.points if self.sizes[start] <= point.size <= self.sizes[end])


def fit_grids(
    family: Sequence[Sequence[FitPoint]], candidates: Sequence[str], noise: Mapping[str, Noise]
) -> list[FitGrid]:
    """The grids of cells that may be alike: what is measured in one tells of the others as far as they prove alike."""
    sizes = [_sizes(points) for points in family]
    xs = [np.log2(np.asarray(cell, dtype=float)) for cell in sizes]
    curves: list[dict[str, Posterior]] = [{} for _ in family]
    acquitted: list[dict[str, Acquittal]] = [{} for _ in family]
    surprised: list[dict[str, Posterior]] = [{} for _ in family]
    for candidate in candidates:
        if not any(candidate in point.ratios for points in family for point in points):
            continue
        measured = [_known(points, candidate, noise[candidate]) for points in family]
        model = CurveModel.learn(measured)
        known = model.without_outliers(measured)
        wanted = [place for place, points in enumerate(known) if len(points.x)]
        question = Question(known, [(place, xs[place]) for place in wanted])
        answers = zip(wanted, model.answer(question), model.surprised().answer(question), strict=True)
        for place, found, unseen in answers:
            curves[place][candidate] = found
            surprised[place][candidate] = unseen
            if (otherwise := model.acquitted(known, measured, place, xs[place])) is not None:
                acquitted[place][candidate] = otherwise
    return [
        _grid(points, own, found, otherwise, unseen, noise)
        for points, own, found, otherwise, unseen in zip(family, sizes, curves, acquitted, surprised, strict=True)
    ]


def learn_noises(family: Sequence[Sequence[FitPoint]], candidates: Sequence[str]) -> dict[str, Noise]:
    """Per candidate the noise that all points of these cells show."""
    noises = {}
    for name in candidates:
        cells = [
            {point.size: point.ratios[name].visits for point in points if name in point.ratios} for points in family
        ]
        noises[name] = with_visits(learn_noise(cells), cells)
    return noises


def _known(points: Sequence[FitPoint], candidate: str, noise: Noise) -> Points:
    measured = [point for point in points if candidate in point.ratios]
    found = [summarise(point.ratios[candidate].visits, noise) for point in measured]
    return Points.of([point.size for point in measured], found)


def _sizes(points: Sequence[FitPoint]) -> tuple[int, ...]:
    measured = {point.size for point in points}
    low, high = min(measured), max(measured)
    between = set(size_grid(low, high, PER_OCTAVE) if low // ALIGNMENT < high // ALIGNMENT else ())
    for point in points:
        # A size that some backend refuses, since it is not aligned, is parted from its aligned neighbours.
        if any(is_alone(point.size, reason) for reason, _ in point.exclusions.values()):
            below = point.size // ALIGNMENT * ALIGNMENT
            between |= {below, below + ALIGNMENT}
    return tuple(sorted(measured | {size for size in between if low < size < high}))


def _grid(
    points: Sequence[FitPoint],
    sizes: tuple[int, ...],
    curves: Mapping[str, Posterior],
    acquitted: Mapping[str, Acquittal],
    surprised: Mapping[str, Posterior],
    noises: Mapping[str, Noise],
) -> FitGrid:
    octaves = log_shares(sizes)
    extra = {point.size: point.weight - point.octaves for point in points}
    open_ = {candidate: _open(points, sizes, candidate) for candidate in curves}
    return FitGrid(
        tuple(points),
        sizes,
        tuple(own + extra.get(size, 0.0) for size, own in zip(sizes, octaves, strict=True)),
        tuple(octaves),
        curves,
        acquitted,
        surprised,
        noises,
        open_,
    )


def _open(points: Sequence[FitPoint], sizes: Sequence[int], candidate: str) -> NDArray[np.bool_]:
    refused = {
        point.size
        for point in points
        if candidate in point.exclusions and is_alone(point.size, point.exclusions[candidate][0])
    }
    telling = [point for point in points if point.size not in refused]
    measured = [point.size for point in telling]
    # Beyond the outermost of them nothing is known.
    fits = [False, *(candidate in point.ratios for point in telling), False]
    return np.array(
        [
            size not in refused and fits[bisect_right(measured, size)] and fits[bisect_left(measured, size) + 1]
            for size in sizes
        ]
    )


def crossover_interval(deviations: Sequence[float], leads: Sequence[float], place: int, sure: float) -> tuple[int, int]:
    """Places around the change between `place` and the next beyond which the sides are sure: (below, above).

    `leads` is the lead of the backend below over the one above; sure is where it is `sure` deviations from zero.
    """
    low = place
    while low > 0 and leads[low] < sure * deviations[low]:
        low -= 1
    high = place + 1
    while high < len(leads) - 1 and -leads[high] < sure * deviations[high]:
        high += 1
    return low, high
