"""A replayed point: what a file has at a size is timed, what it excludes is excluded, and nothing is made up."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import Point
from ccl_dispatch.tuner.config.model import SlowNode
from ccl_dispatch.tuner.measure import MeasureSettings, PointRequest
from ccl_dispatch.tuner.measure.replaying import ReplayMeasurer
from ccl_dispatch.tuner.measurements.csv_file import ExcludedRow, Measurements, Row
from ccl_dispatch.tuner.measurements.replay import ReplayCurves
from ccl_dispatch.tuner.statistics import StopRule

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
NAMES = ("base", "one", "other")
SETTINGS = MeasureSettings("base", NAMES[1:], "isolated", StopRule(0.03, 0.95, 2, 4, 4), 9.0, 60.0, 1, 60.0, 0)


def _curves(said: dict[str, str]) -> ReplayCurves:
    """Of backends that have latencies at 64 B and above, or above alone, or that are excluded at 64 B besides."""
    rows = [
        Row(CELL, name, size, 10.0, (), {})
        for name, word in said.items()
        for size in (64, 4096)
        if size > 64 or word != "unmeasured"
    ]
    excluded = tuple(
        ExcludedRow(CELL, name, 64, "hung", "", (), {}) for name, word in said.items() if word == "excluded"
    )
    return ReplayCurves(Measurements("m.csv", tuple(rows), excluded))


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({name: st.sampled_from(["right", "right", "unmeasured", "excluded"]) for name in NAMES}))
def test_a_size_is_timed_where_the_file_has_the_baseline_and_something_to_compare(said: dict[str, str]) -> None:
    """Candidates that the file excludes, or does not have there, are excluded for that; where nothing may replace the
    baseline it is not timed, and nothing is said of it. Excluded itself beside others it can't be measured.
    """
    measurer = ReplayMeasurer(_curves(said), SETTINGS, 0)
    request = PointRequest(Point(CELL, 64), 1)
    right = {name for name in NAMES[1:] if said[name] == "right"}
    if right and said["base"] == "excluded":
        with pytest.raises(MeasuringError, match="the baseline base can't be measured"):
            measurer.measure(request)
        return
    result = measurer.measure(request)
    reasons = {item.backend: (item.reason, item.detail) for item in result.exclusions}
    expected = {name: ("hung", "replayed") for name in NAMES[1:] if said[name] == "excluded"}
    expected |= {name: ("unsupported", "measured at 4 KiB only") for name in NAMES[1:] if said[name] == "unmeasured"}
    if said["base"] == "unmeasured":
        why = "nothing to compare it with: base is measured at 4 KiB only"
        expected |= dict.fromkeys(right, ("unsupported", why))
    assert reasons == expected
    assert len(result.exclusions) == len(expected)
    timed = {"base", *right} if right and said["base"] == "right" else set()
    assert result.latencies_us == dict.fromkeys(timed, (10.0,) * 4)
    assert result.stopped_by == ("samples" if timed else "excluded")


def test_a_slow_node_is_slow_from_a_size_on_and_a_pace_makes_it_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as many virtual seconds as the point took, times the pace; latencies are those of the file otherwise."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    curves = _curves(dict.fromkeys(NAMES, "right"))
    for pace, slow in ((0.0, None), (0.5, SlowNode(0.2, 128)), (2.0, SlowNode(0.2, 64))):
        slept.clear()
        result = ReplayMeasurer(curves, SETTINGS, 0, pace=pace, slow=slow).measure(PointRequest(Point(CELL, 64), 1))
        assert result.latencies_us["one"] == pytest.approx([12.0 if pace == 2.0 else 10.0] * 4)
        assert result.wall_seconds > 0
        assert slept == ([pytest.approx(pace * result.wall_seconds, abs=1e-9)] if pace else [])
