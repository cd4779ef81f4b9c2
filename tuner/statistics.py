"""Verdicts from few, heavy-tailed samples that stay right although they are looked at after every one of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

# With min_gain 0 the tie band is a single point that no interval can lie in. Half a percent is below what a published
# latency table resolves and what two runs of one library agree on, so that more samples would refine nothing of use.
RESOLUTION = 0.005
# A band is opened by a proven gain of `min_gain` and reaches to where half of it is left: an edge at `min_gain` itself
# would move with what one sweep happens to see and another does not (hysteresis).
_REACH = 0.5
# Fewer samples than this say nothing about how much neighbours in time resemble each other.
SERIES = 16


@dataclass(frozen=True)
class Interval:
    """A median and the bounds that it is known to lie within; -inf and inf while there are too few samples."""

    median: float
    low: float
    high: float

    @property
    def finite(self) -> bool:
        """Whether both bounds are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def median(values: Sequence[float]) -> float:
    """The middle of `values`, or the mean of the two middle ones.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("the median of no values does not exist; give at least one")
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def median_interval(values: Sequence[float], confidence: float, correlation: float = 1.0) -> Interval:
    """The median of `values` and a confidence sequence for the true one: it holds at every sample count at once.

    Under "m is the median" the number of samples below m is a sum of fair coin flips. The likelihood of the flips
    under a coin whose bias is drawn from Beta(1/2, 1/2), over that under a fair coin, is a martingale that starts at 1,
    so that by Ville's inequality it ever reaches 1/alpha with a probability of at most alpha. The interval is every m
    whose ratio is below 1/alpha; as the ratio depends on a count alone, its ends are order statistics. A sample equal
    to m may count on either side, which only widens the interval.

    Source: H. Robbins, Statistical methods related to the law of the iterated logarithm, Ann. Math. Stat. 41 (1970);
    for quantiles S. R. Howard and A. Ramdas, Sequential estimation of quantiles, Bernoulli 28 (2022).

    Assumption: each sample is equally likely to lie above or below the true median given the ones before it. Nothing
    else is asked of the distribution: no moments, no symmetry, and it may change from sample to sample. Pairing
    baseline and candidate takes common drift out. Samples whose sides still come in runs (a bimodal machine that stays
    in one mode for a while) count for fewer: as if of each `correlation` only one had been taken, which is exact for
    runs of that length. At 95 % runs of 2 to 16 samples, of known length, ever miss the true median in 2 to 4 of 100
    simulated series (tests/tuner/test_statistics.py). `correlation_time` estimates it, where it sees more than a few
    runs.

    Args:
        values: the samples, in any order and unit.
        confidence: 1 - alpha, between 0 and 1.
        correlation: integrated autocorrelation time of the sides that the samples fall on, at least 1.

    Raises:
        ValueError: there are no values, or the confidence is not between 0 and 1.
    """
    rank = _outer_rank(len(values), -math.log(1 - checked(confidence)), rounded_up(correlation))
    middle = median(values)
    if rank < 0:
        return Interval(middle, -math.inf, math.inf)
    ordered = sorted(values)
    return Interval(middle, ordered[rank], ordered[-1 - rank])


@lru_cache(maxsize=256)
def fewest_samples(confidence: float) -> int:
    """The least number of samples with which `median_interval` has finite bounds (7 at 95 %)."""
    limit = -math.log(1 - checked(confidence))
    count = 1
    while _outer_rank(count, limit) < 0:
        count += 1
    return count


def correlation_time(series: Sequence[float]) -> float:
    """By how much neighbours in time resemble each other: the integrated autocorrelation time of the sides (above or
    below the median) that samples fall on, at least 1; 1 for fewer than `SERIES` samples.

    1 + 2 times the sum of autocorrelations, over pairs of lags while a pair's sum is beyond chance (C. J. Geyer,
    Practical Markov chain Monte Carlo, Statistical Science 7, 1992). Sides, not values: heavy tails do not matter.

    Args:
        series: one visit's samples in the order of measuring.
    """
    count = len(series)
    if count < SERIES:
        return 1.0
    middle = median(series)
    sides = [(value > middle) - (value < middle) for value in series]
    power = sum(side * side for side in sides)
    if power == 0:
        return 1.0
    total = 1.0
    # What independent sides show by chance: two standard errors of a pair of lags.
    chance = 2 * math.sqrt(2 / count)
    for lag in range(1, count // 2, 2):
        pair = sum(a * b for a, b in zip(sides, sides[lag:], strict=False))
        pair += sum(a * b for a, b in zip(sides, sides[lag + 1 :], strict=False))
        if pair / power <= chance:
            break
        total += 2 * pair / power
    return total


def mean_correlation_time(visits: Iterable[Sequence[float]]) -> float:
    """That of several visits, weighed by their samples: between visits there is nothing to resemble."""
    series = [tuple(visit) for visit in visits]
    return math.fsum(len(visit) * _correlation_time(visit) for visit in series) / max(sum(map(len, series)), 1)


# Search and fit ask for the same visits again and again.
@lru_cache(maxsize=16384)
def _correlation_time(series: tuple[float, ...]) -> float:
    return correlation_time(series)


def checked(confidence: float) -> float:
    """The confidence, if it is one.

    Raises:
        ValueError: it is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} was given; it must lie between 0 and 1")
    return confidence


def rounded_up(correlation: float) -> float:
    """A correlation time of at least 1, in quarters."""
    # Quarters, so that the ranks that were computed once serve again.
    return math.ceil(max(correlation, 1.0) * 4) / 4


@lru_cache(maxsize=65536)
def _outer_rank(count: int, limit: float, correlation: float = 1.0) -> int:
    """The 0-based rank of the lower bound among `count` sorted samples, -1 while there is none.

    Args:
        limit: the log likelihood ratio that excludes a median.
        correlation: of so many samples one counts.
    """
    # The ratio falls as the smaller of the two counts rises to the middle: find the first count that is not excluded.
    low, high = 0, count // 2 + 1
    while low < high:
        middle = (low + high) // 2
        if middle <= count // 2 and _log_ratio(count / correlation, middle / correlation) >= limit:
            low = middle + 1
        else:
            high = middle
    # Up to low-1 samples at or below m exclude it, and the sample of 1-based rank `low` is the first m with more.
    return low - 1


def _log_ratio(count: float, below: float) -> float:
    """Log likelihood ratio of `below` among `count` flips: Beta(1/2, 1/2)-mixed coin against a fair one.

    Of parts of flips it is what lies between.
    """
    above = count - below
    return (
        count * math.log(2)
        + math.lgamma(below + 0.5)
        + math.lgamma(above + 0.5)
        - math.lgamma(count + 1)
        - math.log(math.pi)
    )


@dataclass(frozen=True)
class StopRule:
    """When the repetitions of a point may end.

    Attributes:
        threshold: log(1 + min_gain), the least log-ratio that a candidate must prove.
        confidence: of all verdicts at the point together.
        candidates: how many are judged at the point; each gets its share of 1 - confidence (Bonferroni).
        min_samples: repetitions before the first verdict.
        max_samples: repetitions after which the point ends in any case.
    """

    threshold: float
    confidence: float
    candidates: int
    min_samples: int
    max_samples: int

    def settled(self, log_ratios: Mapping[str, Sequence[float]]) -> str | None:
        """The word for `stopped_by`: `settled`, `samples`, or None to go on.

        A candidate is settled when its interval excludes the threshold (it is proven to earn min_gain, or proven not
        to), when the interval lies in the tie band from -threshold to +threshold, or when it is narrower than
        `RESOLUTION`. May be asked after every repetition.

        Args:
            log_ratios: per candidate log(T_baseline / T_candidate) of each repetition; candidates that could not be
                timed here are left out. Without any the point is settled.
        """
        if not log_ratios:
            return "settled"
        counts = [len(values) for values in log_ratios.values()]
        fewest = min(counts)
        if fewest >= self.min_samples and fewest > 0 and all(map(self._is_settled, log_ratios.values())):
            return "settled"
        return "samples" if fewest >= self.max_samples else None

    def _is_settled(self, values: Sequence[float]) -> bool:
        share = shared_confidence(self.confidence, self.candidates)
        interval = median_interval(values, share, correlation_time(values))
        if interval.low > self.threshold or interval.high < self.threshold:
            return True
        if -self.threshold <= interval.low and interval.high <= self.threshold:
            return True
        return interval.high - interval.low < RESOLUTION


def edge(threshold: float) -> float:
    """The log-ratio at which a candidate's band ends, where `threshold`, log(1 + min_gain), is what opens one."""
    return _REACH * threshold


def shared_confidence(confidence: float, claims: int) -> float:
    """The confidence of each of `claims` claims so that all hold together with `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / max(claims, 1)
