"""Time left is told where it is known, and not where it isn't."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from watched import RESULT, point, small_plan

from ccl_dispatch.tuner.progress.pace import Pace, clock
from ccl_dispatch.tuner.search import Outlook


def test_a_steady_fall_foretells_the_end(tmp_path: Path) -> None:
    """Regret that halves each second from 8 % on meets 0.5 % four seconds later; half of them gone, two are left."""
    pace = Pace(small_plan(tmp_path, "budget: {regret: 0.005, seconds: 100}\n"), [])
    for turn in range(11):
        pace.take(RESULT, Outlook(None, 0.08 * 2 ** (-turn / 5)), turn / 5)
    left = pace.left(2.0)
    assert left.halving == pytest.approx(1.0)
    assert left.about == pytest.approx(2.0)
    assert left.at_most == pytest.approx(98.0)


def test_what_does_not_fall_foretells_nothing(tmp_path: Path) -> None:
    """Regret that goes up and down leaves the time unknown; so do few points; the budget still bounds it."""
    pace = Pace(small_plan(tmp_path, "budget: {regret: 0.005, executions: 1800}\n"), [point(16, 1.3)])
    for turn in range(20):
        pace.take(point(16, 1.3), Outlook(None, 0.08 * (1.3 if turn % 2 else 0.8)), turn / 2)
        assert pace.left(10.0).about is None
    # 18 executions a point: 18 before, 360 in ten seconds here, of 1,800.
    assert pace.left(10.0).at_most == pytest.approx((1800 - 18 - 360) / 36)


def test_the_first_look_is_told_by_its_points(tmp_path: Path) -> None:
    """While regret is not known yet, the time is that of the points which the first look still needs."""
    pace = Pace(small_plan(tmp_path), [])
    pace.take(RESULT, Outlook(None, math.inf, 5), 0.5)
    pace.take(RESULT, Outlook(None, math.inf, 4), 1.0)
    assert (pace.looked, pace.to_look) == (2, 3)
    assert pace.left(1.0) == (1.5, None, None)


def test_durations_are_written_as_clocks() -> None:
    """Minutes and seconds, hours where there are any."""
    assert [clock(seconds) for seconds in (-1, 7.4, 750, 11100)] == ["0:00", "0:07", "12:30", "3:05:00"]
