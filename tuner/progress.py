"""What a sweep tells while it runs: a live picture on a terminal, plain lines elsewhere. Always to standard error."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

from ccl_dispatch.runtime.units import approx_size
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import Interval

if TYPE_CHECKING:
    from ccl_dispatch.tuner.plan import Plan
    from ccl_dispatch.tuner.search import Outlook

# Plain lines come at most that often: a log is read afterwards, not watched.
_LINE_SECONDS = 2.0


class Progress(Protocol):
    """Called by the sweep, on its own thread, between points."""

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """The sweep starts, with the points that an earlier run has measured."""

    def point(self, cell_name: str, size: int) -> None:
        """A point is about to be measured."""

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """A point was measured and stored; `outlook` is what the search thought before it."""

    def end(self) -> None:
        """The table is written."""


class SilentProgress:
    """Says nothing."""

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """Nothing."""

    def point(self, cell_name: str, size: int) -> None:
        """Nothing."""

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class _Counting:
    """What both pictures show: points done, what may be left to win, and the latest finding per cell."""

    def __init__(self) -> None:
        self.done = 0
        self.here = 0
        self.outlook: Outlook | None = None
        self.wanted: float | None = None
        self.seconds: float | None = None
        self.began: float | None = None
        self.threshold = 0.0
        self.baseline = ""
        self.cells: dict[str, dict[int, str]] = {}

    def start(self, plan: Plan, results: list[PointResult]) -> None:
        self.done = len(results)
        self.threshold = plan.settings.rule.threshold
        self.baseline = plan.settings.baseline
        self.wanted = plan.config.budget.regret
        if plan.config.budget.seconds is not None and plan.config.replay is None:
            self.seconds = plan.config.budget.seconds - math.fsum(result.wall_seconds for result in results)
        self.cells = {name: {} for name in plan.cells}

    def go(self) -> None:
        """A point is about to be measured; the first one starts the clock, when workers have been started."""
        self.began = time.monotonic() if self.began is None else self.began

    def take(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> str:
        """Count the point and say what it showed."""
        self.done += 1
        self.here += 1
        self.outlook = outlook
        best = max(verdicts, key=lambda name: verdicts[name].median, default="")
        wins = bool(best) and verdicts[best].median > self.threshold
        self.cells.setdefault(result.cell.name, {})[result.size] = best if wins else self.baseline
        if not best:
            return "; ".join(f"{item.backend} excluded: {item.reason}" for item in result.exclusions) or "nothing timed"
        found = verdicts[best]
        factor = math.exp(abs(found.median))
        return f"{best} {factor:.2f}x {'faster' if found.median >= 0 else 'slower'} than {self.baseline}"

    def left(self) -> str:
        """How far the search is, and the time left as far as it is known."""
        parts = []
        if self.outlook is not None and self.outlook.first_look > 1:
            parts.append(f"first look, {self.outlook.first_look - 1} points of it to come")
        elif self.outlook is not None and math.isfinite(self.outlook.regret):
            wanted = f" (wanted {self.wanted:.2%})" if self.wanted is not None else ""
            parts.append(f"{self.outlook.regret:.2%} may be left to win{wanted}")
        if self.seconds is not None and self.began is not None:
            left = max(0.0, self.seconds - (time.monotonic() - self.began))
            parts.append(f"at most {left:.0f} s left" if left < 90 else f"at most {left / 60:.0f} min left")
        return ", ".join(parts) or "starting"


class PlainProgress:
    """One line now and then: which cell and size, what was found, how far it is."""

    def __init__(self, stream: TextIO | None = None, *, every: float = _LINE_SECONDS) -> None:
        self._stream = stream or sys.stderr
        self._every = every
        self._last = -math.inf
        self._counting = _Counting()

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """See `Progress`."""
        self._counting.start(plan, results)
        known = f"; points measured before: {len(results)}" if results else ""
        self._say(f"{plan.config.name}: {len(plan.cells)} cells, {' against '.join(plan.settings.backends)}{known}")

    def point(self, cell_name: str, size: int) -> None:
        """Only the clock starts: the line comes with the result."""
        self._counting.go()

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """See `Progress`."""
        found = self._counting.take(result, verdicts, outlook)
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._say(
                f"[{self._counting.done}] {result.cell.name} {approx_size(result.size)}: {found}; "
                f"{self._counting.left()}"
            )

    def end(self) -> None:
        """See `Progress`."""
        if self._counting.here:
            self._say(f"{self._counting.done} points in the study")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class LiveProgress:
    """A picture that stays in place: one row of bands per cell, forming as points come in."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
        self._counting = _Counting()
        self._now = ""
        self._last = ""

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """See `Progress`."""
        self._counting.start(plan, results)
        self._now = "starting workers"
        self._live.start()
        self._draw()

    def point(self, cell_name: str, size: int) -> None:
        """See `Progress`."""
        self._counting.go()
        self._now = f"{cell_name} at {approx_size(size)}"
        self._draw()

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """See `Progress`."""
        self._last = self._counting.take(result, verdicts, outlook)
        self._draw()

    def end(self) -> None:
        """See `Progress`."""
        self._live.stop()

    def _draw(self) -> None:
        from rich.table import Table
        from rich.text import Text

        counting = self._counting
        grid = Table(title=f"{counting.done} points, {counting.left()}; now {self._now}", caption=self._last, box=None)
        grid.add_column("cell")
        grid.add_column(f"by size; green: a candidate wins, grey: {counting.baseline}")
        for name, points in counting.cells.items():
            marks = Text()
            for size in sorted(points):
                marks.append("█", "bright_black" if points[size] == counting.baseline else "green")
            grid.add_row(name, marks)
        self._live.update(grid)


def choose_progress(*, quiet: bool) -> Progress:
    """The picture that fits where standard error goes."""
    if quiet:
        return SilentProgress()
    return LiveProgress() if sys.stderr.isatty() else PlainProgress()
