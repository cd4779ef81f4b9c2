"""What people see of a sweep while it runs."""

from __future__ import annotations

import io
import math
import time
from pathlib import Path

from rich.console import Console

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.config import load_config
from ccl_dispatch.tuner.plan import Plan, make_plan
from ccl_dispatch.tuner.progress import LiveProgress, PlainProgress
from ccl_dispatch.tuner.samples import PointExclusion, PointResult
from ccl_dispatch.tuner.search import Outlook
from ccl_dispatch.tuner.statistics import Interval

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
RESULT = PointResult(CELL, 65536, {"gloo": (2.0,), "shm": (1.0,)})
VERDICTS = {"shm": Interval(0.693147, 0.6, 0.8)}


def _plan(folder: Path) -> Plan:
    path = folder / "c.yaml"
    path.write_text(
        "name: c\ncollective: all_gather\nbaseline: gloo\ncandidates: [shm]\nworld_sizes: [2]\ndtypes: [bfloat16]\n"
        "sizes: {min: 16 B, max: 1 MiB}\n"
    )
    return make_plan(load_config(str(path)))


def test_a_line_names_cell_size_finding_and_time_left(tmp_path: Path) -> None:
    """A line says which cell and size, what was found, and how far the search is: its first look, then what is left."""
    stream = io.StringIO()
    progress = PlainProgress(stream, every=0.0)
    progress.begin(_plan(tmp_path), [])
    time.sleep(0.5)  # workers start
    progress.point(CELL.name, RESULT.size)
    progress.measured(RESULT, VERDICTS, Outlook(None, math.inf, 10))
    line = stream.getvalue().splitlines()[-1]
    assert line == f"[1] {CELL.name} 64 KiB: shm 2.00x faster than gloo; first look, 9 points of it to come"
    progress.measured(RESULT, VERDICTS, Outlook(None, 0.0123))
    assert stream.getvalue().splitlines()[-1].endswith("; 1.23% may be left to win")


def test_an_excluded_candidate_is_told(tmp_path: Path) -> None:
    """Where nothing could be timed the line says which backend is excluded and why, and the end is announced."""
    stream = io.StringIO()
    progress = PlainProgress(stream, every=0.0)
    progress.begin(_plan(tmp_path), [RESULT])
    progress.point(CELL.name, 16)
    progress.measured(PointResult(CELL, 16, {}, (PointExclusion("shm", "hung", "rank 0"),)), {}, Outlook(None, 0.0))
    assert "gloo against shm; points measured before: 1" in stream.getvalue()
    assert stream.getvalue().splitlines()[-1] == f"[2] {CELL.name} 16 B: shm excluded: hung; 0.00% may be left to win"


def test_the_picture_begins_without_a_time(tmp_path: Path) -> None:
    """While workers start, the live picture says so and promises no time; then it has a mark for every point."""
    progress = LiveProgress()
    progress.begin(_plan(tmp_path), [])
    try:
        assert "starting; now starting workers" in _shown(progress)
        progress.point(CELL.name, RESULT.size)
        progress.measured(RESULT, VERDICTS, Outlook(None, math.inf, 9))
        assert f"{CELL.name}  █" in _shown(progress)
    finally:
        progress.end()


def _shown(progress: LiveProgress) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(progress._live.get_renderable())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
