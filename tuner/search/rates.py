"""What visits of a cell are worth for what they cost, the best of them, and where it may end early."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import Doubt, Noise, expected_loss
from ccl_dispatch.tuner.search.costs import LONG_VISIT, CostModel
from ccl_dispatch.tuner.search.family import CellView
from ccl_dispatch.tuner.search.proof import Proof

Array = NDArray[np.float64]

# A long visit may end early, when doubt has fallen to a fiftieth.
_DOUBT_LEFT = 0.02


class Best(NamedTuple):
    """The visit of a cell that is worth most for what it costs: its number of repetitions (a row) and its size."""

    worth: float
    rate: float
    row: int
    place: int


def share_of(costs: CostModel, proof: Proof) -> float:
    """What a proof costs, as a share of the budget."""
    one = costs.shares(np.log2(np.array([float(proof.size)])), np.array([float(proof.repeats)]))[0, 0]
    return float(one) * proof.visits


def worth_of(view: CellView, shares: Array) -> Array:
    """What each visit is worth, 0 for numbers of repetitions at which none can be the best for its share of the budget:
    no visit wins more than the longest at its size.
    """
    last = len(shares) - 1
    worth = np.zeros(shares.shape)
    ends = sorted({0, last})
    worth[ends] = view.worth(ends)
    best = float((worth[0] / shares[0]).max())
    between = [row for row in range(1, last) if float((worth[last] / shares[row]).max()) > best]
    worth[between] = view.worth(between)
    return worth


def best_of(worth: Array, rates: Array) -> Best:
    """The visit of the highest rate."""
    row, place = divmod(int(np.argmax(rates)), rates.shape[1])
    return Best(float(worth[row, place]), float(rates[row, place]), row, place)


def doubts_of(view: CellView, place: int, repeats: int, noise: Mapping[str, Noise]) -> dict[str, Doubt]:
    """Per candidate what is known of a size before it is visited, by which the visit may end early."""
    doubts = {}
    for name, lead in view.leads.items():
        mean, variance = lead.mean[place], max(float(lead.covariance[place, place]), 0.0)
        if np.isfinite(mean):
            loss = float(expected_loss(np.array([mean]), np.array([math.sqrt(variance)]))[0])
            offset = float(view.offsets[name][place])
            least = _DOUBT_LEFT * loss if repeats >= LONG_VISIT else -1.0
            doubts[name] = Doubt(offset, float(mean), variance, noise[name].scale, least, noise[name].first.usable)
    return doubts
