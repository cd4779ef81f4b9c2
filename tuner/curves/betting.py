"""Proofs by betting: how far samples show that their location exceeds a threshold, however often one looks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.statistics import Interval, checked, fewest_samples, median, rounded_up, shared_confidence

# Samples further from what is claimed than so many of their scatter count no more than if they lay there: two lose 3 %
# of what normal samples say, and an outlier says no more than any other sample (P. J. Huber, Robust Statistics).
_CLIP_SCALES = 2.0
# Bets that are made side by side, evenly from hardly anything to nearly all.
_BETS = (np.arange(10) + 0.5) / 10
# What a mixture of bets costs against the best of them, in log units, seen at 10 to 100 samples.
_MIXTURE_PENALTY = 0.7
_HARDLY_ANYTHING = (0.0, 0.0, 0.1)
# A proof that takes thousands of samples is out of reach.
_LEAST_GROWTH = 1e-3
# How close the end of an interval is looked up: a table keeps four digits.
_FINE = 1e-7


def log_evidence(
    values: Sequence[float] | NDArray[np.float64], threshold: float, scale: float, correlation: float = 1.0
) -> float:
    """The log of what is won by betting on `values` that their location exceeds `threshold`, from a stake of 1.

    Their location is Huber's: the t at which clip((value - t)/(2 scale), -1, 1) is 0 in the mean, the mean of what
    scatters little and the median of what scatters widely. Where it is at most `threshold`, each factor
    1 + bet x clip(...) is 1 at most in expectation, given the samples before, and so is the mean over some bets of
    their products. By Ville's inequality it ever exceeds 1/alpha with a probability of at most alpha, whenever one
    looks. Of single samples nothing else is asked: no symmetry, no moments, not one distribution for all.

    Source: I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024);
    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Stat. 35 (1964).

    Args:
        values: samples in log units, at least one; their order does not matter.
        threshold: in log units.
        scale: of the samples' scatter, above 0; a wrong one costs samples, not truth.
        correlation: by how much neighbours in time resemble each other, at least 1: each factor counts by that root of
            it, as if of so many samples that are all the same one had been taken.
    """
    logs = np.log1p(np.outer(_BETS, _shares(values, threshold, scale))).sum(axis=1) / correlation
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def _shares(values: Sequence[float] | NDArray[np.float64], threshold: float, scale: float) -> NDArray[np.float64]:
    """What each sample is worth to the claim that the location exceeds `threshold`: -1 to 1."""
    return np.clip((np.asarray(values, dtype=float) - threshold) / (_CLIP_SCALES * scale), -1.0, 1.0)


def evidence_wanted(confidence: float) -> float:
    """The `log_evidence` that proves a claim with `confidence`."""
    return -math.log(1 - checked(confidence))


def pooled_confidence(counts: Sequence[int], confidence: float) -> float:
    """The confidence of what a run of points proves by its pooled samples.

    Where the counts allow another reading, by point, each of the two gets half of alpha: they are one claim.

    Args:
        counts: of the samples of each point, at least one.
    """
    half = shared_confidence(confidence, 2)
    by_point = len(counts) > 1 and min(counts) >= fewest_samples(shared_confidence(half, len(counts)))
    return half if by_point else confidence


def samples_missing(
    values: Sequence[float], threshold: float, scale: float, wanted: float, correlation: float = 1.0
) -> int | None:
    """About how many samples more a proof takes if the next ones are like these; None where it is out of reach.

    Evidence grows with each sample by the mean of log(1 + bet x share) at the best bet, and a mixture of bets lags
    behind the best one by about `_MIXTURE_PENALTY`. A few samples count besides that say next to nothing: what a
    handful shows is not taken for the truth.

    Args:
        wanted: the log of the evidence that proves it, see `evidence_wanted`.
        correlation: see `log_evidence`.
    """
    shares = [*_shares(values, threshold, scale), *_HARDLY_ANYTHING]
    growth = float(np.log1p(np.outer(_BETS, shares)).mean(axis=1).max())
    if growth < _LEAST_GROWTH:
        return None
    return max(1, math.ceil((wanted + _MIXTURE_PENALTY) * correlation / growth) - len(values))


def location_interval(values: Sequence[float], confidence: float, scale: float, correlation: float = 1.0) -> Interval:
    """The median of `values`, and where by `log_evidence` their location lies: each bound for itself holds with
    `confidence`, at every sample count at once.

    Bounds that leave out the median, which skewed samples can have, are moved to it.

    Args:
        values: the samples, in any order, log units.
        confidence: of each bound, between 0 and 1.
        scale: of their scatter, see `log_evidence`.
        correlation: see `log_evidence`.

    Raises:
        ValueError: there are no values, or the confidence is not between 0 and 1.
    """
    middle = median(values)
    samples = np.asarray(values, dtype=float)
    wanted, correlation = evidence_wanted(confidence), rounded_up(correlation)
    low = _lower_bound(samples, middle, wanted, scale, correlation)
    high = -_lower_bound(-samples, -middle, wanted, scale, correlation)
    return Interval(middle, low, high)


def _lower_bound(samples: NDArray[np.float64], middle: float, wanted: float, scale: float, correlation: float) -> float:
    """The largest threshold up to `middle`, to `_FINE`, that the samples prove to be exceeded; -inf where none is."""
    if log_evidence(samples, middle, scale, correlation) >= wanted:
        return middle
    # So far below all of them each counts as much as it can.
    low, high = float(samples.min()) - _CLIP_SCALES * scale, middle
    if log_evidence(samples, low, scale, correlation) < wanted:
        return -math.inf
    while (between := (low + high) / 2) - low > _FINE:
        if log_evidence(samples, between, scale, correlation) >= wanted:
            low = between
        else:
            high = between
    return low
