"""The measuring of one point: warm up, interleave, look, stop. The same code runs on every rank, and for a replay."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ccl_dispatch.tuner.curves import Doubt
from ccl_dispatch.tuner.measure.invocation import Invocation
from ccl_dispatch.tuner.measure.messages import MeasureSettings, PointRequest, Timings
from ccl_dispatch.tuner.measure.team import EXCHANGE_SLOTS, Team

FIRST_BLOCK = 4
# Untimed repetitions before a block where calls settle: buffers were prepared and outputs checked before the first
# block, the ranks have met before the others. On two H200 in eager mode, without them, visits of 1, 4, 20 and 150
# samples found NCCL behind symmetric memory by 43, 22, 10 and 7 % (log): short ones took who minds pauses less.
FIRST_LEAD_IN = 5
_LEAD_IN = 1

# What rank 0 decides after a block: a positive number is the length of the next one, these end the point.
_SETTLED, _SAMPLES, _SECONDS = 0, -1, -2
_WORDS = {_SETTLED: "settled", _SAMPLES: "samples", _SECONDS: "seconds"}


@dataclass(frozen=True)
class _Goal:
    """When rank 0 ends the repetitions of one visit."""

    repeats: int
    settings: MeasureSettings
    doubts: Mapping[str, Doubt]
    thorough: bool = False

    def is_settled(self, name: str, log_ratios: Sequence[float]) -> bool:
        doubt = self.doubts.get(name)
        return doubt is not None and len(log_ratios) >= self.settings.rule.min_samples and doubt.settled(log_ratios)

    def is_contradicted(self, name: str, first: float | None, log_ratios: Sequence[float]) -> bool:
        doubt = self.doubts.get(name)
        return doubt is not None and doubt.contradicted(first, log_ratios)


def time_point(
    team: Team, backends: Mapping[str, Invocation], request: PointRequest, settings: MeasureSettings
) -> Timings:
    """Warm `backends` up and repeat them, interleaved in random order, until the stop rule of rank 0 ends it.

    Every backend is prepared for the point. One repetition has one timed region of each. Ranks exchange their times
    block by block; a repetition counts as its slowest rank.
    """
    names = list(backends)
    timings = Timings(
        calls={},
        latencies={name: [] for name in names},
        by_rank={name: [[] for _ in range(team.world_size)] for name in names},
        executions=dict.fromkeys(names, 0),
    )
    runs = _warm_up(team, backends, settings, timings) if request.warm_up else dict.fromkeys(names, 1)
    timings.calls = {name: runs[name] * backend.calls for name, backend in backends.items()}
    order = random.Random(f"{settings.seed}/{request.number}")
    settling = [name for name in names if backends[name].settles]
    began = team.clock()
    most = settings.rule.max_samples if request.repeats is None else min(request.repeats, settings.rule.max_samples)
    goal = _Goal(most, settings, request.doubts, request.thorough)
    decision = min(FIRST_BLOCK, _longest_block(names), most)
    lead_in = FIRST_LEAD_IN
    while decision > 0:
        seconds: list[float] = []
        for _ in range(lead_in):
            for name in order.sample(settling, len(settling)):
                _region(team, name, backends[name], 1, timings)
        lead_in = _LEAD_IN
        for _ in range(decision):
            spent = dict.fromkeys(names, 0.0)
            for name in order.sample(names, len(names)):
                spent[name] = _region(team, name, backends[name], runs[name], timings)
            seconds += [spent[name] / timings.calls[name] for name in names]
        decision = team.decide(
            seconds, lambda rows: _judge(rows, names, timings, goal, team.clock() - began, led_in=bool(settling))
        )
    timings.stopped_by = _WORDS[decision]
    return timings


def _region(team: Team, name: str, backend: Invocation, runs: int, timings: Timings) -> float:
    """One region of a backend, counted; its seconds."""
    team.enter(name)
    before = team.clock()
    seconds = backend.region(team, runs)
    timings.busy += team.clock() - before
    timings.executions[name] += backend.executions(runs)
    team.enter("")
    return seconds


def _judge(
    rows: list[list[float]],
    names: Sequence[str],
    timings: Timings,
    goal: _Goal,
    elapsed: float,
    *,
    led_in: bool,
) -> int:
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
        done = word == "settled" or (
            ratios and goal.doubts and all(goal.is_settled(name, ratios[name]) for name in ratios)
        )
        if done and (count >= goal.repeats or not goal.thorough):
            return _SETTLED
        if count >= goal.repeats and count < settings.rule.max_samples:
            firsts = _first_log_ratios(timings, settings.baseline)
            return 1 if any(goal.is_contradicted(name, firsts.get(name), ratios[name]) for name in ratios) else _SAMPLES
    # Looking costs two barriers, a sort and what leads in, so look less often as samples gather.
    left = (goal.repeats if count < goal.repeats else settings.rule.max_samples) - count
    longer = max(count // 4, FIRST_BLOCK) if led_in else count // 8 + 1
    return min(longer, _longest_block(names), left)


def _first_log_ratios(timings: Timings, baseline: str) -> dict[str, float]:
    slow = timings.first.get(baseline)
    return {name: math.log(slow / fast) for name, fast in timings.first.items() if slow and name != baseline}


def _longest_block(names: Sequence[str]) -> int:
    return max(1, EXCHANGE_SLOTS // len(names))


def _warm_up(
    team: Team, backends: Mapping[str, Invocation], settings: MeasureSettings, timings: Timings
) -> dict[str, int]:
    """Run every backend `warmup` times, in turn; rank 0 keeps the first time and chooses the runs per region."""
    fastest = dict.fromkeys(backends, math.inf)
    first: dict[str, float] = {}
    for _ in range(max(1, settings.warmup)):
        for name, backend in backends.items():
            team.enter(name)
            before = team.clock()
            team.barrier()
            begin = team.clock()
            backend.run()
            seconds = team.clock() - begin
            first.setdefault(name, seconds / backend.calls)
            fastest[name] = min(fastest[name], seconds)
            timings.busy += team.clock() - before
            timings.executions[name] += backend.calls
            team.enter("")
    runs: dict[str, int] = {}
    for name, backend in backends.items():
        take = partial(_take_warm_up, name=name, timings=timings, backend=backend)
        runs[name] = team.decide([fastest[name], first[name]], take)
    return runs


def _take_warm_up(rows: list[list[float]], name: str, timings: Timings, backend: Invocation) -> int:
    """Rank 0: keep the first call's time, and choose the runs per region for the slowest rank's fastest run."""
    timings.first[name] = max(row[1] for row in rows)
    return backend.runs(max(row[0] for row in rows))
