"""What a sweep tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import Interval

if TYPE_CHECKING:
    from ccl_dispatch.tuner.plan import Plan
    from ccl_dispatch.tuner.search import Outlook
    from ccl_dispatch.tuner.sweep import SweepOutcome


class Progress(Protocol):
    """Called by the sweep on its own thread, between points."""

    def starting(self, what: str) -> None:
        """First of all: looking at the machine takes seconds, in which nobody should wonder whether anything runs."""

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """The sweep starts, with the points that an earlier run has measured; workers are still to be started."""

    def point(self, trial: int, cell_name: str, size: int) -> None:
        """The point of a trial is about to be measured."""

    def waiting(self, what: str) -> None:
        """Nothing can be measured until others have done something; `what` begins with "for". May come often."""

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """That point was measured and stored; `outlook` is what the search thought before it."""

    def stopped(self, word: str, outlook: Outlook) -> None:
        """Measuring is over, by `searched` or the budget `word`; the table comes next."""

    def end(self, outcome: SweepOutcome | None, problem: BaseException | None) -> None:
        """The sweep is over: with a table, or by a problem (an interruption is one). Comes once, whatever happened."""


class SilentProgress:
    """Says nothing. Watchers override what they tell."""

    def starting(self, what: str) -> None:
        """Nothing."""

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """Nothing."""

    def point(self, trial: int, cell_name: str, size: int) -> None:
        """Nothing."""

    def waiting(self, what: str) -> None:
        """Nothing."""

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """Nothing."""

    def stopped(self, word: str, outlook: Outlook) -> None:
        """Nothing."""

    def end(self, outcome: SweepOutcome | None, problem: BaseException | None) -> None:
        """Nothing."""


class Together(SilentProgress):
    """Several watchers of one sweep."""

    def __init__(self, *watchers: Progress) -> None:
        self._watchers = watchers

    def starting(self, what: str) -> None:
        """See `Progress`."""
        for watcher in self._watchers:
            watcher.starting(what)

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """See `Progress`."""
        for watcher in self._watchers:
            watcher.begin(plan, results)

    def point(self, trial: int, cell_name: str, size: int) -> None:
        """See `Progress`."""
        for watcher in self._watchers:
            watcher.point(trial, cell_name, size)

    def waiting(self, what: str) -> None:
        """See `Progress`."""
        for watcher in self._watchers:
            watcher.waiting(what)

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """See `Progress`."""
        for watcher in self._watchers:
            watcher.measured(result, verdicts, outlook)

    def stopped(self, word: str, outlook: Outlook) -> None:
        """See `Progress`."""
        for watcher in self._watchers:
            watcher.stopped(word, outlook)

    def end(self, outcome: SweepOutcome | None, problem: BaseException | None) -> None:
        """See `Progress`; each is ended, also when another one is interrupted meanwhile."""
        with ExitStack() as stack:
            for watcher in reversed(self._watchers):
                stack.callback(watcher.end, outcome, problem)
