"""From curves to bands: which backend at each size, which runs are earned, where they end, and why each is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from ccl_dispatch.runtime.table import Band, Crossover
from ccl_dispatch.tuner.curves.visits import slack
from ccl_dispatch.tuner.fit.evidence import band_evidence
from ccl_dispatch.tuner.fit.grid import FitGrid, crossover_interval
from ccl_dispatch.tuner.fit.points import FitPoint
from ccl_dispatch.tuner.fit.segment import best_labels, runs
from ccl_dispatch.tuner.sizes import ALIGNMENT
from ccl_dispatch.tuner.statistics import Interval, edge, shared_confidence

# What a change of backend costs at least, in log units x octaves: one that wins less only makes the table longer.
_LEAST_SWITCH = 0.0005


def earned_labels(grid: FitGrid, *, baseline: str, min_gain: float, confidence: float) -> list[str]:
    """The backend of each size of the grid: least regret first, then every candidate's run has to earn its place.

    A candidate's utility is its curve less half of log(1 + min_gain), see `statistics.edge`; the baseline's is 0. A run
    costs min_gain/2 octaves for each of its crossovers, so that one between two baseline runs has to win about min_gain
    over an octave beyond that; below it is an island that only makes the table longer.

    A run is earned when it holds a measured size and the lower bound of its evidence is above log(1 + min_gain). If
    not, its weaker end is given up, to the next measured size, and the search runs again, until all runs are earned.
    Of runs of several candidates that follow on each other, and are not earned, only the least gives up at a time.
    With min_gain 0 nothing has to be proven: neither backend is owed anything, and whichever is ahead by the curves
    costs the least on average; only a run without any measured size is given up.
    """
    threshold = math.log1p(min_gain)
    options = _options(grid, baseline, edge(threshold), confidence)
    while True:
        labels = best_labels(options, grid.weights, max(min_gain / 2, _LEAST_SWITCH))
        failed = [
            (start, end)
            for start, end in runs(labels)
            if labels[start] != baseline and not _earned(grid, start, end, labels[start], threshold, confidence)
        ]
        if not failed:
            return labels
        for start, end in _least_of_neighbours(failed, options, labels, grid.weights):
            for place in _weaker_end(grid, options, start, end, labels[start]):
                options[place].pop(labels[start], None)


def _least_of_neighbours(
    failed: Sequence[tuple[int, int]],
    options: Sequence[Mapping[str, float]],
    labels: Sequence[str],
    weights: Sequence[float],
) -> list[tuple[int, int]]:
    """Of runs that follow directly on each other the one that wins the least over the baseline.

    Without it the candidates around it may have one run that is proven: what cut that in two is all that was doubtful.
    """

    def wins(run: tuple[int, int]) -> float:
        return math.fsum(weights[place] * options[place][labels[place]] for place in range(run[0], run[1] + 1))

    least: list[tuple[int, int]] = []
    last = -2
    for run in failed:
        if run[0] != last + 1:
            least.append(run)
        elif wins(run) < wins(least[-1]):
            least[-1] = run
        last = run[1]
    return least


def _options(grid: FitGrid, baseline: str, least: float, confidence: float) -> list[dict[str, float]]:
    """Utilities of what is allowed at each size: not the excluded, the unmeasured, and what is proven to be slower.

    Where visits differ, one that found the candidate slower proves it only as far as it may not be off by that.
    """
    options: list[dict[str, float]] = [{baseline: 0.0} for _ in grid.sizes]
    noises = grid.noises
    proven_slower = {
        (point.size, name)
        for point in grid.points
        for name, ratio in point.ratios.items()
        if ratio.interval.high + slack([ratio.visits], noises[name].visit, noises[name].scale, confidence) < 0
    }
    for candidate, curve in grid.curves.items():
        for place, mean in enumerate(curve.mean.tolist()):
            if grid.open[candidate][place] and (grid.sizes[place], candidate) not in proven_slower:
                options[place][candidate] = mean - least
    return options


def _earned(grid: FitGrid, start: int, end: int, candidate: str, threshold: float, confidence: float) -> bool:
    measured = [point for point in grid.measured_in(start, end) if candidate in point.ratios]
    if not measured:
        return False
    if threshold == 0:
        return True
    return band_evidence(measured, candidate, confidence, grid.noises[candidate]).interval.low > threshold


def _weaker_end(grid: FitGrid, options: Sequence[Mapping[str, float]], start: int, end: int, candidate: str) -> range:
    """The places of a run from its weaker end up to its next measured size, or all of it when there is none."""
    measured = {point.size for point in grid.points}
    inside = [place for place in range(start, end + 1) if grid.sizes[place] in measured]
    if len(inside) < 2:
        return range(start, end + 1)
    first, last = inside[0], inside[-1]
    if options[first][candidate] <= options[last][candidate]:
        return range(start, inside[1])
    return range(inside[-2] + 1, end + 1)


def build_bands(
    grid: FitGrid, labels: Sequence[str], *, baseline: str, min_gain: float, confidence: float
) -> tuple[tuple[Band, ...], tuple[Crossover, ...]]:
    """The bands of the cell and the crossovers between different backends."""
    threshold = math.log1p(min_gain)
    least = edge(threshold)
    # A baseline run is cut where "excluded" begins or ends: the reason is another one.
    closed = [not any(places[place] for places in grid.open.values()) for place in range(len(grid.sizes))]
    parts = runs([(label, label == baseline and shut) for label, shut in zip(labels, closed, strict=True)])
    bands: list[Band] = []
    crossovers: list[Crossover] = []
    for number, (start, end) in enumerate(parts):
        up_to = grid.sizes[end]
        if number + 1 < len(parts):
            below, above = labels[end], labels[end + 1]
            if below == above:
                # From excluded to measured the reason changes just before the first size that is open.
                up_to = grid.sizes[end + 1] - 1 if closed[end] else grid.sizes[end]
            else:
                found = crossing(grid, end, below, above, baseline=baseline, least=least)
                crossovers.append(_crossover(grid, end, found, below, above, baseline, least, confidence))
                up_to = found
        run = grid.measured_in(start, end)
        if labels[start] == baseline:
            bands.append(_baseline_band(grid, start, end, up_to, baseline, threshold, confidence))
        else:
            bands.append(_candidate_band(grid, run, labels[start], up_to, baseline, threshold, confidence))
    return tuple(bands), tuple(crossovers)


def crossing(grid: FitGrid, place: int, below: str, above: str, *, baseline: str, least: float) -> int:
    """The last size of `below` between the neighbouring sizes of the grid at `place` and the next.

    There the lead of `below` over `above`, linear in log size between the two, falls to zero; rounded down to the
    alignment that every backend asks of its input, within [low, high).

    Without a crossing to interpolate (a backend is closed at one of the sizes, or the curves do not change sides) a
    candidate ends at, or begins with, its own size: nothing is claimed for it beyond that.
    """
    low, high = grid.sizes[place], grid.sizes[place + 1]
    lead_low = _lead(grid, place, below, above, baseline, least)
    lead_high = _lead(grid, place + 1, below, above, baseline, least)
    if lead_low is None or lead_high is None or not lead_low >= 0 >= lead_high or lead_low == lead_high:
        return high - 1 if below == baseline else low
    part = lead_low / (lead_low - lead_high)
    at = low * (high / low) ** part
    return min(max(int(at) // ALIGNMENT * ALIGNMENT, low), high - 1)


def _lead(grid: FitGrid, place: int, below: str, above: str, baseline: str, least: float) -> float | None:
    values = []
    for label in (below, above):
        if label == baseline:
            values.append(0.0)
        elif grid.open[label][place]:
            values.append(float(grid.curves[label].mean[place]) - least)
        else:
            return None
    return values[0] - values[1]


def _crossover(
    grid: FitGrid, place: int, at: int, below: str, above: str, baseline: str, least: float, confidence: float
) -> Crossover:
    """With the measured sizes beyond which the sides are known at the confidence, by the curves."""
    sure = NormalDist().inv_cdf((1 + confidence) / 2)
    leads = [_lead(grid, other, below, above, baseline, least) for other in range(len(grid.sizes))]
    variances = np.zeros(len(grid.sizes))
    for label in {below, above} - {baseline}:
        variances = variances + grid.curves[label].deviation ** 2
    # A closed size ends the interval: it counts as sure on both sides.
    filled = [(math.inf if other <= place else -math.inf) if lead is None else lead for other, lead in enumerate(leads)]
    low, high = crossover_interval(np.sqrt(variances).tolist(), filled, place, sure)
    # Out to the next measured sizes: how a curve gets from one to the next is a belief, not a measurement.
    below_at = max(point.size for point in grid.points if point.size <= grid.sizes[low])
    above_at = min(point.size for point in grid.points if point.size >= grid.sizes[high])
    return Crossover(at, min(below_at, at), max(above_at, at), below, above)


def _candidate_band(
    grid: FitGrid,
    run: Sequence[FitPoint],
    candidate: str,
    up_to: int,
    baseline: str,
    threshold: float,
    confidence: float,
) -> Band:
    evidence = band_evidence(run, candidate, confidence, grid.noises[candidate])
    gain, interval = as_gain(evidence.interval)
    why = "faster" if evidence.interval.low > threshold else "likely"
    return Band(up_to, candidate, why, baseline, gain, interval, evidence.points, evidence.samples)


def _baseline_band(
    grid: FitGrid, start: int, end: int, up_to: int, baseline: str, threshold: float, confidence: float
) -> Band:
    run = grid.measured_in(start, end)
    shut = not any(places[place] for places in grid.open.values() for place in range(start, end + 1))
    rivals = [name for name in grid.curves if any(name in point.ratios for point in run)]
    if shut:
        return Band(up_to, baseline, "excluded", None, None, None, len(run), 0)
    if not rivals:
        return Band(up_to, baseline, "tie", None, None, None, len(run), 0)
    # Bonferroni over the rivals, because the best of them was picked by looking.
    share = shared_confidence(confidence, len(rivals))
    rival = max(rivals, key=lambda name: float(np.dot(grid.octaves[start : end + 1], _part(grid, name, start, end))))
    evidence = band_evidence(run, rival, share, grid.noises[rival])
    slower = math.fsum(
        grid.octaves[place]
        for place in range(start, end + 1)
        if all(float(grid.curves[name].mean[place]) < -threshold for name in rivals)
    )
    dominates = 2 * slower > math.fsum(grid.octaves[start : end + 1])
    why = "faster" if dominates and evidence.interval.high < 0 else "tie"
    gain, interval = as_gain(flipped(evidence.interval))
    return Band(up_to, baseline, why, rival, gain, interval, len(run), evidence.samples)


def _part(grid: FitGrid, candidate: str, start: int, end: int) -> list[float]:
    means: list[float] = grid.curves[candidate].mean[start : end + 1].tolist()
    return means


def flipped(interval: Interval) -> Interval:
    """The log-ratio seen from the other side."""
    return Interval(-interval.median, -interval.high, -interval.low)


def as_gain(interval: Interval) -> tuple[float, tuple[float, float] | None]:
    """A log-ratio as T/T - 1 with its interval; None for an interval that is not known yet."""
    bounds = (math.expm1(interval.low), math.expm1(interval.high)) if interval.finite else None
    return math.expm1(interval.median), bounds


def backend_at(bands: Sequence[Band], size: int) -> str:
    """The backend that `bands` say for `size`, which lies in their range."""
    return next(band.use for band in bands if size <= band.up_to)
