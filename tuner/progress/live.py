"""A picture that stays in place: the bands of every cell as they form.

It is drawn by the sweep's own thread between points, never while ranks measure, at most four times a second, and more
rarely where drawing would take more than 3 % of the time. So it shows the clock as of the latest point.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ccl_dispatch.runtime.units import counted, short_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.interrupts import uninterrupted
from ccl_dispatch.tuner.progress.bar import Axis, Ink, row
from ccl_dispatch.tuner.progress.base import SilentProgress
from ccl_dispatch.tuner.progress.belief import Beliefs, unknown
from ccl_dispatch.tuner.progress.pace import Pace, clock
from ccl_dispatch.tuner.progress.words import how_far
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import Interval
from ccl_dispatch.tuner.study.dashboard import finding

if TYPE_CHECKING:
    from ccl_dispatch.tuner.plan import Plan
    from ccl_dispatch.tuner.search import Outlook
    from ccl_dispatch.tuner.sweep import SweepOutcome

# Seconds between two drawings at least, the share of the time that they may take, and how long one may work on curves.
_EVERY, _SHARE, _WORK = 0.25, 0.03, 0.02
_WORK_AT_FIRST = 0.5
# Lines beside the cells' own: title, how far, ruler, hidden cells, legend, now, last, and one to spare.
_FRAME = 8
_LEAST_BAR = 16


class LiveProgress(SilentProgress):
    """The picture. Its lines are never longer than the terminal is wide, nor more than it has."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        # No thread of its own: see the module.
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self._plain = sys.stderr
        self._handlers: list[logging.StreamHandler[TextIO]] = []
        self._scene: _Scene | None = None
        self._next = -math.inf

    def starting(self, what: str) -> None:
        """A line of its own, above the picture."""
        print(what, file=self._console.file, flush=True)

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """See `Progress`."""
        coloured = self._console.color_system is not None and not self._console.no_color
        unicode = self._console.encoding.lower().replace("-", "").startswith("utf")
        self._scene = _Scene(plan, results, coloured=coloured and unicode)
        # Torn in two it leaves a half-made stand-in for standard error, of which Python 3.13 tells by a traceback.
        uninterrupted(self._live.start)
        # What is logged meanwhile goes above the picture, through rich's stand-in for standard error.
        self._handlers = [
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._plain
        ]
        for handler in self._handlers:
            handler.setStream(sys.stderr)
        self._draw(work=_WORK_AT_FIRST)

    def point(self, trial: int, cell_name: str, size: int) -> None:
        """See `Progress`."""
        if self._scene is not None:
            self._scene.point(cell_name, size)
            self._draw()

    def waiting(self, what: str) -> None:
        """See `Progress`."""
        if self._scene is not None:
            self._scene.waiting(what)
            self._draw()

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """Only taken down: the next point comes at once, and is drawn with it."""
        if self._scene is not None:
            self._scene.measured(result, verdicts, outlook)

    def stopped(self, word: str, outlook: Outlook) -> None:
        """See `Progress`."""
        if self._scene is not None:
            self._scene.stopped(outlook)
            self._draw(work=_WORK_AT_FIRST)

    def end(self, outcome: SweepOutcome | None, problem: BaseException | None) -> None:
        """The picture stays as it was at the end."""
        try:
            if self._scene is not None:
                self._scene.ended(outcome, problem)
                # Who interrupts does not wait for curves.
                self._draw(work=_WORK if isinstance(problem, KeyboardInterrupt) else _WORK_AT_FIRST)
        finally:
            # Also when a second Ctrl-C comes meanwhile: it is `stop` that gives the terminal its cursor back.
            try:
                self._live.stop()
            except IndexError:
                # The second one came in the midst of `start`, of which rich takes back more than had been done.
                self._console.show_cursor(show=True)
            for handler in self._handlers:
                handler.setStream(self._plain)
            self._handlers = []

    def _draw(self, work: float = 0.0) -> None:
        began = time.monotonic()
        if self._scene is None or (not work and began < self._next):
            return
        self._live.update(Group(*self._scene.lines(*self._console.size, work or _WORK)), refresh=True)
        self._next = began + max(_EVERY, (time.monotonic() - began) / _SHARE)


class _Scene:
    """What is in the picture, and its lines."""

    def __init__(self, plan: Plan, results: Sequence[PointResult], *, coloured: bool) -> None:
        self._plan = plan
        self._beliefs = Beliefs(plan)
        self._pace = Pace(plan, results)
        self._ink = Ink(plan.settings.backends, coloured=coloured)
        self._measured: dict[str, dict[int, bool]] = {name: {} for name in plan.cells}
        self._visited: dict[str, int] = {}
        self._excluded: set[tuple[str, int, str, str]] = set()
        self._done = 0
        self._began: float | None = None
        self._last = ""
        self._left = ""
        self.state = "starting workers"
        self.rest: list[str] = []
        self.now: tuple[str, int, str] | None = None
        for result in results:
            self._take(result)
        self._labels = cell_labels(list(plan.cells.values()))

    def point(self, cell_name: str, size: int) -> None:
        """A point is about to be measured; the first one starts the clock."""
        self._began = time.monotonic() if self._began is None else self._began
        self.state = ""
        self.now = (cell_name, size, time.strftime("%H:%M:%S"))

    def waiting(self, what: str) -> None:
        """Others have to do something first."""
        self.now = None
        self.state = f"waiting {what}"

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """Take it down."""
        self._pace.take(result, outlook, self._seconds())
        self._take(result)
        found = finding(result, verdicts, self._ink.names[0])
        self._last = f"{self._labels.get(result.cell.name, '')} at {short_size(result.size)}: {found}"

    def stopped(self, outlook: Outlook) -> None:
        """Nothing is measured any more."""
        self.now = None
        self.state = "writing the table"
        self._left = f"measuring more may win {outlook.regret:.2%}" if math.isfinite(outlook.regret) else ""

    def ended(self, outcome: SweepOutcome | None, problem: BaseException | None) -> None:
        """It is over."""
        self.now = None
        if outcome is not None:
            if outcome.stopped_by == "regret":
                why = [self._left or "measuring more may win little", "as little as was wanted"]
            else:
                spent = f"the budget of {outcome.stopped_by} is spent"
                why = ["nothing is worth measuring" if outcome.stopped_by == "searched" else spent, self._left]
            self.state = f"done: {why[0]}"
            self.rest = [text for text in why[1:] if text]
        else:
            self.state = "interrupted" if isinstance(problem, KeyboardInterrupt) else "failed"

    def _take(self, result: PointResult) -> None:
        self._done += 1
        self._beliefs.take(result)
        sizes = self._measured.setdefault(result.cell.name, {})
        # A point counts once, however often it is visited.
        self._excluded.update((result.cell.name, result.size, item.backend, item.reason) for item in result.exclusions)
        sizes[result.size] = sizes.get(result.size, False) or bool(result.exclusions)
        self._visited[result.cell.name] = self._done

    def _seconds(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def lines(self, width: int, height: int, work: float) -> list[Text]:
        """The whole picture; works on curves of cells with new points for at most about `work` seconds."""
        shown = self._shown(max(height - _FRAME - bool(self._excluded), 1))
        until = time.monotonic() + work
        for name in self._to_work_out(shown):
            self._beliefs.of(name)
            if time.monotonic() > until:
                break
        name_width = max(len(self._labels[name]) for name in shown)
        tail = width - name_width - 2 - 2
        with_points = tail - 15 >= _LEAST_BAR
        axis = Axis(self._plan.space.sizes[0], self._plan.space.sizes[-1], max(tail - (15 if with_points else 0), 4))
        gap = " " * (name_width + 2)
        ruler = axis.ruler("╷" if self._ink.coloured else "|")
        found = [
            Text(self._title(width), "bold"),
            Text(_fitted([self.state, *self.rest] if self.state else how_far(self._pace, self._seconds()), width)),
            Text(f"{gap}{ruler}" + ("  sizes   left" if with_points else ""), "bright_black"),
        ]
        found += [self._row(name, name_width, axis, with_points=with_points) for name in shown]
        found += self._foot(width, [name for name in self._plan.cells if name not in shown])
        for line in found:
            line.no_wrap, line.overflow = True, "crop"
            line.truncate(width)
        return found[:height]

    def _to_work_out(self, shown: Sequence[str]) -> list[str]:
        """Cells whose curves are behind: those that were never drawn first, then the latest visited."""
        behind = [name for name in dict.fromkeys((*shown, *self._plan.cells)) if self._beliefs.stale(name)]
        return sorted(behind, key=lambda name: (self._beliefs.known(name) is not None, -self._visited.get(name, 0)))

    def _title(self, width: int) -> str:
        baseline, *candidates = self._ink.names
        seconds = self._seconds()
        parts = [
            f"{self._plan.config.name}: {' or '.join(candidates)} instead of {baseline}",
            counted(self._done, "visit"),
        ]
        if self._began is not None:
            parts.append(f"{clock(seconds)} so far")
        if self._plan.config.replay is not None:
            parts.append("replayed, not measured")
        return _fitted(parts, width)

    def _row(self, name: str, name_width: int, axis: Axis, *, with_points: bool) -> Text:
        belief = self._beliefs.known(name) or unknown(self._plan.space.grid[name])
        now = self.now[1] if self.now is not None and self.now[0] == name else None
        line = Text(f"{self._labels[name]:<{name_width}}  ", "bold" if now is not None else "")
        for mark in row(axis, self._ink, belief, self._measured[name], now):
            line.append(mark.char, mark.style)
        if with_points:
            left = f"{belief.regret:.2%}" if math.isfinite(belief.regret) else "?"
            line.append(f"  {len(self._measured[name]):>5} {left:>7}", "bright_black")
        return line

    def _foot(self, width: int, hidden: Sequence[str]) -> Iterable[Text]:
        if hidden:
            unseen = sum(not self._measured[name] for name in hidden)
            regrets = [known.regret for name in hidden if (known := self._beliefs.known(name)) is not None]
            finite = [value for value in regrets if math.isfinite(value)]
            parts = [f"and {counted(len(hidden), 'cell')} more"]
            parts += [f"{unseen} of them without a point"] if unseen else []
            parts += [f"at most {max(finite):.2%} left in one"] if finite else []
            yield Text(_fitted(parts, width), "bright_black")
        else:
            yield Text("")
        legend = Text()
        for text, style in self._ink.legend():
            if len(legend) + len(text) + 3 > width:
                break
            legend.append("   " if legend.plain else "").append(text, style)
        yield legend
        if self._excluded:
            yield Text(
                _fitted(
                    [f"excluded: {name} at {counted(count, 'point')} ({why})" for (name, why), count in self._list()],
                    width,
                ),
                "bold",
            )
        if self.now is not None:
            yield Text(f"now:  {self._labels[self.now[0]]} at {short_size(self.now[1])}, since {self.now[2]}")
        else:
            yield Text("")
        yield Text(f"last: {self._last}" if self._last else "")

    def _list(self) -> list[tuple[tuple[str, str], int]]:
        return Counter((name, why) for _, _, name, why in sorted(self._excluded)).most_common()

    def _shown(self, rows: int) -> list[str]:
        """The cells that there is room for, in the plan's order: those at work, and those most in doubt."""
        names = list(self._plan.cells)
        if len(names) <= rows:
            return names
        at_work = sorted(self._visited, key=lambda name: -self._visited[name])
        first = [self.now[0]] if self.now is not None else []
        first += [name for name in at_work if name in self._measured][: max(rows // 2, 1)]

        def doubt(name: str) -> float:
            known = self._beliefs.known(name)
            return -known.regret if known is not None and math.isfinite(known.regret) else 0.0

        chosen = list(dict.fromkeys([*first, *sorted(names, key=doubt)]))[:rows]
        return [name for name in names if name in set(chosen)]


def cell_labels(cells: Sequence[Cell]) -> dict[str, str]:
    """A short name for each cell: the parts in which cells differ, and dtype and world size in any case."""
    varied = [len({getattr(cell, part) for cell in cells}) > 1 for part in ("collective", "mode", "dim")]
    labels = {}
    for cell in cells:
        head = [text for text, several in zip(cell[:3], varied, strict=True) if several]
        labels[cell.name] = " ".join([*head, cell.dtype, f"ws{cell.world_size}"])
    return labels


def _fitted(parts: Sequence[str], width: int) -> str:
    """As many of the parts, from the first on, as fit into the width; the first in any case."""
    text = parts[0]
    for part in parts[1:]:
        if len(text) + 2 + len(part) <= width:
            text += f", {part}"
    return text
