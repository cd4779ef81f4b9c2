"""How long a sweep may still take: by its budgets, and by how fast what is left to win has been falling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ccl_dispatch.tuner.plan import Plan
    from ccl_dispatch.tuner.samples import PointResult
    from ccl_dispatch.tuner.search import Outlook

# Fewer points than that tell no pace; of more the latter part does, since the first ones win the most.
_LEAST_POINTS = 8
_LATTER_PART = 0.6
# The slope must be so many times its standard error: what falls by chance foretells nothing.
_CLEAR = 4.0


class TimeLeft(NamedTuple):
    """Seconds that are left; None what is not known.

    Attributes:
        about: until what is left to win meets the regret budget, at the pace of late; or to the end of the first look.
        at_most: until a budget of seconds or executions is spent.
        halving: in which what is left to win has halved of late.
    """

    about: float | None = None
    at_most: float | None = None
    halving: float | None = None


class Pace:
    """Seconds are those of a clock that starts with the first point here."""

    def __init__(self, plan: Plan, results: Sequence[PointResult]) -> None:
        budget = plan.config.budget
        self.wanted = budget.regret
        self.looked = 0
        self.to_look = 0
        self.regret = math.inf
        self._virtual = plan.config.replay is not None
        self._seconds_left = budget.seconds
        self._executions_left: float | None = budget.executions
        self._executions = 0
        self._virtual_spent = 0.0
        spent = math.fsum(result.wall_seconds for result in results)
        if self._seconds_left is not None:
            self._seconds_left -= spent
        if self._executions_left is not None:
            self._executions_left -= sum(sum(result.executions.values()) for result in results)
        self._points = 0
        self._history: list[tuple[float, float]] = []

    def take(self, result: PointResult, outlook: Outlook, seconds: float) -> None:
        """One more point, at `seconds`; the outlook is the one before it."""
        self._points += 1
        self._executions += sum(result.executions.values())
        self._virtual_spent += result.wall_seconds
        self.to_look = max(outlook.first_look - 1, 0)
        self.looked += outlook.first_look > 0
        self.regret = outlook.regret
        if math.isfinite(outlook.regret) and outlook.regret > 0:
            self._history.append((seconds, math.log(outlook.regret)))

    def left(self, seconds: float) -> TimeLeft:
        """What is left at `seconds`."""
        if self.to_look:
            each = seconds / max(self._points, 1)
            return TimeLeft(each * self.to_look if self._points else None, self._at_most(seconds))
        fall = self._fall()
        if fall is None:
            return TimeLeft(None, self._at_most(seconds))
        about = None
        if self.wanted and math.isfinite(self.regret):
            about = max(math.log(max(self.regret, 1e-12) / self.wanted), 0.0) / fall
        at_most = self._at_most(seconds)
        if about is not None and at_most is not None and about > at_most:
            about = None
        return TimeLeft(about, at_most, math.log(2) / fall)

    def _at_most(self, seconds: float) -> float | None:
        ends = []
        if self._seconds_left is not None:
            if not self._virtual:
                ends.append(self._seconds_left - seconds)
            elif self._virtual_spent > 0:
                # A replay's budget is of its own clock, which runs so many times faster.
                ends.append((self._seconds_left - self._virtual_spent) * seconds / self._virtual_spent)
        if self._executions_left is not None and self._executions:
            ends.append((self._executions_left - self._executions) * seconds / self._executions)
        return max(min(ends), 0.0) if ends else None

    def _fall(self) -> float | None:
        """By how many log units a second what is left to win has fallen of late; None where that is not clear."""
        late = self._history[-max(int(_LATTER_PART * len(self._history)), _LEAST_POINTS) :]
        if len(late) < _LEAST_POINTS:
            return None
        times, logs = np.array(late).T
        away = times - times.mean()
        square = float(away @ away)
        if square <= 0:
            return None
        slope = float(away @ logs) / square
        rest = logs - logs.mean() - slope * away
        error = math.sqrt(float(rest @ rest) / (len(late) - 2) / square)
        return -slope if slope < -_CLEAR * error and slope < 0 else None


def clock(seconds: float) -> str:
    """A duration as people read it: `0:07`, `12:30`, `3:05:00`."""
    whole = round(max(seconds, 0.0))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
