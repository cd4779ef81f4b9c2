"""The figures of a report, drawn with matplotlib: the overview, one for each cell, how it went and where time went.

Colours are Okabe and Ito's, which the colour-blind tell apart; every backend also has a marker and a hatching of its
own, so that nothing is lost in black and white. Ink and lines have colours of their own, for which the page puts those
of its theme.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import gain_text, short_size
from ccl_dispatch.tuner.palette import COLOURS as _COLOURS
from ccl_dispatch.tuner.palette import colour_of
from ccl_dispatch.tuner.report.model import CellReport, Report

INK, FAINT = "#1b1f24", "#c9ced6"
_MARKERS = "os^Dvp"
# Lines alone: a hatching of dots is thousands of curves in an SVG.
_HATCHES = ("", "////", "||||", "xxxx", "\\\\\\\\", "++++")

# Of a cell's figure, in shares of it: room for six digits, and axes that lie below each other from cell to cell. A
# layout that is worked out from the texts takes as long as all the drawing.
_MARGINS = {"left": 0.08, "right": 0.97, "bottom": 0.11, "top": 0.985, "hspace": 0.07}
_BELOW_TITLE = 0.93

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
}


class Look:
    """Which colour, marker and hatching each backend of a table has."""

    def __init__(self, table: Table) -> None:
        names = (table.baseline, *table.candidates)
        self._place = {name: index for index, name in enumerate(names)}
        self.names = names

    def colour(self, name: str) -> str:
        """The backend's colour, as `#rrggbb`."""
        return colour_of(self.names, name)

    def marker(self, name: str) -> str:
        """The marker of its points."""
        return _MARKERS[self._place[name] % len(_MARKERS)]

    def hatch(self, name: str) -> str:
        """The hatching of its bands."""
        return _HATCHES[self._place[name] % len(_HATCHES)]


def overview(report: Report) -> Figure:
    """Cell by size: which backend is used where, with its gain where there is room."""
    table = report.table
    look = Look(table)
    count = max(len(table.cells), 1)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 0.9 + 0.26 * count), layout="constrained")
        axis = figure.subplots()
        low, high = _range(report.cells)
        for row, cell in enumerate(table.cells):
            start = cell.measured_from
            for band in cell.bands:
                colour, hatch = look.colour(band.use), look.hatch(band.use)
                axis.barh(
                    row, band.up_to - start, left=start, height=0.8, fc=colour, alpha=0.55, hatch=hatch, ec=INK, lw=0
                )
                if band.use != table.baseline and band.gain is not None and band.up_to / start >= 8:
                    middle = (start * band.up_to) ** 0.5
                    axis.text(middle, row, gain_text(band.gain), ha="center", va="center", fontsize=8, weight="bold")
                start = band.up_to
        _sizes_axis(axis, low, high)
        axis.set_yticks(range(len(table.cells)), [cell.cell.name for cell in table.cells])
        axis.set_ylim(count - 0.5, -0.5)
        axis.tick_params(length=0)
        axis.set_xlabel("per-rank input")
        patches = [
            Patch(fc=look.colour(name), alpha=0.55, hatch=look.hatch(name), ec=INK, lw=0, label=name)
            for name in look.names
        ]
        figure.legend(handles=patches, loc="outside upper right", ncols=len(patches))
    return figure


def cell_figure(report: Report, cell: CellReport) -> Figure:
    """Latencies with quartiles above; below, how many times faster each candidate is, with the tie band."""
    look = Look(report.table)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 4.6))
        figure.subplots_adjust(**_MARGINS)
        above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        for axis in (above, below):
            _ground(axis, cell, look)
        for name, points in cell.latencies.items():
            _curve(axis=above, look=look, name=name, points=[(p.size, p.low, p.median, p.high) for p in points])
        above.set_yscale("log")
        above.set_ylabel("latency, µs")
        _log_ticks(above, "{:g}")
        above.legend(loc="upper left", ncols=len(cell.latencies))
        gain = report.table.policy.min_gain
        below.axhspan(1 / (1 + gain), 1 + gain, color=FAINT, alpha=0.6, lw=0)
        below.axhline(1, color=INK, lw=0.6)
        limits = _ratio_limits(cell, gain)
        for name, ratios in cell.ratios.items():
            clipped = [(r.size, max(r.low, limits[0]), r.median, min(r.high, limits[1])) for r in ratios]
            _curve(axis=below, look=look, name=name, points=clipped)
        below.set_yscale("log")
        below.set_ylim(*limits)
        _log_ticks(below, "{:g}x")
        below.set_ylabel(f"faster than {report.table.baseline}")
        below.set_xlabel("per-rank input")
        for item in cell.table.exclusions:
            below.plot([item.low, item.high], [limits[0] * 1.02] * 2, "x-", color=look.colour(item.backend), lw=1, ms=5)
        _sizes_axis(below, cell.table.measured_from, cell.table.measured_to)
    return figure


def progress_figure(report: Report) -> Figure:
    """How the answer came about: estimated regret and what still decided otherwise, over the time spent."""
    known = [(item.seconds, 100 * item.regret) for item in report.progress if item.regret is not None]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        # Titles rather than labels at the side, which is shorter than what they say.
        left.set_title("estimated regret, %", loc="left")
        right.set_title("decided otherwise than at the end, % of octaves", loc="left")
        if len(known) > 1:
            _way(left, known, 0, "o-")
            # Noise below a tenth of a per cent is not worth the whole height.
            left.set_ylim(0, max(0.1, 1.1 * max(value for _, value in known)))
            if known[0][0] > report.progress[0].seconds:
                left.axvspan(0, known[0][0], facecolor=FAINT, alpha=0.35, lw=0)
            # Where there is room; the page says it as well.
            if known[0][0] > 0.45 * report.progress[-1].seconds:
                told = "no estimate before every cell\nwas measured from end to end"
                left.text(0.02, 0.94, told, transform=left.transAxes, va="top", fontsize=8)
        else:
            left.set_axis_off()
            told = f"{known[0][1]:.2g} % at the end." if known else "None: no candidate was compared."
            before = "\nBefore, not every cell had been measured from end to end." if known else ""
            left.text(0.0, 0.5, told + before, transform=left.transAxes, va="center")
        _way(right, [(item.seconds, 100 * item.differing) for item in report.progress], 1, "s-")
        right.set_ylim(bottom=0)
        for axis in (left, right):
            axis.set_xlabel("seconds of measuring")
            axis.set_xlim(0, report.progress[-1].seconds)
            axis.grid(visible=True)
    return figure


def _way(axis: Axes, points: Sequence[tuple[float, float]], colour: int, form: str) -> None:
    axis.plot(
        [at for at, _ in points], [value for _, value in points], form, color=_COLOURS[colour], ms=4, clip_on=False
    )


def time_figure(report: Report) -> Figure:
    """Seconds of each cell, in collectives and around them."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 0.9 + 0.22 * max(len(report.cells), 1)), layout="constrained")
        axis = figure.subplots()
        rows = range(len(report.cells))
        inside = [cell.collective_seconds for cell in report.cells]
        around = [cell.other_seconds for cell in report.cells]
        axis.barh(rows, inside, height=0.7, color=_COLOURS[0], label="in collectives")
        axis.barh(rows, around, left=inside, height=0.7, color=FAINT, hatch="///", ec=INK, lw=0, label="around them")
        axis.set_yticks(rows, [cell.table.cell.name for cell in report.cells])
        axis.invert_yaxis()
        axis.tick_params(length=0)
        axis.set_xlabel("seconds")
        figure.legend(loc="outside upper right", ncols=2)
    return figure


def figures(report: Report) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name: `overview`, `progress`, `time`, and each cell's with `-` for `/`.

    One after the other, since each takes megabytes until it is let go.
    """
    yield "overview", overview(report)
    if any(cell.collective_seconds or cell.other_seconds for cell in report.cells):
        yield "progress", progress_figure(report)
        yield "time", time_figure(report)
    for cell in report.cells:
        yield cell.table.cell.name.replace("/", "-"), cell_figure(report, cell)


def titled(report: Report) -> Iterator[tuple[str, Figure]]:
    """The same figures to stand alone: each says of what it is, and how its numbers came about."""
    table = report.table
    cells = {cell.cell.name.replace("/", "-"): cell.cell.name for cell in table.cells}
    for name, figure in figures(report):
        what = cells.get(name, table.name)
        with mpl.rc_context(_STYLE):
            figure.suptitle(f"{what}: {table.provenance} on {table.platform.device or 'unknown'}", fontsize=9)
            if figure.get_layout_engine() is None:
                figure.subplots_adjust(top=_BELOW_TITLE)
        yield name, figure


def picture(figure: Figure, kind: str, *, salt: str = "report", transparent: bool = False) -> bytes:
    """The figure as `svg` or `png`; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(_STYLE | {"svg.hashsalt": salt}):
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata, transparent=transparent)
    return buffer.getvalue()


def _curve(axis: Axes, look: Look, name: str, points: Sequence[tuple[int, float, float, float]]) -> None:
    axis.errorbar(
        [size for size, *_ in points],
        [middle for _, _, middle, _ in points],
        ([middle - low for _, low, middle, _ in points], [high - middle for _, _, middle, high in points]),
        label=name,
        color=look.colour(name),
        marker=look.marker(name),
        ms=3.5,
        lw=1.2,
        elinewidth=0.8,
    )


def _ground(axis: Axes, cell: CellReport, look: Look) -> None:
    start = cell.table.measured_from
    for band in cell.table.bands:
        axis.axvspan(start, band.up_to, facecolor=look.colour(band.use), alpha=0.13, lw=0)
        start = band.up_to
    for crossing in cell.table.crossovers:
        axis.axvspan(crossing.low, crossing.high, facecolor="none", hatch="---", ec=FAINT, lw=0)
        axis.axvline(crossing.at, color=INK, lw=0.8, ls="--")
    for entry in cell.table.overrides:
        axis.axvline(entry.size, color=look.colour(entry.use), lw=1, ls=":")
    axis.grid(visible=True)


def _ratio_limits(cell: CellReport, gain: float) -> tuple[float, float]:
    middles = [ratio.median for ratios in cell.ratios.values() for ratio in ratios]
    low, high = min([1 / (1 + gain), *middles]), max([1 + gain, *middles])
    return low / 1.25, high * 1.25


def _log_ticks(axis: Axes, form: str) -> None:
    low, high = axis.get_ylim()
    steps = (1, 1.2, 1.5, 2, 3, 5, 7, 8, 9) if high < 4 * low else (1, 2, 5) if high < 200 * low else (1,)
    axis.yaxis.set_major_locator(LogLocator(subs=steps))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form.format(value)))


def _range(cells: Sequence[CellReport]) -> tuple[int, int]:
    return (
        min((cell.table.measured_from for cell in cells), default=16),
        max((cell.table.measured_to for cell in cells), default=32),
    )


def _sizes_axis(axis: Axes, low: int, high: int) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xlim(low / 1.15, high * 1.15)
    axis.xaxis.set_major_locator(FixedLocator([4**power for power in range(32) if low / 1.1 <= 4**power <= high * 1.1]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: short_size(size)))
