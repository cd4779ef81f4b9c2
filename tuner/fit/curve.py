"""The curve of log-ratios along log size that the samples of all points of a cell speak for, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ccl_dispatch.tuner.fit.points import FitPoint
from ccl_dispatch.tuner.statistics import median

# A median of n normal samples has pi/2 times the variance of their mean; 1.4826 makes the median absolute deviation
# estimate a normal's standard deviation (P. J. Huber, Robust Statistics, 1981).
_MEDIAN_VARIANCE = math.pi / 2
_MAD_SCALE = 1.4826
# Noise differs by size, but a scale from few samples is a guess: the scale of the whole cell counts as this many more.
_POOLED_SAMPLES = 8
# How much a curve may wander per octave (variance of log-ratio) before the data have spoken: 0.3 % to 100 %.
_ROUGHNESS = tuple(10 ** (exponent / 4) for exponent in range(-20, 1))
# A gap whose ends differ by more than this many standard deviations is a step (a change of protocol), not a wander.
_STEP = 3.0
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Curve:
    """Log-ratio of one candidate at the ascending sizes where it was measured: a Wiener process seen through noise.

    Attributes:
        sizes: per-rank input bytes.
        means: posterior mean at each size.
        variances: posterior variance at each size.
        gap_variances: what the process wanders over each gap between neighbours, as a variance.
    """

    sizes: tuple[int, ...]
    means: tuple[float, ...]
    variances: tuple[float, ...]
    gap_variances: tuple[float, ...]

    def at(self, size: int) -> float:
        """The mean at one of `sizes`."""
        return self.means[self.sizes.index(size)]

    def between(self, gap: int, part: float) -> tuple[float, float]:
        """Mean and variance at `part` (0 to 1, in log size) of the way over `gap`: linear, and a Brownian bridge."""
        mean = (1 - part) * self.means[gap] + part * self.means[gap + 1]
        # The ends count as independent here: they are correlated by less than the bridge adds.
        variance = (
            (1 - part) ** 2 * self.variances[gap]
            + part**2 * self.variances[gap + 1]
            + part * (1 - part) * self.gap_variances[gap]
        )
        return mean, variance


def fit_curves(points: Sequence[FitPoint], candidates: Sequence[str]) -> Mapping[str, Curve]:
    """The curve of every candidate that was measured at any of `points`."""
    curves = {}
    for candidate in candidates:
        measured = [point for point in points if candidate in point.ratios]
        if measured:
            curves[candidate] = _fit_curve(measured, candidate)
    return curves


def _fit_curve(points: Sequence[FitPoint], candidate: str) -> Curve:
    samples = [point.ratios[candidate].samples for point in points]
    medians = [point.ratios[candidate].interval.median for point in points]
    sizes = [point.size for point in points]
    gaps = [math.log2(high / low) for low, high in pairwise(sizes)]
    noise = median_variances(samples)
    roughness, steps = _estimate_roughness(medians, noise, gaps)
    wander = [roughness * gap if step is None else step for gap, step in zip(gaps, steps, strict=True)]
    means, variances = _smooth(medians, noise, wander)
    bend = min(_bend(medians, noise, gaps, steps), roughness)
    bridges = [bend * gap if step is None else step for gap, step in zip(gaps, steps, strict=True)]
    return Curve(tuple(sizes), tuple(means), tuple(variances), tuple(bridges))


def median_variances(samples: Sequence[Sequence[float]]) -> list[float]:
    """The variance of each point's median: from its own spread, steadied by the spread of the whole cell."""
    deviations = []
    for values in samples:
        middle = median(values)
        # Of n residuals about their own median only n - 1 are free; a lone sample says nothing about spread.
        grow = math.sqrt(len(values) / (len(values) - 1)) if len(values) > 1 else 0.0
        deviations.append([abs(value - middle) * grow for value in values] if grow else [])
    pool = [value for values in deviations for value in values]
    common = (_MAD_SCALE * median(pool)) ** 2 if pool else 0.0
    result = []
    for values, own in zip(samples, deviations, strict=True):
        spread = (_MAD_SCALE * median(own)) ** 2 if own else common
        steady = (len(own) * spread + _POOLED_SAMPLES * common) / (len(own) + _POOLED_SAMPLES)
        factor = _MEDIAN_VARIANCE if len(values) > 2 else 1.0  # the median of two is their mean
        result.append(max(factor * steady / len(values), _LEAST_VARIANCE))
    return result


def _estimate_roughness(
    values: Sequence[float], noise: Sequence[float], gaps: Sequence[float]
) -> tuple[float, list[float | None]]:
    """Wander per octave by maximum likelihood, and for each gap that is a step the variance to use in its place."""
    steps: list[float | None] = [None] * len(gaps)
    roughness = _likeliest(values, noise, gaps, steps)
    for gap, length in enumerate(gaps):
        jump = (values[gap + 1] - values[gap]) ** 2
        if jump > _STEP**2 * (roughness * length + noise[gap] + noise[gap + 1]):
            steps[gap] = jump
    if any(steps):
        roughness = _likeliest(values, noise, gaps, steps)
    return roughness, steps


def _bend(
    values: Sequence[float], noise: Sequence[float], gaps: Sequence[float], steps: Sequence[float | None]
) -> float:
    """How far the curve strays from straight lines between measured sizes, as a variance per octave.

    From the distance of each point to the line through its neighbours: of a Wiener process that distance has the
    variance left x right / (left + right) per octave, but a curve that just rises or falls has none, and what lies
    between two of its points is better known than their difference suggests. Gaps that are steps are left out.
    """
    squares, lengths = 0.0, 0.0
    for i in range(1, len(gaps)):
        if steps[i - 1] is None and steps[i] is None:
            left, right = gaps[i - 1], gaps[i]
            part = left / (left + right)
            error = values[i] - (1 - part) * values[i - 1] - part * values[i + 1]
            squares += error**2 - noise[i] - (1 - part) ** 2 * noise[i - 1] - part**2 * noise[i + 1]
            lengths += left * right / (left + right)
    return max(squares / lengths, _ROUGHNESS[0]) if lengths else math.inf


def _likeliest(
    values: Sequence[float], noise: Sequence[float], gaps: Sequence[float], steps: Sequence[float | None]
) -> float:
    def cost(roughness: float) -> float:
        mean, variance = values[0], noise[0]
        total = 0.0
        for i, gap in enumerate(gaps):
            step = steps[i]
            variance += roughness * gap if step is None else step
            seen = variance + noise[i + 1]
            error = values[i + 1] - mean
            total += math.log(seen) + error * error / seen
            gain = variance / seen
            mean += gain * error
            variance *= 1 - gain
        return total

    return min(_ROUGHNESS, key=cost)


def _smooth(
    values: Sequence[float], noise: Sequence[float], wander: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Kalman filter and Rauch-Tung-Striebel smoother of a random walk with a flat start."""
    means, variances = [values[0]], [noise[0]]
    for value, seen, walk in zip(values[1:], noise[1:], wander, strict=True):
        ahead = variances[-1] + walk
        gain = ahead / (ahead + seen)
        means.append(means[-1] + gain * (value - means[-1]))
        variances.append(ahead * (1 - gain))
    for i in range(len(wander) - 1, -1, -1):
        ahead = variances[i] + wander[i]
        back = variances[i] / ahead
        means[i] += back * (means[i + 1] - means[i])
        variances[i] += back * back * (variances[i + 1] - ahead)
    return means, variances
