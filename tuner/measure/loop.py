"""The measuring of one point: warm up, interleave, look, stop. The same code runs on every rank, and for a replay."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ccl_dispatch.tuner.backends.base import Backend
from ccl_dispatch.tuner.curves import Doubt
from ccl_dispatch.tuner.measure.messages import MeasureSettings, PointRequest, Timings
from ccl_dispatch.tuner.measure.team import EXCHANGE_SLOTS, Team

# A stream of calls has to be a stream, also where one call takes long.
STREAM_CALLS = 8
FIRST_BLOCK = 4
MAX_CALLS = 256

# What rank 0 decides after a block: a positive number is the length of the next one, these end the point.
_SETTLED, _SAMPLES, _SECONDS = 0, -1, -2
_WORDS = {_SETTLED: "settled", _SAMPLES: "samples", _SECONDS: "seconds"}


@dataclass(frozen=True)
class _Goal:
    """When rank 0 ends the repetitions of one visit."""

    repeats: int
    settings: MeasureSettings
    doubts: Mapping[str, Doubt]

    def is_settled(self, name: str, log_ratios: Sequence[float]) -> bool:
        doubt = self.doubts.get(name)
        return doubt is not None and len(log_ratios) >= self.settings.rule.min_samples and doubt.settled(log_ratios)


def time_point(
    team: Team, backends: Mapping[str, Backend], request: PointRequest, settings: MeasureSettings
) -> Timings:
    """Warm `backends` up and repeat them, interleaved in random order, until the stop rule of rank 0 ends it.

    Every backend is prepared for the point. One repetition runs each backend once: a barrier, then one timed region of
    `calls` calls. Ranks exchange their times block by block; a repetition counts as its slowest rank.
    """
    names = list(backends)
    region = _isolated_region if settings.timing == "isolated" else _stream_region
    timings = Timings(
        calls={},
        latencies={name: [] for name in names},
        by_rank={name: [[] for _ in range(team.world_size)] for name in names},
        executions=dict.fromkeys(names, 0),
    )
    _warm_up(team, backends, settings, timings)
    order = random.Random(f"{settings.seed}/{request.number}")
    began = team.clock()
    most = settings.rule.max_samples if request.repeats is None else min(request.repeats, settings.rule.max_samples)
    goal = _Goal(most, settings, request.doubts)
    decision = min(FIRST_BLOCK, _longest_block(names), most)
    while decision > 0:
        seconds: list[float] = []
        for _ in range(decision):
            spent = dict.fromkeys(names, 0.0)
            for name in order.sample(names, len(names)):
                team.enter(name)
                before = team.clock()
                spent[name] = region(team, backends[name].run, timings.calls[name])
                timings.busy += team.clock() - before
                timings.executions[name] += timings.calls[name]
                team.enter("")
            seconds += [spent[name] / timings.calls[name] for name in names]
        decision = team.decide(seconds, lambda rows: _judge(rows, names, timings, goal, team.clock() - began))
    timings.stopped_by = _WORDS[decision]
    return timings


def _judge(rows: list[list[float]], names: Sequence[str], timings: Timings, goal: _Goal, elapsed: float) -> int:
    """Rank 0: take in the block of every rank; the length of the next block, or what ends the point."""
    for start in range(0, len(rows[0]), len(names)):
        for index, name in enumerate(names):
            each = [row[start + index] for row in rows]
            timings.latencies[name].append(max(each))
            for rank, value in enumerate(each):
                timings.by_rank[name][rank].append(value)
    settings = goal.settings
    if elapsed >= settings.max_seconds:
        return _SECONDS
    baseline = timings.latencies[settings.baseline]
    ratios = {
        name: [math.log(slow / fast) for slow, fast in zip(baseline, timings.latencies[name], strict=True)]
        for name in names
        if name != settings.baseline
    }
    count = len(baseline)
    word = settings.rule.settled(ratios)
    if word == "samples":
        return _SAMPLES
    # Book-keeping must not outweigh measuring: less than `min_seconds` is not worth the visit.
    if elapsed >= settings.min_seconds:
        if word == "settled" or (
            ratios and goal.doubts and all(goal.is_settled(name, ratios[name]) for name in ratios)
        ):
            return _SETTLED
        if count >= goal.repeats:
            return _SAMPLES
    # Looking costs two barriers and a sort, so look less often as samples gather: an eighth more each time, or so.
    left = (goal.repeats if count < goal.repeats else settings.rule.max_samples) - count
    return min(count // 8 + 1, _longest_block(names), left)


def _longest_block(names: Sequence[str]) -> int:
    return max(1, EXCHANGE_SLOTS // len(names))


def _warm_up(team: Team, backends: Mapping[str, Backend], settings: MeasureSettings, timings: Timings) -> None:
    """Run every backend `warmup` times, in turn; rank 0 keeps the first time and chooses the calls per region."""
    fastest = dict.fromkeys(backends, math.inf)
    first: dict[str, float] = {}
    for _ in range(max(1, settings.warmup)):
        for name, backend in backends.items():
            team.enter(name)
            before = team.clock()
            seconds = _isolated_region(team, backend.run, 1)
            first.setdefault(name, seconds)
            fastest[name] = min(fastest[name], seconds)
            timings.busy += team.clock() - before
            timings.executions[name] += 1
            team.enter("")
    for name, seconds in fastest.items():
        timings.calls[name] = team.decide(
            [seconds, first[name]],
            partial(_take_warm_up, name=name, timings=timings, region_seconds=team.region_seconds, settings=settings),
        )


def _take_warm_up(
    rows: list[list[float]], name: str, timings: Timings, region_seconds: float, settings: MeasureSettings
) -> int:
    """Rank 0: keep the first call's time, and choose the calls per region for the slowest rank's fastest call."""
    timings.first[name] = max(row[1] for row in rows)
    return _calls(max(row[0] for row in rows), region_seconds, settings.timing)


def _calls(seconds: float, region_seconds: float, timing: str) -> int:
    """Calls per region, for a call that takes `seconds` on the slowest rank."""
    wanted = max(1, min(MAX_CALLS, math.ceil(region_seconds / max(seconds, 1e-9))))
    return wanted if timing == "isolated" else max(STREAM_CALLS, wanted)


def _isolated_region(team: Team, run: Callable[[], None], calls: int) -> float:
    """Seconds of `calls` calls, each begun at a barrier: what one call costs when nothing overlaps it."""
    clock, barrier = team.clock, team.barrier
    total = 0.0
    for _ in range(calls):
        barrier()
        start = clock()
        run()
        total += clock() - start
    return total


def _stream_region(team: Team, run: Callable[[], None], calls: int) -> float:
    """Seconds of a stream of `calls` calls that begins at a barrier."""
    clock = team.clock
    team.barrier()
    start = clock()
    for _ in range(calls):
        run()
    return clock() - start
