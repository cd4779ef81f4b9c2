"""How noisy the paired log-ratios of a study are, and what the samples of one point say: a location, its variance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.statistics import correlation_time

Array = NDArray[np.float64]

# 1.4826 makes the median absolute deviation estimate a normal's standard deviation (P. J. Huber, Robust Statistics).
_MAD_SCALE = 1.4826
# E[min(Z^2, 2.5^2)] of a standard normal Z.
_CLIPPED_MOMENT = 0.9776
# Before there are repeats a pair is taken to scatter by 7 %, and this belief counts as so many residuals.
_PRIOR_SCALE = 0.07
_PRIOR_RESIDUALS = 3
_LEAST_SCALE = 1e-3
# With so many residuals the scale of repetitions is known without that of first calls.
_ENOUGH_RESIDUALS = 16
# With fewer sizes than that in a row nothing is concluded from how far the curve bends.
_ENOUGH_BENDS = 8
# Noise differs by size, but a scale from few samples is a guess: the scale of all points counts as this many more.
_POOLED_SAMPLES = 8
# A share of pairs is hit by something else (an interrupt, a page fault, another job) and scatters by a factor of e.
OUTLIER_SHARE = 0.03
OUTLIER_SCALE = 1.0
_EM_ROUNDS = 4
#: What visits differ by at least, one standard deviation in log units: memory placement and clocks make 0.3 %.
LEAST_SCATTER = 0.003
# First calls are used like any other while their log-ratios cannot be told from those after them: a shift below two
# standard errors or a third of the scale, and a scatter of at most 1.6 times the others' (a factor 2.5 in variance).
_SHIFT_ERRORS = 2.0
_SHIFT_SCALES = 1 / 3
_SCATTER = 1.6


@dataclass(frozen=True)
class PointSamples:
    """The log-ratios of one candidate at one size.

    Attributes:
        repeats: log(T_baseline / T_candidate) of each repetition, visit after visit, in the order of measuring.
        firsts: the same for the first warm-up call of each visit.
        visits: how many repetitions each visit had; empty where there was one.
    """

    repeats: tuple[float, ...]
    firsts: tuple[float, ...] = ()
    visits: tuple[int, ...] = ()

    @staticmethod
    def joined(parts: Sequence[PointSamples]) -> PointSamples:
        """The samples of all `parts` of one point, of which there is one at least, in their order."""
        if len(parts) == 1:
            return parts[0]
        return PointSamples(
            tuple(chain.from_iterable(part.repeats for part in parts)),
            tuple(chain.from_iterable(part.firsts for part in parts)),
            tuple(chain.from_iterable(part.lengths for part in parts)),
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many repetitions each visit had."""
        return self.visits or (len(self.repeats),)

    def by_visit(self) -> Iterator[tuple[float, ...]]:
        """The repetitions of each visit."""
        start = 0
        for length in self.lengths:
            yield self.repeats[start : start + length]
            start += length


@dataclass(frozen=True)
class FirstCalls:
    """Whether the first call of a visit, a warm-up, tells as much as the calls after it.

    A warm-up call costs as much machine time as any other. Where it behaves as they do its time is a sample; where it
    is slower, or scatters more, it is left out. Decided for a whole study, from the difference between the first call
    and the repetitions after it.

    Attributes:
        seen: from so many visits.
    """

    usable: bool
    seen: int = 0


@dataclass(frozen=True)
class Noise:
    """The scatter of a pair's log-ratio around its curve: one standard deviation, in log units.

    Attributes:
        visit: by how many times more visits of one size scatter, see `visit_ratio`.
        settled: that is known from long visits.
        whole: else, that it is seen in short ones: what a visit finds is then one sample, whatever its repetitions.
    """

    scale: float
    first: FirstCalls = FirstCalls(usable=False)
    visit: float = 0.0
    settled: bool = False
    whole: bool = False

    def visit_variance(self, scale: float) -> float:
        """What a visit's value is off by, however many repetitions it has, where these scatter by `scale`."""
        return LEAST_SCATTER**2 + (self.visit * scale) ** 2


class Summary(NamedTuple):
    """What the samples of one point say.

    Attributes:
        value, variance: of the curve there.
        trust: log odds of the samples against being outliers, all of them; infinite where more than two would have to.
    """

    value: float
    variance: float
    trust: float


def learn_noise(cells: Iterable[Mapping[int, PointSamples]]) -> Noise:
    """The noise that the samples of all `cells` (by size in bytes) show, steadied by what is believed without any.

    Repeats of a size show it, but a search repeats what looked odd: there are more outliers among them than elsewhere,
    and few of them to begin with. So where the curves bend less from size to size than repeats scatter, how far they
    bend is counted like repeats: it cannot be less than noise makes it.
    """
    cells = list(cells)
    points = [point for cell in cells for point in cell.values()]
    residuals: list[float] = []
    shifts: list[float] = []
    for point in points:
        repeats = np.asarray(point.repeats)
        if len(repeats) > 1:
            # Of n residuals about their own median only n - 1 are free.
            grow = math.sqrt(len(repeats) / (len(repeats) - 1))
            residuals += (np.abs(repeats - median_of(repeats)) * grow).tolist()
        if len(repeats) and point.firsts:
            # Divided by the root of 1 + 1/n the difference to the mean of n scatters as one sample does.
            shrink = math.sqrt(1 + 1 / len(repeats))
            shifts += ((np.asarray(point.firsts) - median_of(repeats)) / shrink).tolist()
    prior = [_PRIOR_SCALE] * _PRIOR_RESIDUALS
    scale = _robust_scale([*prior, *residuals])
    usable = bool(shifts) and _alike(np.asarray(shifts), scale if len(residuals) >= _ENOUGH_RESIDUALS else None)
    if usable and len(residuals) < _ENOUGH_RESIDUALS:
        # Visits of one repetition have no other residuals than those against their first call.
        scale = _robust_scale([*prior, *residuals, *np.abs(shifts).tolist()])
    bends = [bend for cell in cells for bend in _bends(cell)]
    if len(bends) >= _ENOUGH_BENDS and _robust_scale(bends) < scale:
        scale = _robust_scale([*prior, *residuals, *bends] if residuals or shifts else bends)
    return Noise(max(scale, _LEAST_SCALE), FirstCalls(usable, len(shifts)))


def _bends(cell: Mapping[int, PointSamples]) -> list[float]:
    """How far each point lies from the line through its neighbours, as one sample would scatter."""
    known = [
        (math.log2(size), median_of(repeats), (1.0 if len(repeats) < 3 else math.pi / 2) / len(repeats))
        for size, repeats in ((size, cell[size].repeats) for size in sorted(cell))
        if repeats
    ]
    bends = []
    for (x0, y0, v0), (x1, y1, v1), (x2, y2, v2) in zip(known, known[1:], known[2:], strict=False):
        part = (x1 - x0) / (x2 - x0)
        bends.append((y1 - (1 - part) * y0 - part * y2) / math.sqrt(v1 + (1 - part) ** 2 * v0 + part**2 * v2))
    return bends


def median_of(values: Array | Sequence[float]) -> float:
    """The median. Of the few values of a point numpy's takes ten times as long."""
    ordered = np.sort(values)
    count = len(ordered)
    return float(ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def deviation_of(differences: Array) -> float:
    """The standard deviation that a normal would have with these differences from its middle, by their median size."""
    return _MAD_SCALE * median_of(np.abs(differences))


def _robust_scale(residuals: Sequence[float]) -> float:
    """The standard deviation of the residuals, each counted as 2.5 median ones at most.

    The median alone would be as robust and needs three times as many residuals (Huber, chapter 5); what clipping takes
    off a normal's second moment is put back.
    """
    sizes = np.abs(np.asarray(residuals))
    clip = 2.5 * _MAD_SCALE * median_of(sizes)
    if clip <= 0:
        return 0.0
    return math.sqrt(float(np.mean(np.minimum(sizes, clip) ** 2)) / _CLIPPED_MOMENT)


def _alike(shifts: Array, scale: float | None) -> bool:
    """Whether first calls behave as the ones after them, whose `scale` may not be known well enough to compare."""
    shift = median_of(shifts)
    scatter = deviation_of(shifts - shift)
    # The standard error of a median is 1.25 times that of a mean.
    error = 1.25 * scatter / math.sqrt(len(shifts))
    return abs(shift) <= max(_SHIFT_ERRORS * error, _SHIFT_SCALES * (scale or scatter)) and (
        scale is None or scatter <= _SCATTER * scale
    )


def summarise(point: PointSamples, noise: Noise) -> Summary:
    """The curve's value at a point and the variance of that, from a mixture: most samples scatter by the point's own
    scale (steadied by the study's), a few by a factor of e.

    Expectation maximisation from the median. Samples that resemble their neighbours in time count for fewer.

    Args:
        point: at least one repeat.
        noise: of the study.
    """
    firsts = point.firsts if noise.first.usable else ()
    # Sorted, so that no sum depends on the order in which samples came.
    values = np.sort(np.asarray((*firsts, *point.repeats)))
    count = len(values)
    middle = median_of(values)
    scale = _own_scale(values, middle, noise.scale)
    wide = math.hypot(scale, OUTLIER_SCALE)
    precision = np.full(count, 1 / scale**2)
    share = np.ones(count)
    for _ in range(_EM_ROUNDS):
        squares = (values - middle) ** 2
        inside = (1 - OUTLIER_SHARE) * np.exp(-squares / (2 * scale**2)) / scale
        outside = OUTLIER_SHARE * np.exp(-squares / (2 * wide**2)) / wide
        share = inside / (inside + outside)
        precision = share / scale**2 + (1 - share) / wide**2
        middle = float((precision * values).sum() / precision.sum())
    # Samples that may or may not be outliers leave the location open between the two readings.
    doubt = float((share * (1 - share) * (values - middle) ** 2).sum()) / count**2
    variance = correlation_time(point.repeats) / float(precision.sum()) + doubt
    variance += noise.visit_variance(scale) / len(point.lengths)
    return Summary(middle, variance, _trust(values, scale))


def _trust(values: Array, scale: float) -> float:
    """Log odds that one or two samples are good rather than outliers; two that agree are hardly both."""
    if len(values) > 2:
        return math.inf
    odds = len(values) * math.log((1 - OUTLIER_SHARE) / OUTLIER_SHARE)
    if len(values) == 2:
        apart, wide = float(values[1] - values[0]), math.hypot(scale, OUTLIER_SCALE)
        odds += math.log(wide / scale) - (apart / scale) ** 2 / 4 + (apart / wide) ** 2 / 4
    return odds


def _own_scale(values: Array, middle: float, common: float) -> float:
    count = len(values)
    if count < 3:
        return common
    own = deviation_of(values - middle) * math.sqrt(count / (count - 1))
    return math.sqrt((count * own**2 + _POOLED_SAMPLES * common**2) / (count + _POOLED_SAMPLES))
