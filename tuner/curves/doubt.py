"""What is believed of a point before it is visited, so that a visit can end when it cannot matter any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ccl_dispatch.tuner.curves.value import scalar_loss
from ccl_dispatch.tuner.statistics import median

# A difference of two samples scatters by the root of 2 as much as one; 3.2 of that happen by chance once in 700 times.
_CONTRADICTION = 3.2 * 2**0.5


class Doubt(NamedTuple):
    """What the other points say of one candidate at a point that is to be measured: a normal belief in log units.

    Repetitions may end once what is still expected to be lost by a wrong choice here is below `least`; and where the
    only two samples of a visit contradict each other one more is taken, since one of them is an outlier.

    Attributes:
        offset: log-ratio at which the candidate and the best other choice are worth the same.
        mean, variance: of the candidate's lead over that.
        scale: standard deviation of one repetition.
        least: in log units; below 0 repetitions do not end early.
        firsts: the first warm-up call counts as a sample.
    """

    offset: float
    mean: float
    variance: float
    scale: float
    least: float
    firsts: bool

    def settled(self, log_ratios: Sequence[float]) -> bool:
        """Whether with these repetitions too little is left to lose."""
        precision = 1 / max(self.variance, 1e-12) + len(log_ratios) / self.scale**2
        middle = median(log_ratios) - self.offset
        mean = (self.mean / max(self.variance, 1e-12) + len(log_ratios) * middle / self.scale**2) / precision
        return scalar_loss(mean, precision**-0.5) <= self.least

    def contradicted(self, first: float | None, log_ratios: Sequence[float]) -> bool:
        """Whether the visit has two samples, and they differ by more than noise does."""
        values = [*log_ratios, *([first] if self.firsts and first is not None else [])]
        return len(values) == 2 and abs(values[0] - values[1]) > _CONTRADICTION * self.scale
