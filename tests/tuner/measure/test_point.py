"""A worker's part in one point, with two ranks in two threads: what is timed was right on both, and so it stayed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import Backend, BackendContext, Point
from ccl_dispatch.tuner.device.base import Call
from ccl_dispatch.tuner.device.host import HostDevice
from ccl_dispatch.tuner.measure import MeasureSettings, PointRequest
from ccl_dispatch.tuner.measure.arena import Arena
from ccl_dispatch.tuner.measure.check import Pattern
from ccl_dispatch.tuner.measure.messages import RankReport
from ccl_dispatch.tuner.measure.point import PointRunner
from ccl_dispatch.tuner.statistics import StopRule

POINT = Point(Cell("all_gather", "eager", "first", "bfloat16", 2), 64)
NAMES = ("base", "one", "other")
SETTINGS = MeasureSettings("base", ("one", "other"), "isolated", StopRule(0.03, 0.95, 2, 2, 2), 0.0, 60.0, 1, 60.0, 0)
# Of one backend on one rank: it does not take the point; its output is wrong from the first check on, or from the
# second one on, when it was timed; it writes nothing at all.
BEHAVIOURS = ("right", "right", "right", "unsupported", "wrong", "wrong later", "silent")


class KnownPattern(Pattern):
    """Remembers of which round the output that was poisoned last at an address is, and every round's input."""

    def __init__(self) -> None:
        super().__init__(POINT.size, 3)
        self.rounds: dict[int, int] = {}
        self.used: list[int] = []

    def poison(self, target: torch.Tensor, point: Point, world_size: int, round_number: int) -> None:
        self.rounds[target.data_ptr()] = round_number
        self.used.append(round_number)
        super().poison(target, point, world_size, round_number)


class Gatherer(Backend):
    """Gives what both ranks' inputs are, or what its behaviour says; counts how often it ran."""

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    def __init__(self, context: BackendContext) -> None:
        self._behaviour: str = context.options["behaviour"]
        self._pattern: KnownPattern = context.options["pattern"]
        self._rounds: set[int] = set()
        self.runs = 0

    def supports(self, point: Point) -> str | None:
        return "not here" if self._behaviour == "unsupported" else None

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        return partial(self._run, point, source, target)

    def _run(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> None:
        self.runs += 1
        number = self._pattern.rounds[target.data_ptr()]
        self._rounds.add(number)
        output = self._pattern.expected(point, 2, number)
        if self._behaviour == "wrong" or (self._behaviour == "wrong later" and len(self._rounds) > 1):
            output[point.size] ^= 1
        if self._behaviour != "silent":
            target.view(-1).view(torch.uint8).copy_(output)

    def close(self) -> None:
        pass


@dataclass
class Meeting:
    """Where the threads of two ranks meet."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=30))
    rows: dict[int, list[float]] = field(default_factory=dict)
    answer: int = 0


class ThreadTeam:
    """One of two ranks."""

    world_size = 2
    region_seconds = 0.0

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank = rank
        self._meeting = meeting

    def clock(self) -> float:
        return time.monotonic()

    def barrier(self) -> None:
        self._meeting.barrier.wait()

    def decide(self, values: Sequence[float], judge: Callable[[list[list[float]]], int]) -> int:
        meeting = self._meeting
        meeting.rows[self.rank] = list(values)
        self.barrier()
        if self.rank == 0:
            meeting.answer = judge([meeting.rows[0], meeting.rows[1]])
        self.barrier()
        return meeting.answer

    def enter(self, backend: str) -> None:
        pass


def measured(
    behaviours: Mapping[str, tuple[str, str]], *requests: PointRequest, refused: Mapping[str, str] | None = None
) -> tuple[list[RankReport], list[dict[str, int]], list[KnownPattern]]:
    """Both ranks' reports of the last request, how often each backend ran there, and the ranks' patterns."""
    meeting = Meeting()
    patterns = [KnownPattern(), KnownPattern()]

    def rank_of(rank: int) -> tuple[RankReport, dict[str, int]]:
        backends = {
            name: Gatherer(BackendContext(None, rank, 2, options={"behaviour": both[rank], "pattern": patterns[rank]}))
            for name, both in behaviours.items()
        }
        arena = Arena(HostDevice(), POINT.size, [2], cold=False)
        team = ThreadTeam(rank, meeting)
        runner = PointRunner(team, backends, patterns[rank], SETTINGS, arena, {}, refused or {})
        report = [runner.measure(request) for request in requests][-1]
        return report, {name: backend.runs for name, backend in backends.items()}

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(rank_of, range(2)))
    return [report for report, _ in found], [runs for _, runs in found], patterns


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries({name: st.tuples(*[st.sampled_from(BEHAVIOURS)] * 2) for name in NAMES}),
    st.sets(st.sampled_from(NAMES[1:])),
    st.booleans(),
    st.booleans(),
)
def test_what_is_timed_was_right_on_every_rank_before_and_after(
    behaviours: dict[str, tuple[str, str]], without: set[str], check_only: bool, solo: bool
) -> None:
    """A no of one rank is a no of both: what one does not take is run by none, what is wrong on one is timed by none,
    and what went wrong while it was timed is told. Nothing is timed without a baseline, or with nothing beside it.
    """
    request = PointRequest(POINT, 1, tuple(without), check_only=check_only, solo=solo)
    reports, runs, _ = measured(behaviours, request)
    there = {name: both for name, both in behaviours.items() if name not in without}
    unsupported = tuple(name for name, both in there.items() if "unsupported" in both)
    usable = {name: both for name, both in there.items() if name not in unsupported}
    if not check_only and "base" not in usable:
        usable = {}
    first = tuple(name for name, both in usable.items() if {"wrong", "silent"} & set(both))
    right = {name: both for name, both in usable.items() if name not in first}
    timed = {} if check_only or "base" not in right or (len(right) == 1 and not solo) else right
    again = right if check_only else timed
    for rank, report in enumerate(reports):
        assert report.agreed_unsupported == unsupported
        assert report.unsupported == {name: "not here" for name, both in there.items() if both[rank] == "unsupported"}
        assert report.agreed_wrong == first + tuple(name for name, both in again.items() if "wrong later" in both)
        assert report.wrong.keys() == {
            name
            for name in usable
            if usable[name][rank] in {"wrong", "silent"} or (name in again and usable[name][rank] == "wrong later")
        }
        for name, words in report.wrong.items():
            assert words.endswith(" (after timing)") == (behaviours[name][rank] == "wrong later")
            assert ("128 of 128 bytes" if behaviours[name][rank] == "silent" else "1 of 128 bytes") in words
        assert (report.timings.latencies if report.timings else {}).keys() == timed.keys()
        assert len(report.conditions) == (2 if timed else 0)
        assert report.check_executions == {name: 1 + (name in again) for name in usable}
        assert 0 < report.check_seconds < 60 or not usable
        counted = report.timings.executions if report.timings else {}
        assert {name: count for name, count in runs[rank].items() if count} == {
            name: count + counted.get(name, 0) for name, count in report.check_executions.items()
        }


def test_every_check_has_input_of_its_own() -> None:
    """Output that was kept from another check, of the same backend or of another one, at this point or before, is
    that of other input; and all ranks have the same rounds.
    """
    requests = [PointRequest(POINT, number, solo=True) for number in range(4)]
    _, _, patterns = measured(dict.fromkeys(NAMES, ("right", "right")), *requests)
    assert patterns[0].used == patterns[1].used
    assert len(patterns[0].used) == len(set(patterns[0].used)) == 2 * len(NAMES) * len(requests)


@pytest.mark.parametrize("refused", [{}, {"gone": "it could not be set up"}])
def test_what_could_not_be_set_up_is_told_at_every_point(refused: dict[str, str]) -> None:
    """A candidate that is not there on some rank is one that no point supports, on both."""
    reports, _, _ = measured(dict.fromkeys(NAMES, ("right", "right")), PointRequest(POINT, 0), refused=refused)
    for report in reports:
        assert (report.agreed_unsupported, report.unsupported) == (tuple(refused), refused)
        assert report.timings is not None
