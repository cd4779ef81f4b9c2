"""What parent and workers tell each other: plain values, without torch, so that the parent can do without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.curves import Doubt
from ccl_dispatch.tuner.device.placement import Placement
from ccl_dispatch.tuner.statistics import StopRule

#: What a rank says of a backend that it could have, and another rank could not; that one knows why.
NOT_MADE_ELSEWHERE = "it could not be set up on another rank"


@dataclass(frozen=True)
class MeasureSettings:
    """How points are measured; the same for a whole sweep.

    Attributes:
        timing: `isolated`, each call starts from a barrier and is complete before the next; or `back_to_back`, a stream
            of calls.
        rule: when repetitions may end.
        min_seconds: repetitions go on at least that long, so that book-keeping never outweighs measuring.
        max_seconds: repetitions end after that long, settled or not.
        warmup: calls per backend and point before the first repetition.
        timeout: seconds after which a point counts as hung.
        seed: of the random order of backends.
        extra_backends: names of backends that are not in the registry, and their `module:Class`, which every worker
            must be able to import.
        placement: which device each rank uses.
        cold: rotate through buffers, so that no call finds its data in a cache because the call before put it there.
        graph_calls: calls in one captured graph.
        registered: mode `graph` will be measured, in which a backend may want inputs in memory of its own.
        retries: how often a point is measured again, with new workers, after faults of one suspect.
        max_faults: so many faults that no exclusion explains, in one run, end the sweep.
    """

    baseline: str
    candidates: tuple[str, ...]
    timing: str
    rule: StopRule
    min_seconds: float
    max_seconds: float
    warmup: int
    timeout: float
    seed: int
    extra_backends: Mapping[str, str] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)
    cold: bool = False
    graph_calls: int = 8
    registered: bool = False
    retries: int = 1
    max_faults: int = 100

    @property
    def backends(self) -> tuple[str, ...]:
        """All names, the baseline first."""
        return (self.baseline, *self.candidates)


@dataclass(frozen=True)
class PointRequest:
    """Measure `point` once.

    Attributes:
        number: makes the random order of this visit its own.
        without: candidates that are left out.
        repeats: repetitions to take, None for as many as the settings allow.
        doubts: per candidate what is known from other points; repetitions may end once all are settled.
        warm_up: begin with the warm-up calls; without them a sample is a single call, the first one among them.
        thorough: take all repetitions, settled or not: somebody will compare the latencies themselves.
        check_only: check outputs, twice, and time nothing.
        solo: time the baseline also where no candidate is left to compare it with.
    """

    point: Point
    number: int
    without: tuple[str, ...] = ()
    repeats: int | None = None
    doubts: Mapping[str, Doubt] = field(default_factory=dict)
    check_only: bool = False
    solo: bool = False
    thorough: bool = False
    warm_up: bool = True


@dataclass
class Timings:
    """What the repetitions of a point gave, as one rank sees it; complete on rank 0 only.

    Attributes:
        latencies: per backend the seconds per call of the slowest rank, one per repetition.
        by_rank: per backend one list of repetitions per rank.
        first: per backend the seconds of the first warm-up call, of the slowest rank.
        busy: seconds in collectives and their barriers, on this rank.
    """

    calls: dict[str, int]
    latencies: dict[str, list[float]]
    by_rank: dict[str, list[list[float]]]
    executions: dict[str, int]
    first: dict[str, float] = field(default_factory=dict)
    stopped_by: str = ""
    busy: float = 0.0


@dataclass
class RankReport:
    """What one rank has to say about a point. `unsupported` and `wrong` hold a reason per backend.

    `agreed_unsupported` and `agreed_wrong` are what holds for all ranks together: a no on one rank is a no.
    `conditions` are the device's before and after the timing (`Device.condition`).
    """

    unsupported: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    agreed_unsupported: tuple[str, ...] = ()
    agreed_wrong: tuple[str, ...] = ()
    timings: Timings | None = None
    check_executions: dict[str, int] = field(default_factory=dict)
    check_seconds: float = 0.0
    conditions: list[Mapping[str, float | str]] = field(default_factory=list)


@dataclass(frozen=True)
class WorkerSetup:
    """The first message to a worker: who it is and what the sweep measures.

    `largest` is the largest per-rank input in bytes, `options` each backend's mapping from the config.
    """

    rank: int
    world_sizes: tuple[int, ...]
    largest: int
    settings: MeasureSettings
    options: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Failure:
    """What a worker sends instead of an answer when it raised.

    Attributes:
        summary: the exception in one line; all of it is in the log.
        at: when, in seconds of the host's monotonic clock: who was first is the cause of what others raise.
    """

    summary: str
    at: float
