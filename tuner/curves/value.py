"""What a measurement is worth: by how much it is expected to lower the regret of the choices that follow it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The unit normal loss function, looked up to the nearest thousandth: off by 5e-4 at most, and beyond 8 it is nil.
_REACH = 8.0
_STEPS = 8000
_TINY = 1e-12
# That many deviations from a tie nothing is to be won: the loss is 1e-6 deviations.
_SURE = 4.5


def expected_loss(mean: Array, deviation: Array) -> Array:
    """E[max(-X sign(mean), 0)] of a normal X: what choosing by the sign of its mean is expected to lose.

    With z = |mean|/deviation this is deviation x (phi(z) - z Phi(-z)), the unit normal loss function.
    """
    spread = np.maximum(deviation, _TINY)
    place = np.minimum(np.abs(mean) / spread, _REACH) * (_STEPS / _REACH)
    return np.asarray(spread * _LOSS[(place + 0.5).astype(np.intp)])


def loss_of(chosen: Array, mean: Array, deviation: Array) -> Array:
    """E[max(-X s, 0)] of a normal X, s the sign of `chosen`: what a choice that something else led to loses."""
    return np.asarray(expected_loss(mean, deviation) + np.where((mean > 0) != (chosen > 0), np.abs(mean), 0.0))


def scalar_loss(mean: float, deviation: float) -> float:
    """`expected_loss` of one normal, exactly."""
    spread = max(deviation, _TINY)
    z = abs(mean) / spread
    return spread * (math.exp(-z * z / 2) / math.sqrt(2 * math.pi) - z * math.erfc(z / math.sqrt(2)) / 2)


class Measuring:
    """How much one more measurement at each size is expected to lower the regret of the whole cell.

    The knowledge gradient for correlated normal beliefs with two choices (P. Frazier, W. Powell and S. Dayanik, INFORMS
    Journal on Computing 21, 2009): a measurement at size j moves the mean at size i by a normal of deviation
    s_ij = |C_ij| / sqrt(C_jj + noise_j). Choosing by the new sign instead of the old gains s_ij L(|lead_i| / s_ij).

    Args:
        lead: mean of the candidate's lead over the best other choice at each size, in log units.
        covariance: of the leads.
        weights: what each size counts; sizes without weight cost no time.
    """

    def __init__(self, lead: Array, covariance: Array, weights: Array) -> None:
        self._variances = np.diagonal(covariance)
        deviations = np.sqrt(np.maximum(self._variances, 0.0))
        # No measurement moves a mean by more than its own deviation: sizes that are known to be on one side gain
        # nothing.
        rows = np.flatnonzero((weights > 0) & (np.abs(lead) < _SURE * deviations))
        reach = np.abs(covariance[rows])
        self._heights = np.abs(lead[rows])[:, None] / np.maximum(reach, _TINY) * (_STEPS / _REACH)
        reach *= weights[rows][:, None]
        self._reach = reach

    def value(self, noise: Array) -> Array:
        """In log units, of the shape of `noise`.

        Args:
            noise: variance of what would be measured at each size; a row for each alternative.
        """
        gains = np.empty(noise.shape)
        for row, spread in enumerate(np.sqrt(self._variances + noise)):
            # What `expected_loss` looks up, without the arrays that it would need for all alternatives at once.
            places = self._heights * spread
            np.minimum(places, _STEPS - 0.5, out=places)
            places += 0.5
            gains[row] = np.einsum("ij,ij->j", self._reach, _LOSS.take(places.astype(np.intp))) / spread
        return gains


def value_of_telling(share: float, lead: Array, otherwise: Array, weights: Array, noise: Array) -> Array:
    """How much one more measurement at each size is expected to gain by telling which of two curves is true.

    What is measured is normal about the one curve or the other; whoever sees it goes by the one that is expected to
    lose less (the likelihood ratio test with the losses as costs: A. Wald, Statistical Decision Functions (1950)).
    Choices go by `lead` until then, even where to go by the other would be expected to lose less: no more than what
    it loses can be gained, and nothing where the two curves meet. They are told apart as wholes: the choices of one are
    taken or those of the other.

    Args:
        share: how likely the second is.
        lead: the first curve's lead at each size, in log units.
        otherwise: the second's.
        weights: what each size counts.
        noise: variance of what would be measured at each size about either; a row for each alternative.

    Returns:
        In log units, of the shape of `noise`.
    """
    differs = np.where((lead > 0) != (otherwise > 0), weights, 0.0)
    lost = share * float(differs @ np.abs(otherwise))
    lost_by_change = (1 - share) * float(differs @ np.abs(lead))
    least = min(lost, lost_by_change)
    if least <= _TINY:
        return np.zeros(noise.shape)
    spread = np.sqrt(noise)
    apart = np.maximum(np.abs(lead - otherwise), _TINY) / spread
    # From so many deviations of the first curve on towards the second.
    change = apart / 2 + math.log(lost_by_change / lost) / apart
    kept = lost * _below(change - apart) + lost_by_change * _below(-change)
    # Of the lesser loss that part goes which telling saves; the table is rid of that part of what it loses.
    return np.asarray(np.maximum(1 - kept / least, 0.0) * lost)


def _below(z: Array) -> Array:
    """The standard normal's distribution function, to 1e-6."""
    return np.asarray(np.interp(z, _PLACES, _BELOW))


_PLACES = np.linspace(-_REACH, _REACH, 2 * _STEPS + 1)
_BELOW = np.array([math.erfc(-z / math.sqrt(2)) / 2 for z in _PLACES.tolist()])
_LOSS = np.array([scalar_loss(_REACH * step / _STEPS, 1.0) for step in range(_STEPS)] + [0.0])
