"""The live picture of a sweep."""

from __future__ import annotations

import gc
import io
import logging
import math
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from interrupting import interrupt
from rich.console import Console
from rich.live import Live
from rich.text import Text
from watched import CELL, RESULT, VERDICTS, point, small_plan

from ccl_dispatch.tuner.interrupts import handled
from ccl_dispatch.tuner.progress.bar import Axis, Ink
from ccl_dispatch.tuner.progress.live import LiveProgress, _Scene, cell_labels
from ccl_dispatch.tuner.samples import PointExclusion, PointResult
from ccl_dispatch.tuner.search import Outlook
from ccl_dispatch.tuner.sweep import SweepOutcome

CROSSING = [point(1 << power, 1.3 if power < 15 else 0.7) for power in range(4, 21, 2)]


def _plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def _scene(folder: Path, *, coloured: bool = True) -> _Scene:
    scene = _Scene(small_plan(folder), [], coloured=coloured)
    scene.point(CELL.name, 1 << 16)
    for result in CROSSING:
        scene.measured(result, VERDICTS, Outlook(None, 0.0123))
    return scene


def test_a_row_shows_bands_marks_and_doubt(tmp_path: Path) -> None:
    """Along the axis the winner's colour comes first and the baseline's last, with a mark at each measured size."""
    scene = _scene(tmp_path)
    scene.now = (CELL.name, 1 << 20, "12:00:00")
    lines = scene.lines(100, 24, 1.0)
    row = lines[3]
    assert row.plain.startswith("bfloat16 ws2  •")
    assert row.plain.count("•") == len(CROSSING) - 1
    assert "▼" in row.plain
    assert "█" in row.plain
    assert set(row.plain) & {"▓", "░"}
    styles = [str(span.style) for span in row.spans if span.style]
    assert "#d55e00" in styles[0]
    assert "#8a8a8a" in next(style for style in reversed(styles) if "#" in style and "black on #f0" not in style)
    assert "now:  bfloat16 ws2 at 1 MiB, since 12:00:00" in _plain(lines)
    assert "measuring more may win 1.23%" in lines[1].plain


def test_without_colours_there_are_letters(tmp_path: Path) -> None:
    """Capital letters are sure, small ones in doubt; no colour is used; measured columns are underlined."""
    scene = _scene(tmp_path, coloured=False)
    scene.now = None
    row = scene.lines(100, 24, 1.0)[3]
    bar = row.plain.removeprefix("bfloat16 ws2  ")[:70]
    assert bar.startswith("S")
    assert "G" in bar
    assert set(bar) <= set("SsGg ")
    styles = {str(span.style) for span in row.spans}
    assert "underline" in styles
    assert not any("#" in style for style in styles)


@pytest.mark.parametrize("width", [60, 79, 120, 200])
@pytest.mark.parametrize("height", [10, 24])
def test_it_fits_every_terminal(tmp_path: Path, width: int, height: int) -> None:
    """With 60 cells no line is longer than the terminal is wide, and a count stands for the cells without room."""
    plan = small_plan(tmp_path, world_sizes="[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]", dtypes=SIX)
    scene = _Scene(plan, [], coloured=True)
    at_work = list(plan.cells)[-1]
    scene.point(at_work, 1 << 16)
    lines = scene.lines(width, height, 0.0)
    assert len(lines) <= height
    assert max(map(len, _plain(lines))) <= width
    shown = [line for line in _plain(lines) if line.startswith(("bfloat16", "float", "int"))]
    assert any(f"and {60 - len(shown)} cells more" in line for line in _plain(lines))
    assert any(line.startswith(cell_labels(list(plan.cells.values()))[at_work]) for line in shown)


SIX = "[bfloat16, float16, float32, float64, int8, int32]"


def test_exclusions_are_seen(tmp_path: Path) -> None:
    """A cross in the row and a line with backend, number of points and reason; a visit again is no other point."""
    scene = _scene(tmp_path)
    out = (PointExclusion("shm", "crashed", "signal 11"),)
    for _ in range(2):
        scene.measured(PointResult(CELL, 1 << 18, {}, out), {}, Outlook(None, 0.01))
    lines = _plain(scene.lines(100, 24, 1.0))
    assert ", 11 visits" in lines[0]
    assert "x" in lines[3]
    assert "excluded: shm at 1 point (crashed)" in lines


def test_the_ruler_has_the_ends_and_what_fits_between() -> None:
    """Sizes stand at their columns, never over each other."""
    axis = Axis(16, 1 << 22, 60)
    ruler = axis.ruler("|")
    assert ruler.startswith("|16 B  ")
    assert ruler.endswith("4 MiB|")
    assert ruler.index("|1 KiB") == axis.column(1024)
    assert len(Axis(16, 1 << 22, 8).ruler("|")) == 8


def test_letters_are_told_apart() -> None:
    """Backends whose names begin alike get letters of their own."""
    letters = Ink(("rccl", "ring", "rc"), coloured=False).letters
    assert len(set(letters.values())) == 3


def test_it_is_drawn_between_points_and_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred points at once are a few drawings; a log line goes above the picture; the end is the last picture."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    console = Console(file=stream, force_terminal=True, width=100, height=24, color_system="truecolor", _environ={})
    progress = LiveProgress(console)
    try:
        progress.begin(small_plan(tmp_path), [])
        assert "starting workers" in stream.getvalue()
        logging.getLogger("x").warning("a rank has crashed")
        for _ in range(100):
            progress.point(0, CELL.name, RESULT.size)
            progress.measured(RESULT, VERDICTS, Outlook(None, math.inf, 9))
        drawings = stream.getvalue().count("16 B")
    finally:
        progress.end(None, KeyboardInterrupt())
        logging.getLogger().removeHandler(handler)
    assert drawings <= 4
    assert stream.getvalue().count("a rank has crashed") == 1
    assert "interrupted" in stream.getvalue()
    assert handler.stream is sys.stderr


@pytest.mark.parametrize(
    ("word", "left", "line"),
    [
        ("regret", 0.00226, "done: measuring more may win 0.23%, as little as was wanted"),
        ("seconds", 0.0123, "done: the budget of seconds is spent, measuring more may win 1.23%"),
        ("searched", math.inf, "done: nothing is worth measuring"),
    ],
)
def test_the_last_picture_says_once_why_it_ended(tmp_path: Path, word: str, left: float, line: str) -> None:
    """Whole in 80 columns; in fewer its latter part is left out, and not cut."""
    scene = _scene(tmp_path)
    scene.stopped(Outlook(None, left))
    scene.ended(cast("SweepOutcome", SimpleNamespace(stopped_by=word)), None)
    assert scene.lines(80, 24, 1.0)[1].plain == line
    assert scene.lines(40, 24, 1.0)[1].plain == line.partition(", ")[0]


def test_a_second_interrupt_while_the_last_picture_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal has its cursor back, and what is logged goes where it went before."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    progress = LiveProgress(Console(file=stream, force_terminal=True, width=100, height=24, _environ={}))

    def again(*_arguments: object) -> None:
        raise KeyboardInterrupt

    try:
        progress.begin(small_plan(tmp_path), [])
        monkeypatch.setattr(_Scene, "lines", again)
        with pytest.raises(KeyboardInterrupt):
            progress.end(None, KeyboardInterrupt())
        assert handler.stream is sys.stderr
    finally:
        logging.getLogger().removeHandler(handler)
    assert stream.getvalue().rfind("\x1b[?25h") > stream.getvalue().rfind("\x1b[?25l") >= 0


def test_an_interrupt_lets_the_picture_be_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Ctrl-C that comes meanwhile is raised when that is done: none of rich's parts is left half made."""
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    monkeypatch.setattr("ccl_dispatch.tuner.progress.live._Scene", lambda *_arguments, **_options: None)
    plan = small_plan(tmp_path)
    done: list[int] = []
    start = Live.start

    def counted(live: Live) -> None:
        start(live)
        done.append(moment)

    monkeypatch.setattr(Live, "start", counted)
    moment, came = 0, True
    with handled():
        while came:
            moment += 1
            stream = io.StringIO()
            progress = LiveProgress(Console(file=stream, force_terminal=True, width=100, height=24, _environ={}))
            came, raised = interrupt(partial(progress.begin, plan, []), moment)
            progress.end(None, raised)
            assert came == isinstance(raised, KeyboardInterrupt)
            assert (moment in done) == ("\x1b[?25l" in stream.getvalue())
    assert moment > 20


# A second Ctrl-C is not held back: Python 3.13 tells of the half-made stand-in for standard error that rich leaves.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <rich.file_proxy:pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_while_the_picture_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any line of that, what ends the picture raises nothing, and the terminal has its cursor and its streams."""
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    before = sys.stderr

    def now() -> None:
        raise KeyboardInterrupt

    moment, came = 0, True
    while came:
        moment += 1
        stream = io.StringIO()
        progress = LiveProgress(Console(file=stream, force_terminal=True, width=100, height=24, _environ={}))
        came, _ = interrupt(progress._live.start, moment, now)
        progress.end(None, KeyboardInterrupt())
        assert sys.stderr is before
        assert stream.getvalue().rfind("\x1b[?25h") >= stream.getvalue().rfind("\x1b[?25l")
    assert moment > 20
    gc.collect()  # of what is half made; not at the end of the run, where no warning is expected
