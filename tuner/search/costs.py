"""What a visit of a point will cost: learned from the visits so far, in executions and in seconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.search.base import Observation, Visit

Array = NDArray[np.float64]

# What one repetition, and a visit beside its repetitions, are taken to cost before anything was measured.
_REPEAT_SECONDS = 1e-4
_VISIT_SECONDS = 1e-3
# From so many repetitions on a visit is long: it may end early, and its warm-up is a small part of it.
LONG_VISIT = 8
# By so much a latency may be too small, when what lies beyond is told from how it grew.
_MARGIN = 0.1
# So many visits tell what one costs beside its repetitions.
_FEW = 15


@dataclass(frozen=True)
class Budget:
    """What may be spent in all; None sets no limit.

    Attributes:
        executions: runs of the collective, all backends together, warm-up and checks included.
        seconds: of machine time.
        regret: mean over cells of what may be left to win, in log units; below it the search ends.
        fixed_executions: of one visit, whatever its repetitions: checks and warm-up, all backends together.
        warm_up_executions: the warm-up's part of that.
        repeat_executions: of one repetition, before any was seen: one for each backend.
    """

    executions: float | None = None
    seconds: float | None = None
    regret: float | None = None
    fixed_executions: int = 2
    warm_up_executions: int = 2
    repeat_executions: int = 2

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing: no limit, nor what is enough."""
        return self.executions is None and self.seconds is None and self.regret is None


class CostModel:
    """The cost of a visit in one cell by size, from the visits of that cell, or of all cells where it has none.

    Args:
        warm_up: of visits with a warm-up, or of those that have one only if they are long.
    """

    def __init__(
        self, budget: Budget, mine: Sequence[Observation], everyone: Sequence[Observation], *, warm_up: bool = True
    ) -> None:
        self._budget = budget
        # Another cell's curve is a better guess than none.
        timed = _timed(mine) or _timed(everyone)
        by_size: dict[int, list[float]] = {}
        for size, visit in timed:
            by_size.setdefault(size, []).append(visit.repeat_seconds)
        sizes = sorted(by_size)
        self._x = np.log2(np.asarray(sizes, dtype=float))
        self._log_seconds = np.log(np.maximum([median(by_size[size]) for size in sizes], 1e-9))
        self._growth = _growth(self._x, self._log_seconds)
        per_repeat = [visit.repeat_executions for _, visit in timed]
        self._repeat_executions = float(median(per_repeat)) if per_repeat else float(budget.repeat_executions)
        warmed = _warmed(mine) or _warmed(everyone)
        fixed = [visit.executions - visit.repeats * visit.repeat_executions for visit in warmed]
        self._fixed_executions = float(median(fixed)) if fixed else float(budget.fixed_executions)
        # What a visit without a warm-up saves.
        self._spared_executions = 0.0 if warm_up else min(self._fixed_executions, budget.warm_up_executions)
        extra = [
            visit.seconds - visit.executions / max(self._repeat_executions, 1.0) * visit.repeat_seconds
            for _, visit in timed
        ]
        self._visit_seconds = max(median(extra), 0.0) if extra else _VISIT_SECONDS

    def executions(self, repeats: Array) -> Array:
        """Executions of a visit of so many repetitions."""
        spared = np.where(repeats >= LONG_VISIT, 0.0, self._spared_executions)
        return np.asarray(self._fixed_executions - spared + repeats * self._repeat_executions)

    def seconds(self, x: Array, repeats: Array) -> Array:
        """Seconds of a visit at log2 sizes `x` (columns) with so many repetitions (rows)."""
        known = len(self._x) > 0
        each = np.exp(np.interp(x, self._x, self._log_seconds)) if known else np.full(len(x), _REPEAT_SECONDS)
        if known:
            # Beyond the largest size so far time may grow with the bytes: a visit must not take what is not there.
            each = each * (1 + self._growth * (np.exp2(np.maximum(x - self._x[-1], 0.0)) - 1))
        # Warm-up and checks run the collective as well: as long as so many repetitions. The rest is book-keeping.
        runs = self.executions(repeats) / max(self._repeat_executions, 1.0)
        return np.asarray(self._visit_seconds + runs[:, None] * each[None, :])

    def shares(self, x: Array, repeats: Array) -> Array:
        """The part of the whole budget that a visit takes: of executions and of seconds, added up.

        Where neither is limited it is seconds alone, whatever their scale.
        """
        budget = self._budget
        total = np.zeros((len(repeats), len(x)))
        if budget.executions is not None:
            total += self.executions(repeats)[:, None] / budget.executions
        if budget.seconds is not None or budget.executions is None:
            total += self.seconds(x, repeats) / (budget.seconds or 1.0)
        return total


def _growth(x: Array, log_seconds: Array) -> float:
    """The part of the largest size's time that grows with the bytes from there on, where time is latency + bytes /
    bandwidth: at most what the growth up to there and the margin allow, all of it where nothing tells.
    """
    before = np.flatnonzero(x <= x[-1] - 1) if len(x) else x
    if not len(before):
        return 1.0
    last = int(before[-1])
    slower = 1 + _MARGIN - math.exp(float(log_seconds[last] - log_seconds[-1]))
    return min(max(slower / (1 - 2 ** float(x[last] - x[-1])), 0.0), 1.0)


def _timed(observations: Sequence[Observation]) -> list[tuple[int, Visit]]:
    """Size and cost of the visits that timed something."""
    return [(o.size, o.visit) for o in observations if o.visit is not None and o.visit.repeats]


def _warmed(observations: Sequence[Observation]) -> list[Visit]:
    """The last few visits that timed something after a warm-up: checks and warm-up cost about the same each time."""
    found = (
        o.visit
        for o in reversed(observations)
        if o.visit is not None and o.visit.repeats and (not o.samples or _had_warm_up(o))
    )
    return list(itertools.islice(found, _FEW))


def _had_warm_up(observation: Observation) -> bool:
    return any(samples.firsts for samples in observation.samples.values())
