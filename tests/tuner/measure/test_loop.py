"""The measuring loop on a virtual clock: what it counts, in which order, and what ends it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import Backend, BackendContext, Point
from ccl_dispatch.tuner.device.base import Call
from ccl_dispatch.tuner.device.host import HostDevice
from ccl_dispatch.tuner.measure import MeasureSettings, PointRequest
from ccl_dispatch.tuner.measure.invocation import MAX_RUNS, STREAM_CALLS, Eager
from ccl_dispatch.tuner.measure.loop import time_point
from ccl_dispatch.tuner.measure.messages import Timings
from ccl_dispatch.tuner.measure.team import EXCHANGE_SLOTS, VirtualTeam
from ccl_dispatch.tuner.statistics import StopRule

REQUEST = PointRequest(Point(Cell("all_gather", "eager", "first", "float32", 2), 64), 5)


class Clocked(Backend):
    """Takes as long as it is told, in turn, and writes its name down."""

    name = "clocked"

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    def __init__(self, context: BackendContext) -> None:
        self._label: str = context.options["label"]
        self._seconds = itertools.cycle(context.options["seconds"])
        self._team: VirtualTeam = context.options["team"]
        self._journal: list[str] = context.options["journal"]

    def supports(self, point: Point) -> str | None:
        return None

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        return self.run

    def run(self) -> None:
        self._journal.append(self._label)
        self._team.advance(next(self._seconds))

    def close(self) -> None:
        pass


class TwoRanks(VirtualTeam):
    """Plays a second rank that takes `factor` times as long as this one, and counts barriers."""

    world_size = 2

    def __init__(self, factor: float = 1.0, region_seconds: float = 0.0) -> None:
        super().__init__()
        self.region_seconds = region_seconds
        self.barriers = 0
        self.blocks: list[int] = []
        self._factor = factor

    def barrier(self) -> None:
        self.barriers += 1

    def decide(self, values: Sequence[float], judge: Callable[[list[list[float]]], int]) -> int:
        self.blocks.append(len(values))
        return judge([list(values), [value * self._factor for value in values]])


def timed(
    seconds: Mapping[str, Sequence[float]],
    team: VirtualTeam | None = None,
    *,
    rule: StopRule | None = None,
    timing: str = "isolated",
    warmup: int = 3,
    max_seconds: float = 1e9,
    min_seconds: float = 0.0,
    request: PointRequest = REQUEST,
    device: HostDevice | None = None,
) -> tuple[Timings, list[str]]:
    """The timings of a point whose first backend is the baseline, and the order in which calls were made."""
    team = team or VirtualTeam()
    journal: list[str] = []
    backends = {}
    for name, values in seconds.items():
        options = {"label": name, "seconds": values, "team": team, "journal": journal}
        run = Clocked(BackendContext(None, 0, team.world_size, options=options)).run
        stream = timing == "back_to_back"
        backends[name] = Eager(device or HostDevice(), [run], region_seconds=team.region_seconds, stream=stream)
    baseline, *candidates = seconds
    rule = rule or StopRule(0.03, 0.95, len(candidates), 12, 40)
    how = MeasureSettings(
        baseline, tuple(candidates), timing, rule, min_seconds, max_seconds, warmup, timeout=1.0, seed=3
    )
    return time_point(team, backends, request, how), journal


@settings(max_examples=60, deadline=None)
@given(
    names=st.integers(2, 6),
    warmup=st.integers(0, 6),
    most=st.integers(2, 60),
    calls=st.integers(1, 20),
    timing=st.sampled_from(["isolated", "back_to_back"]),
)
def test_every_execution_is_counted(names: int, warmup: int, most: int, calls: int, timing: str) -> None:
    """Each backend ran warm-up + repetitions x calls times, as many repetitions as all, never above the most."""
    team = TwoRanks(region_seconds=calls * 1e-3 * 0.999)
    noisy = {f"b{index}": [1e-3, 1.5e-3, 1.1e-3, 1.9e-3, 1.3e-3] for index in range(names)}
    rule = StopRule(0.03, 0.95, names - 1, 2, most)
    timings, journal = timed(noisy, team, rule=rule, warmup=warmup, timing=timing)
    repetitions = {len(values) for values in timings.latencies.values()}
    assert len(repetitions) == 1
    assert 1 <= max(repetitions) <= most
    for name in noisy:
        assert 1 <= timings.calls[name] <= MAX_RUNS
        assert timings.calls[name] >= (STREAM_CALLS if timing == "back_to_back" else 1)
        counted = max(1, warmup) + max(repetitions) * timings.calls[name]
        assert timings.executions[name] == journal.count(name) == counted
        assert [len(rank) for rank in timings.by_rank[name]] == [max(repetitions)] * 2
    assert max(team.blocks) <= EXCHANGE_SLOTS


class Launching(HostDevice):
    """A device whose calls a host launches."""

    launches = True


class Drowsy(TwoRanks):
    """A call takes longer by `late` for each of the `waking` calls since the ranks met, fewer the more were made."""

    def __init__(self, late: float, waking: int) -> None:
        super().__init__()
        self._late, self._waking, self._since = late, waking, 0

    def advance(self, seconds: float) -> None:
        super().advance(seconds + self._late * max(0, self._waking - self._since))
        self._since += 1

    def decide(self, values: Sequence[float], judge: Callable[[list[list[float]]], int]) -> int:
        self._since = 0
        return super().decide(values, judge)


@pytest.mark.parametrize("repeats", [1, 3, 40])
def test_what_a_pause_costs_a_launched_call_is_in_no_sample(repeats: int) -> None:
    """Where calls settle, each block follows untimed repetitions, and short visits find what long ones find.

    Two calls after each meeting of the ranks are late here, as one of each backend is.
    """
    request = replace(REQUEST, repeats=repeats, thorough=True)
    values = {"a": [1e-3], "b": [1e-3]}
    late, _ = timed(values, Drowsy(1e-3, 2), request=request)
    assert max(late.latencies["a"] + late.latencies["b"]) > 1.9e-3
    timings, journal = timed(values, Drowsy(1e-3, 2), request=request, device=Launching())
    for name in values:
        assert timings.latencies[name] == pytest.approx([1e-3] * repeats)
        assert timings.executions[name] == journal.count(name) > 3 + repeats


def test_without_a_warm_up_the_first_calls_are_samples() -> None:
    """A visit of two repetitions runs each backend twice, all of it timed call by call, and has no first calls."""
    values = {"a": [1e-3, 2e-3], "b": [4e-3, 8e-3]}
    request = replace(REQUEST, repeats=2, warm_up=False)
    timings, journal = timed(values, rule=StopRule(0.0, 0.95, 1, 1, 40), request=request)
    assert sorted(journal) == ["a", "a", "b", "b"]
    assert timings.latencies == {name: pytest.approx(values[name]) for name in values}
    assert timings.executions == {"a": 2, "b": 2}
    assert timings.calls == {"a": 1, "b": 1}
    assert timings.first == {}


def test_every_repetition_has_all_backends_in_changing_order() -> None:
    """Cut into repetitions, the calls are permutations of the backends, and every permutation comes up."""
    _, journal = timed({name: [1e-3, 2e-3, 1.2e-3] for name in "abc"}, rule=StopRule(0.0, 0.999, 2, 60, 60), warmup=2)
    calls = journal[2 * 3 :]
    repetitions = [tuple(calls[at : at + 3]) for at in range(0, len(calls), 3)]
    assert len(repetitions) == 60
    assert set(repetitions) == set(itertools.permutations("abc"))


def test_the_same_seed_and_point_give_the_same_order() -> None:
    """What is random about a point is its own: measured again, its order is the same."""
    values = {"a": [1e-3, 2e-3], "b": [1e-3, 3e-3]}
    assert timed(values)[1] == timed(values)[1]


def test_a_clear_difference_settles_and_noise_runs_to_the_limit() -> None:
    """Half the time is `settled` at the least samples; a coin's toss around the threshold ends by `samples`."""
    clear, _ = timed({"a": [2e-3], "b": [1e-3]})
    assert clear.stopped_by == "settled"
    assert 12 <= len(clear.latencies["a"]) <= 16
    noise, _ = timed({"a": [1e-3, 1e-3, 2e-3], "b": [1.5e-3, 1e-3, 1e-3, 1.2e-3, 1.7e-3]})
    assert noise.stopped_by == "samples"
    assert len(noise.latencies["a"]) == 40


def test_time_ends_a_point_and_a_least_time_prolongs_it() -> None:
    """Past max_seconds the word is `seconds`; before min_seconds even what is settled goes on."""
    short, _ = timed({"a": [2.0], "b": [1.0]}, max_seconds=10.0)
    assert short.stopped_by == "seconds"
    assert 4 <= len(short.latencies["a"]) < 12
    longer, _ = timed({"a": [2e-3], "b": [1e-3]}, min_seconds=0.09)
    assert longer.stopped_by == "settled"
    assert len(longer.latencies["a"]) * 3e-3 >= 0.09


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_repetition_counts_as_its_slowest_rank(factor: float) -> None:
    """The latency is the longest of the ranks', whichever rank that is, and each rank's own is kept."""
    timings, _ = timed({"a": [2e-3], "b": [1e-3]}, TwoRanks(factor))
    assert timings.latencies["b"] == pytest.approx([1e-3 * max(1.0, factor)] * len(timings.latencies["b"]))
    assert timings.by_rank["b"][0] == pytest.approx([1e-3] * len(timings.latencies["b"]))
    assert timings.by_rank["b"][1] == pytest.approx([1e-3 * factor] * len(timings.latencies["b"]))
    assert timings.first == pytest.approx({"a": 2e-3 * max(1.0, factor), "b": 1e-3 * max(1.0, factor)})


def test_regions_are_long_enough_for_the_clock() -> None:
    """A fast call is repeated in its region until that is as long as asked; a slow one is called once."""
    timings, _ = timed({"a": [1e-3], "b": [1e-5]}, TwoRanks(region_seconds=50.5e-5))
    assert timings.calls == {"a": 1, "b": 51}
    assert timings.latencies["b"] == pytest.approx([1e-5] * len(timings.latencies["b"]))
    # As long as the slowest rank takes: each takes as many calls.
    assert timed({"a": [1e-3], "b": [1e-5]}, TwoRanks(2.0, 50.5e-5))[0].calls == {"a": 1, "b": 26}
    assert timed({"a": [1e-3], "b": [1e-5]}, TwoRanks(0.5, 50.5e-5))[0].calls == {"a": 1, "b": 51}


def test_isolated_calls_each_start_at_a_barrier_and_streams_at_one() -> None:
    """An isolated region has a barrier per call, a stream has one for all its calls."""
    for timing, per_region in (("isolated", 10), ("back_to_back", 1)):
        team = TwoRanks(region_seconds=9.5e-3)
        timings, _ = timed({"a": [1e-3], "b": [1e-3]}, team, timing=timing, warmup=4)
        assert timings.calls == {"a": 10, "b": 10}
        assert team.barriers == 2 * (4 + len(timings.latencies["a"]) * per_region)
