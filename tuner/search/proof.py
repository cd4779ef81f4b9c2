"""What a candidate still has to prove: a lead that is likely is worth nothing to a table that asks for evidence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.search.family import CellGrid
from ccl_dispatch.tuner.statistics import fewest_samples, median_interval

Array = NDArray[np.float64]

# A run in which fewer of the samples than that lie above the threshold can't be proven with what a sweep has.
_LEAST_SHARE = 0.55


class Proof(NamedTuple):
    """The samples that are still missing in one run of sizes, where to take them, and what proving it is worth."""

    worth: float
    size: int
    repeats: int


def missing_proofs(
    grid: CellGrid, lead: Array, samples: Mapping[int, Sequence[float]], threshold: float, confidence: float
) -> list[Proof]:
    """One for each run of sizes in which the candidate leads by its curve, but not yet beyond doubt.

    Without a threshold nothing has to be proven, but a run still needs a size that was measured in its own cell.

    Args:
        lead: the candidate's lead over the best other choice at each size, beyond `threshold`; -inf where forbidden.
        samples: log-ratios by size, as far as measured in this cell.
        threshold: what the samples' median has to exceed.
        confidence: of the proof.
    """
    proofs = []
    ahead = np.concatenate([[False], lead > 0, [False]])
    edges = np.flatnonzero(ahead[1:] != ahead[:-1])
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        run = range(start, end)
        measured = [place for place in run if grid.sizes[place] in samples]
        if threshold <= 0 and measured:
            continue
        pool = [value for place in measured for value in samples[grid.sizes[place]]]
        if pool and median_interval(pool, confidence).low > threshold:
            continue
        missing = 1 if threshold <= 0 else _missing(pool, threshold, confidence)
        if missing is None:
            continue
        worth = math.fsum(float(grid.weights[place] * lead[place]) for place in run)
        if measured:
            place = min(measured, key=lambda at: (len(samples[grid.sizes[at]]), -float(lead[at])))
        else:
            place = max(run, key=lambda at: float(lead[at]))
        proofs.append(Proof(worth, grid.sizes[place], missing))
    return proofs


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


def _missing(pool: Sequence[float], threshold: float, confidence: float) -> int | None:
    """About how many samples more a proof takes if the next ones are like these; None when it is out of reach.

    With a share q of them above the threshold the likelihood ratio of `median_interval` grows by the Kullback-Leibler
    divergence of q from 1/2 with each sample, and has to reach 1/alpha beyond a mixture penalty of about log(pi n)/2.
    """
    above = (sum(value > threshold for value in pool) + 1.5) / (len(pool) + 2)
    if above < _LEAST_SHARE:
        return None
    above = min(above, 0.999)
    growth = above * math.log(2 * above) + (1 - above) * math.log(2 * (1 - above))
    wanted = fewest_samples(confidence)
    for _ in range(3):
        wanted = max(wanted, math.ceil((-math.log(1 - confidence) + math.log(math.pi * wanted) / 2) / growth))
    return max(1, wanted - len(pool))
