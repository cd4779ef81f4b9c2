"""The log of a sweep, where no terminal is."""

from __future__ import annotations

import io
import math
import re
import time
from pathlib import Path

from watched import CELL, RESULT, VERDICTS, small_plan

from ccl_dispatch.tuner.progress import PlainProgress
from ccl_dispatch.tuner.samples import PointExclusion, PointResult
from ccl_dispatch.tuner.search import Outlook


def test_a_line_names_cell_size_finding_and_time_left(tmp_path: Path) -> None:
    """A line says when, which cell and size, what was found, what the table would be, and how far the search is."""
    stream = io.StringIO()
    progress = PlainProgress(stream, every=0.0)
    progress.begin(small_plan(tmp_path, "budget: {seconds: 60, regret: 0.01}\n"), [])
    time.sleep(0.3)  # workers start
    progress.point(0, CELL.name, RESULT.size)
    progress.measured(RESULT, VERDICTS, Outlook(None, math.inf, 10))
    line = stream.getvalue().splitlines()[-1]
    assert re.fullmatch(
        rf"\[\d\d:\d\d:\d\d\] visit 1, {CELL.name} at 64 KiB: shm 2.00x faster than gloo; so far shm.* \| "
        r"first look: 1 of 10 points, about 0:00 for the rest of it, at most 1:00 by the budget",
        line,
    )
    progress.measured(RESULT, VERDICTS, Outlook(None, 0.0123))
    last = stream.getvalue().splitlines()[-1]
    assert "measuring more may win 1.23% (wanted 1.00%), time left not known, at most" in last


def test_an_excluded_candidate_is_told(tmp_path: Path) -> None:
    """An exclusion is told with its reason as soon as it comes up, however few lines there are, and only once."""
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.begin(small_plan(tmp_path), [RESULT])
    progress.point(0, CELL.name, 16)
    out = (PointExclusion("shm", "hung", "rank 0"),)
    progress.measured(RESULT, VERDICTS, Outlook(None, 0.0))
    progress.measured(PointResult(CELL, 16, {}, out), {}, Outlook(None, 0.0))
    progress.measured(PointResult(CELL, 32, {}, out), {}, Outlook(None, 0.0))
    progress.end(None, None)
    lines = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    assert lines[0] == "c: 1 cell, gloo against shm; 1 visit before"
    assert lines[2].startswith(f"visit 3, {CELL.name} at 16 B: shm excluded: hung; so far gloo")
    assert lines[3] == f"excluded: shm in {CELL.name} at 16 B: hung, rank 0"
    assert lines[4:] == ["3 visits in 0:00, 4 in the study"]
