"""Who pays for a fault: measuring goes on without whoever caused it, and with everybody else.

Workers are stood in for: each run of a point fails in a given way as long as a given candidate takes part in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import Point
from ccl_dispatch.tuner.measure import MeasureSettings, PointRequest
from ccl_dispatch.tuner.measure import measurer as module
from ccl_dispatch.tuner.measure.fault import WorkerFault
from ccl_dispatch.tuner.measure.measurer import WorkerMeasurer
from ccl_dispatch.tuner.measure.messages import RankReport, Timings
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import StopRule

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
NAMES = ("a", "b", "c")


class StandIn:
    """A pool whose runs fail as `causes` says: by candidate what runs when it has done its harm.

    Attributes:
        ran: the candidates that took part in each run.
        passing: faults that come first, whoever takes part, by what runs then.
        executions: of the runs that came to an end.
    """

    def __init__(self, causes: Mapping[str, str] | None = None, passing: tuple[str, ...] = ()) -> None:
        self.causes = dict(causes or {})
        self.passing = list(passing)
        self.ran: list[tuple[str, ...]] = []
        self.executions: Counter[str] = Counter()
        self.running = False
        self.stopped_seconds = 0.0
        #: Numbers of runs that fail, whoever takes part, while nothing runs.
        self.failing: set[int] = set()
        self.unmade: list[str] = []
        self.left_out: list[str] = []

    def start(self) -> None:
        unmade = [name for name in self.unmade if name not in self.left_out]
        if unmade:
            raise self.fault("crashed", 0, unmade[0], "in its constructor")
        self.running = True

    def leave_out(self, name: str) -> None:
        self.left_out.append(name)

    def kill(self) -> None:
        self.running = False

    def fault(self, reason: str, rank: int, backend: str, detail: str) -> WorkerFault:
        return WorkerFault(reason, rank, backend, detail, Path("rank.log"))

    def measure(self, request: PointRequest) -> list[RankReport]:
        present = tuple(name for name in NAMES if name not in (*request.without, *self.left_out))
        self.ran.append(present)
        guilty = next((name for name in present if name in self.causes), None)
        if len(self.ran) - 1 in self.failing:
            self.passing = [""]
        if self.passing or guilty is not None:
            victim = self.passing.pop(0) if self.passing else self.causes[str(guilty)]
            self.running = False
            # Who is not there can't fail: then the baseline does.
            raise self.fault("crashed", 1, victim if victim in (*present, "base", "") else "base", "signal 11")
        names = ("base", *present)
        timed = names if present or request.solo else ()
        report = RankReport(check_executions=dict.fromkeys(names, 2))
        if timed:
            ones = dict.fromkeys(timed, 1)
            report.timings = Timings(ones, {n: [1.0] for n in timed}, {n: [[1.0], [1.0]] for n in timed}, ones)
        self.executions.update(report.check_executions)
        self.executions.update(dict.fromkeys(timed, 1))
        return [report, report]


def _measurer(monkeypatch: pytest.MonkeyPatch, pool: StandIn, retries: int = 1, **changes: Any) -> WorkerMeasurer:
    how = MeasureSettings(
        "base", NAMES, "isolated", StopRule(0.03, 0.95, 3, 1, 1), 0.0, 1.0, 1, 1.0, 0, retries=retries, **changes
    )
    monkeypatch.setattr(module, "WorkerPool", lambda *_: pool)
    monkeypatch.setattr(module, "_START_PAUSE_SECONDS", 0.0)
    return WorkerMeasurer([2], 64, how, {}, Path(), None)


def _request(size: int = 64) -> PointRequest:
    return PointRequest(Point(CELL, size), 1)


def _excluded(result: PointResult) -> set[str]:
    return {item.backend for item in result.exclusions}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", "base", *NAMES]), max_size=3),
    st.integers(1, 3),
)
def test_whoever_makes_it_fail_pays_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, causes: dict[str, str], retries: int
) -> None:
    """Whatever runs when it shows, be it the baseline, nothing, or another candidate: those without whom it does not
    fail are excluded, all others are timed, all faults are put down to the excluded ones, and all runs count.
    """
    pool = StandIn(causes)
    result = _measurer(monkeypatch, pool, retries, max_faults=1000).measure(_request())
    assert _excluded(result) == causes.keys()
    assert len(result.exclusions) == len(causes)
    for item in result.exclusions:
        shown = causes[item.backend] == item.backend
        assert item.detail.endswith(f"; without {item.backend} nothing fails") != shown
    left = {"base", *NAMES} - causes.keys()
    assert set(result.latencies_us) == (left if len(left) > 1 else set())
    assert {fault.blamed for fault in result.faults} == causes.keys()
    assert bool(result.faults) == bool(causes)
    assert result.executions == dict(pool.executions)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 3))
def test_what_goes_away_costs_nobody(monkeypatch: pytest.MonkeyPatch, data: st.DataObject, retries: int) -> None:
    """As many faults as there are retries, whatever ran: the point is measured, with all, and the faults are kept."""
    passing = data.draw(st.lists(st.sampled_from(["", "base", *NAMES]), max_size=retries))
    result = _measurer(monkeypatch, StandIn(passing=tuple(passing)), retries).measure(_request())
    assert _excluded(result) == set()
    assert set(result.latencies_us) == {"base", *NAMES}
    assert [(fault.backend, fault.blamed) for fault in result.faults] == [(name, "") for name in passing]


def test_who_was_acquitted_is_not_suspected_of_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two faults of nobody's each candidate is right beside the baseline; one more is then the first one."""
    pool = StandIn()
    pool.failing = {0, 1, 6}
    result = _measurer(monkeypatch, pool).measure(_request())
    assert pool.ran == [NAMES, NAMES, (), *((name,) for name in NAMES), NAMES, NAMES]
    assert [(fault.backend, fault.blamed) for fault in result.faults] == [("", "")] * 3
    assert result.executions == dict(pool.executions)


@pytest.mark.parametrize("victim", ["base", ""])
def test_a_machine_that_fails_without_any_candidate_ends_the_sweep(
    monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    """After the retries of the baseline alone; and where faults go on that nobody explains, after so many of them."""
    with pytest.raises(MeasuringError, match=r"fails without any candidate beside it, 3 times in a row"):
        _measurer(monkeypatch, StandIn(passing=(victim,) * 6), retries=2).measure(_request())
    pool = StandIn()
    patient = _measurer(monkeypatch, pool, max_faults=3)
    for size in (16, 32):
        pool.passing = [victim]
        assert len(patient.measure(_request(size)).faults) == 1
    pool.passing = [victim]
    with pytest.raises(MeasuringError, match=r"3 faults in this run that no exclusion explains"):
        patient.measure(_request())


def test_who_failed_at_several_sizes_of_a_cell_is_not_tried_at_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """In that cell alone; a continued sweep remembers it from the results."""
    pool = StandIn({"b": "b"})
    first = _measurer(monkeypatch, pool)
    found = [first.measure(_request(size)) for size in (16, 32)]
    assert all(fault.blamed == "b" for result in found for fault in result.faults)
    again = _measurer(monkeypatch, pool)
    again.remember(found)
    elsewhere = PointRequest(Point(CELL._replace(dtype="float32"), 64), 1)
    for one in (first, again):
        pool.ran.clear()
        (exclusion,) = one.measure(_request(48)).exclusions
        assert pool.ran == [("a", "c")]
        assert (exclusion.reason, exclusion.detail) == ("crashed", "not tried, after the same at 2 other sizes")
        one.measure(elsewhere)
        assert "b" in pool.ran[1]


def test_who_keeps_workers_from_starting_is_left_out_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its faults are told once, with the first point."""
    pool = StandIn()
    pool.unmade = ["b"]
    measurer = _measurer(monkeypatch, pool)
    found = [measurer.measure(_request(size)) for size in (16, 32)]
    assert pool.left_out == ["b"]
    assert [_excluded(result) for result in found] == [{"b"}, {"b"}]
    assert [[fault.blamed for fault in result.faults] for result in found] == [["b", "b"], []]
