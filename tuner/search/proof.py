"""What a candidate still has to prove: a lead that is likely is worth nothing to a table that asks for evidence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import Noise, PointSamples
from ccl_dispatch.tuner.curves.betting import evidence_wanted, log_evidence, pooled_confidence, samples_missing
from ccl_dispatch.tuner.curves.visits import LONG, slack, votes
from ccl_dispatch.tuner.search.family import CellGrid
from ccl_dispatch.tuner.statistics import edge, mean_correlation_time, median, rounded_up

Array = NDArray[np.float64]


# What would take more visits of one run, because visits differ, is out of reach.
_MOST_VISITS = 40
# Samples of one visit, where visits may differ, and where they do: that one which is odd is no witness.
_AT_ONCE = 4
_WHOLE = 2


class Proof(NamedTuple):
    """The samples that are still missing in one run of sizes, where to take them, and what proving it is worth.

    Attributes:
        repeats: of the next visit.
        visits: about how many like it the proof takes.
    """

    worth: float
    size: int
    repeats: int
    visits: float = 1


def missing_proofs(
    grid: CellGrid,
    lead: Array,
    samples: Mapping[int, PointSamples],
    threshold: float,
    confidence: float,
    noise: Noise,
) -> list[Proof]:
    """One for each run of sizes in which the candidate leads by its curve, but not yet beyond doubt.

    It is worth all that the candidate leads by there: without the proof the table has none of it.

    Without a threshold nothing has to be proven, but a run still needs a size that was measured in its own cell.

    Args:
        lead: the candidate's lead over the best other choice at each size, beyond the `edge` of `threshold`; -inf where
            forbidden.
        samples: log-ratios by size, as far as measured in this cell.
        threshold: what the samples' location has to exceed.
        confidence: of the proof.
        noise: of the samples, and of visits.
    """
    proofs = []
    ahead = np.concatenate([[False], lead > 0, [False]])
    edges = np.flatnonzero(ahead[1:] != ahead[:-1])
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        run = range(start, end)
        measured = [place for place in run if grid.sizes[place] in samples]
        if threshold <= 0 and measured:
            continue
        points = [samples[grid.sizes[place]] for place in measured]
        pool, scale = votes(points, noise)
        apart = slack(points, noise.visit, scale, confidence) if points and not noise.whole else 0.0
        # Where visits are the samples, nothing lies beside them in time.
        wanted, correlation = _wanted([] if noise.whole else points, confidence)
        if pool and log_evidence(pool, threshold + apart, scale, correlation) >= wanted:
            continue
        missing = 1 if threshold <= 0 else samples_missing(pool, threshold + apart, scale, wanted, correlation)
        if missing is None and apart and _visits_wanted(points, pool, threshold, apart) <= _MOST_VISITS:
            # Not the samples are too few, but the visits.
            missing = samples_missing(pool, threshold, scale, wanted, correlation) and LONG
        if missing is None or (noise.whole and missing > _MOST_VISITS):
            continue
        worth = math.fsum(float(grid.weights[place] * (lead[place] + edge(threshold))) for place in run)
        if measured:
            place = min(measured, key=lambda at: (len(samples[grid.sizes[at]].repeats), -float(lead[at])))
        else:
            place = max(run, key=lambda at: float(lead[at]))
        # As long as nothing tells how visits differ, no visit is to prove anything by itself.
        once = _WHOLE if noise.whole else missing if noise.settled else min(missing, _AT_ONCE)
        proofs.append(Proof(worth, grid.sizes[place], once, missing if noise.whole else missing / once))
    return proofs


def _visits_wanted(points: Sequence[PointSamples], pool: Sequence[float], threshold: float, apart: float) -> float:
    """About how many visits it takes until what they are off by is less than the lead beyond the threshold.

    Half as much is off after four times as many.
    """
    room = median(pool) - threshold
    return math.inf if room <= 0 else sum(len(point.lengths) for point in points) * (apart / room) ** 2


def _wanted(points: Sequence[PointSamples], confidence: float) -> tuple[float, float]:
    """The log of the evidence that the fit asks of these points together, and the correlation of their samples."""
    if not points:
        return evidence_wanted(confidence), 1.0
    correlation = mean_correlation_time(visit for point in points for visit in point.by_visit())
    reading = pooled_confidence([len(point.repeats) for point in points], confidence)
    return evidence_wanted(reading), rounded_up(correlation)


def open_limits(
    grid: CellGrid, lead: Array, good: Collection[int], bad: Collection[int], seen: Collection[int]
) -> list[Proof]:
    """One for each place where the candidate's right to be used ends between two measured sizes: halve what is open.

    Up to the nearest size at which it was right a candidate may not be used. Where its curve leads there, each size
    that turns out to be right is worth its lead.

    Args:
        lead: the candidate's lead over the best other choice at each size, by its curve, as if it could be used there.
        good, bad: sizes at which it was right, and at which it was excluded.
        seen: sizes that were measured, or are being measured.
    """
    proofs = []
    known = [place for place, size in enumerate(grid.sizes) if size in good or size in bad]
    for low, high in itertools.pairwise(known):
        places = [place for place in range(low + 1, high) if grid.sizes[place] not in seen]
        if (grid.sizes[low] in bad) == (grid.sizes[high] in bad) or not places:
            continue
        # As likely as not the limit lies in the half beyond.
        worth = math.fsum(float(grid.weights[place] * max(lead[place], 0.0)) for place in range(low + 1, high)) / 2
        middle = (grid.x[low] + grid.x[high]) / 2
        proofs.append(Proof(worth, grid.sizes[min(places, key=lambda place: abs(float(grid.x[place]) - middle))], 1))
    return proofs
