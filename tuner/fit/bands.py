"""From labelled points to bands: which runs are earned, where they end, and why each band uses its backend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ccl_dispatch.runtime.table import Band, Crossover
from ccl_dispatch.tuner.fit.curve import Curve
from ccl_dispatch.tuner.fit.evidence import band_evidence
from ccl_dispatch.tuner.fit.points import FitPoint
from ccl_dispatch.tuner.fit.segment import best_labels, runs
from ccl_dispatch.tuner.statistics import Interval, shared_confidence

# Crossovers are put on the alignment that every backend asks of its input.
ALIGNMENT = 16


def earned_labels(
    points: Sequence[FitPoint], curves: Mapping[str, Curve], *, baseline: str, min_gain: float, confidence: float
) -> list[str]:
    """The backend of each point: least regret first, then every candidate's run has to earn its place.

    A candidate's utility is its curve less log(1 + min_gain), the baseline's is 0. A run costs min_gain/2 octaves
    for each of its crossovers, so that one between two baseline runs has to win about min_gain over an octave beyond
    min_gain itself; below that it is an island that only makes the table longer.

    A run is earned when the lower bound of its evidence is above log(1 + min_gain). If not, its weaker end point is
    given up and the search runs again, until all runs are earned. With min_gain 0 nothing has to be earned: neither
    backend is owed anything, and whichever is ahead by its medians costs the least on average.
    """
    threshold = math.log1p(min_gain)
    weights = [point.weight for point in points]
    options = [_options(point, baseline, curves, threshold) for point in points]
    while True:
        labels = best_labels(options, weights, min_gain / 2)
        if min_gain == 0:
            return labels
        failed = [
            (start, end)
            for start, end in runs(labels)
            if labels[start] != baseline
            and band_evidence(points[start : end + 1], labels[start], confidence).interval.low <= threshold
        ]
        if not failed:
            return labels
        for start, end in failed:
            label = labels[start]
            weaker = min((start, end), key=lambda i: (options[i][label], -points[i].size))
            del options[weaker][label]


def _options(point: FitPoint, baseline: str, curves: Mapping[str, Curve], threshold: float) -> dict[str, float]:
    """Utilities of what is allowed at `point`: not what is excluded, unmeasured, or proven slower than the baseline."""
    options = {baseline: 0.0}
    for candidate, curve in curves.items():
        ratio = point.ratios.get(candidate)
        if ratio is not None and ratio.interval.high >= 0:
            options[candidate] = curve.at(point.size) - threshold
    return options


def build_bands(
    points: Sequence[FitPoint],
    labels: Sequence[str],
    curves: Mapping[str, Curve],
    *,
    baseline: str,
    min_gain: float,
    confidence: float,
) -> tuple[tuple[Band, ...], tuple[Crossover, ...]]:
    """The bands of the cell and the crossovers between different backends."""
    threshold = math.log1p(min_gain)
    # A baseline run is cut where "excluded" begins or ends: the reason is another one.
    parts = runs([(label, label == baseline and not point.ratios) for label, point in zip(labels, points, strict=True)])
    bands: list[Band] = []
    crossovers: list[Crossover] = []
    for number, (start, end) in enumerate(parts):
        up_to = points[end].size
        if number + 1 < len(parts):
            low, high, below, above = points[end], points[end + 1], labels[end], labels[end + 1]
            if below == above:
                # From excluded to measured the reason changes just before the first measured size.
                up_to = high.size - 1 if not low.ratios else low.size
            else:
                up_to = crossing(low, high, below, above, curves, baseline=baseline, threshold=threshold)
                crossovers.append(Crossover(up_to, low.size, high.size, below, above))
        run = points[start : end + 1]
        if labels[start] == baseline:
            bands.append(_baseline_band(up_to, run, baseline, curves, threshold, confidence))
        else:
            bands.append(_candidate_band(up_to, run, labels[start], baseline, threshold, confidence))
    return tuple(bands), tuple(crossovers)


def crossing(
    low: FitPoint,
    high: FitPoint,
    below: str,
    above: str,
    curves: Mapping[str, Curve],
    *,
    baseline: str,
    threshold: float,
) -> int:
    """The last size of `below` between the neighbouring points `low` and `high`.

    There the lead of `below` over `above`, linear in log size between the two points, falls to zero; rounded down to
    `ALIGNMENT`, within [low, high).

    Without a crossing to interpolate (a backend is not measured at one of the points, or the curves do not change
    sides) a candidate ends at, or begins with, its own point: nothing is claimed for it beyond that.
    """
    lead_low = _lead(low, below, above, curves, baseline, threshold)
    lead_high = _lead(high, below, above, curves, baseline, threshold)
    if lead_low is None or lead_high is None or not lead_low >= 0 >= lead_high or lead_low == lead_high:
        return high.size - 1 if below == baseline else low.size
    part = lead_low / (lead_low - lead_high)
    at = low.size * (high.size / low.size) ** part
    return min(max(int(at) // ALIGNMENT * ALIGNMENT, low.size), high.size - 1)


def _lead(
    point: FitPoint, below: str, above: str, curves: Mapping[str, Curve], baseline: str, threshold: float
) -> float | None:
    values = []
    for label in (below, above):
        if label == baseline:
            values.append(0.0)
        elif label in point.ratios:
            values.append(curves[label].at(point.size) - threshold)
        else:
            return None
    return values[0] - values[1]


def _candidate_band(
    up_to: int, run: Sequence[FitPoint], candidate: str, baseline: str, threshold: float, confidence: float
) -> Band:
    evidence = band_evidence(run, candidate, confidence)
    gain, interval = as_gain(evidence.interval)
    why = "faster" if evidence.interval.low > threshold else "likely"
    return Band(up_to, candidate, why, baseline, gain, interval, evidence.points, evidence.samples)


def _baseline_band(
    up_to: int,
    run: Sequence[FitPoint],
    baseline: str,
    curves: Mapping[str, Curve],
    threshold: float,
    confidence: float,
) -> Band:
    rivals = [candidate for candidate in curves if any(candidate in point.ratios for point in run)]
    if not rivals:
        return Band(up_to, baseline, "excluded", None, None, None, len(run), 0)
    # Bonferroni over the rivals, because the best of them was picked by looking.
    share = shared_confidence(confidence, len(rivals))
    rival = max(rivals, key=lambda name: _mean_utility(run, name))
    evidence = band_evidence(run, rival, share)
    slower = math.fsum(
        point.octaves for point in run if all(r.interval.median < -threshold for r in point.ratios.values())
    )
    dominates = 2 * slower > math.fsum(point.octaves for point in run)
    why = "faster" if dominates and evidence.interval.high < 0 else "tie"
    gain, interval = as_gain(flipped(evidence.interval))
    return Band(up_to, baseline, why, rival, gain, interval, len(run), evidence.samples)


def _mean_utility(run: Sequence[FitPoint], candidate: str) -> float:
    found = [(point.octaves, point.ratios[candidate].interval.median) for point in run if candidate in point.ratios]
    return math.fsum(w * value for w, value in found) / math.fsum(w for w, _ in found)


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
