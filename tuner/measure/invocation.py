"""How a prepared backend is run and timed: call by call as a caller feels it, or as replays of a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Protocol

from ccl_dispatch.tuner.device.base import Call, Device, Graph
from ccl_dispatch.tuner.measure.team import Team

# A stream of calls has to be a stream, also where one call takes long.
STREAM_CALLS = 8
MAX_RUNS = 256


class Invocation(Protocol):
    """One backend at one point.

    Attributes:
        calls: how often the collective is called in one run.
        settles: whether the first calls after a pause take longer than those that follow.
    """

    calls: int
    settles: bool

    def run(self) -> None:
        """One run, complete when it returns, of the first pair of buffers or of the graph."""

    def region(self, team: Team, runs: int) -> float:
        """Seconds of `runs` runs on this rank; every rank of the team calls it at the same time."""

    def runs(self, seconds: float) -> int:
        """Runs per region, for one that takes `seconds` on the slowest rank."""

    def executions(self, runs: int) -> int:
        """How often a region of `runs` runs calls the collective, those included that it does not time."""


class Eager:
    """Calls made one by one, on the host's clock: what the call costs the host is part of what the caller feels.

    Isolated, each call begins at a barrier and is timed until it is complete. Back to back, a stream of calls begins at
    a barrier and is timed until the last one is complete.

    Args:
        bound: the prepared calls, one per pair of buffers; they take turns.
        region_seconds: the least length of a region.
        stream: back to back.
        flush: empty the caches before each region.
    """

    calls = 1

    def __init__(
        self,
        device: Device,
        bound: Sequence[Call],
        *,
        region_seconds: float,
        stream: bool = False,
        flush: bool = False,
    ) -> None:
        self.settles = device.launches
        self._device = device
        self.run = device.finishing(bound[0])
        self._start = bound[0] if len(bound) == 1 else _taking_turns(bound)
        self._complete = self.run if len(bound) == 1 else device.finishing(self._start)
        self._region_seconds = region_seconds
        self._stream = stream
        self._flush = flush

    def region(self, team: Team, runs: int) -> float:
        """See `Invocation`."""
        if self._flush:
            self._device.flush()
            self._device.synchronize()
        return self._stream_of(team, runs) if self._stream else self._isolated(team, runs)

    def runs(self, seconds: float) -> int:
        """See `Invocation`."""
        wanted = _enough(self._region_seconds, seconds)
        return max(STREAM_CALLS, wanted) if self._stream else wanted

    def executions(self, runs: int) -> int:
        """See `Invocation`."""
        return runs

    def _isolated(self, team: Team, runs: int) -> float:
        clock, barrier, complete = team.clock, team.barrier, self._complete
        total = 0.0
        for _ in range(runs):
            barrier()
            begin = clock()
            complete()
            total += clock() - begin
        return total

    def _stream_of(self, team: Team, runs: int) -> float:
        clock, start = team.clock, self._start
        team.barrier()
        begin = clock()
        for _ in range(runs):
            start()
        self._device.synchronize()
        return clock() - begin


class Replayed:
    """Replays of a graph of `calls` calls, on the device's clock.

    What is timed begins behind another graph of one call, with a pair of buffers of its own. When a rank passes the
    mark behind that, every rank has sent what it had to, and what is timed is already waiting in the stream: neither
    the host's launches nor the ranks' different starts are in the result. Calls follow each other inside a graph
    whatever `timing` says.

    Args:
        flush: empty the caches before each replay.
    """

    settles = False

    def __init__(self, device: Device, graph: Graph, align: Graph, calls: int, *, flush: bool = False) -> None:
        self.calls = calls
        self._device = device
        self._graph = graph
        self._align = align
        self._flush = flush

    def run(self) -> None:
        """See `Invocation`."""
        self._graph.replay()
        self._device.synchronize()

    def region(self, team: Team, runs: int) -> float:
        """See `Invocation`."""
        device, graph, align = self._device, self._graph, self._align
        # With caches to be emptied each replay is on its own, else they follow each other.
        parts, replays = (runs, 1) if self._flush else (1, runs)
        marks = []
        team.barrier()
        for _ in range(parts):
            if self._flush:
                device.flush()
            align.replay()
            begin = device.mark()
            for _ in range(replays):
                graph.replay()
            marks.append((begin, device.mark()))
        device.synchronize()
        return sum(device.seconds_between(begin, end) for begin, end in marks)

    def runs(self, seconds: float) -> int:
        """See `Invocation`."""
        return _enough(self._device.mark_seconds, seconds)

    def executions(self, runs: int) -> int:
        """See `Invocation`."""
        return runs * self.calls + (runs if self._flush else 1)


def _enough(region_seconds: float, seconds: float) -> int:
    return max(1, min(MAX_RUNS, math.ceil(region_seconds / max(seconds, 1e-9))))


def _taking_turns(bound: Sequence[Call]) -> Call:
    turns = cycle(bound)

    def start() -> None:
        next(turns)()

    return start
