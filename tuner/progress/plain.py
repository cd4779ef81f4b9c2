"""The log of a sweep: a line now and then, with the time of day. For where no terminal is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from ccl_dispatch.runtime.units import counted, short_size
from ccl_dispatch.tuner.progress.base import SilentProgress
from ccl_dispatch.tuner.progress.belief import Beliefs
from ccl_dispatch.tuner.progress.pace import Pace, clock
from ccl_dispatch.tuner.progress.words import how_far, so_far
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import Interval
from ccl_dispatch.tuner.study.dashboard import finding

if TYPE_CHECKING:
    from ccl_dispatch.tuner.plan import Plan
    from ccl_dispatch.tuner.search import Outlook
    from ccl_dispatch.tuner.sweep import SweepOutcome

# A log is read afterwards, not watched: lines come that often, and ever more rarely as a sweep goes on for long.
_LEAST_SECONDS, _MOST_SECONDS, _SHARE = 2.0, 60.0, 1 / 60


class PlainProgress(SilentProgress):
    """One line now and then: which cell and size, what was found, what the table would be now, how far it is.

    What is excluded is told at once, when it comes up in a cell for the first time.
    """

    def __init__(self, stream: TextIO | None = None, *, every: float = _LEAST_SECONDS) -> None:
        self._stream = stream or sys.stderr
        self._every = every
        self._began: float | None = None
        self._last = -math.inf
        self._done = 0
        self._here = 0
        self._baseline = ""
        self._waiting = ""
        self._told: set[tuple[str, str, str]] = set()
        self._beliefs: Beliefs | None = None
        self._pace: Pace | None = None

    def starting(self, what: str) -> None:
        """See `Progress`."""
        self._say(what)

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """See `Progress`."""
        self._done = len(results)
        self._baseline = plan.settings.baseline
        self._pace = Pace(plan, results)
        self._beliefs = Beliefs(plan)
        for result in results:
            self._beliefs.take(result)
        known = f"; {counted(len(results), 'visit')} before" if results else ""
        self._say(
            f"{plan.config.name}: {counted(len(plan.cells), 'cell')}, {' against '.join(plan.settings.backends)}{known}"
        )

    def point(self, trial: int, cell_name: str, size: int) -> None:
        """Only the clock starts, with the first point: the line comes with the result."""
        self._began = time.monotonic() if self._began is None else self._began

    def waiting(self, what: str) -> None:
        """Said once for each thing that is waited for."""
        if what != self._waiting:
            self._waiting = what
            self._say(f"waiting {what}")

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """See `Progress`."""
        now = time.monotonic()
        seconds = now - (self._began or now)
        self._done += 1
        self._here += 1
        if self._pace is None or self._beliefs is None:
            return
        self._pace.take(result, outlook, seconds)
        self._beliefs.take(result)
        excluded = {(result.cell.name, item.backend, item.reason) for item in result.exclusions}
        news = excluded - self._told
        self._told |= news
        due = min(max(self._every, _SHARE * seconds), _MOST_SECONDS) if self._every else 0.0
        if news or now - self._last >= due:
            self._last = now
            found = finding(result, verdicts, self._baseline)
            name, size = result.cell.name, short_size(result.size)
            far = ", ".join(how_far(self._pace, seconds))
            now_used = so_far(self._beliefs.of(name))
            self._say(f"visit {self._done}, {name} at {size}: {found}; so far {now_used} | {far}")
            details = {item.backend: item.detail for item in result.exclusions}
            for _, backend, reason in sorted(news):
                self._say(f"excluded: {backend} in {name} at {size}: {reason}, {details[backend]}")

    def end(self, outcome: SweepOutcome | None, problem: BaseException | None) -> None:
        """See `Progress`."""
        if self._here:
            took = clock(time.monotonic() - self._began) if self._began is not None else "0:00"
            self._say(f"{counted(self._here, 'visit')} in {took}, {self._done} in the study")

    def _say(self, line: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {line}", file=self._stream, flush=True)
