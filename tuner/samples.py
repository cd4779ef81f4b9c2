"""What measuring gives and everything after it reads: the samples of one point. Plain data that JSON keeps."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, Cell
from ccl_dispatch.tuner.sizes import is_alone

# Merged studies may be of a node with a name and of one without.
UNNAMED = "(unnamed)"
# Behind the samples as they are kept; samples of before it was there are read without.
_SUM = ',"sum":"'
_SUM_DIGITS = 16


@dataclass(frozen=True)
class PointExclusion:
    """Why `backend` may not be used at a point: a reason of `runtime.table.EXCLUSION_REASONS`, and the detail."""

    backend: str
    reason: str
    detail: str


@dataclass(frozen=True)
class PointFault:
    """Something that went wrong while a point was measured, and kept it from being measured at once.

    Attributes:
        backend: what the rank was running, empty when it ran none.
        reason: `crashed`, `hung`, `raised` or `wrong_output`.
        rank: the rank that failed.
        detail: what happened, in one line.
        log: what the rank wrote to its log at this point, the end of it.
        blamed: the candidate that was excluded for it; empty when it went away on a retry.
    """

    backend: str
    reason: str
    rank: int
    detail: str
    log: str = ""
    blamed: str = ""

    @property
    def culprit(self) -> str:
        """The backend that it is put down to: the one that was excluded, else the one that was running."""
        return self.blamed or self.backend


@dataclass(frozen=True)
class PointResult:
    """The samples of one point (one size in one cell).

    Attributes:
        size: per-rank input bytes.
        latencies_us: per backend one latency per repetition, in microseconds per call, of the slowest rank. Index i of
            every backend belongs to the same repetition when the lengths agree (they may differ in imported data).
        exclusions: backends that could not be timed here.
        executions: per backend how often its collective ran, checks and warm-up included.
        calls_per_sample: per backend the calls that one repetition averages over.
        collective_seconds: time in collectives and their barriers (virtual when replayed).
        wall_seconds: time that the point took from being asked for to being answered (virtual when replayed).
        stopped_by: what ended the repetitions (`settled`, `samples`, `seconds`, `excluded`, `imported`).
        rank_medians_us: per backend and rank the median latency: shows a slow rank.
        shape: the workload shape that the point stands for, empty for a size of the grid.
        measured_at: ISO 8601 time in UTC, empty when replayed.
        first_us: per backend the latency of the first warm-up call, of the slowest rank; not among `latencies_us`.
        condition: what the ranks' devices said before and after the repetitions: `clock_mhz` and `temperature_c` as
            [lowest, highest], `throttle` in words, empty for none; `others`, the share (0 to 1) of all processors that
            other work used. What is unknown is left out.
        faults: what went wrong on the way, in the order of time.
        node: which of several nodes that share a study measured it; empty where there is one.
    """

    cell: Cell
    size: int
    latencies_us: Mapping[str, tuple[float, ...]]
    exclusions: tuple[PointExclusion, ...] = ()
    executions: Mapping[str, int] = field(default_factory=dict)
    calls_per_sample: Mapping[str, int] = field(default_factory=dict)
    collective_seconds: float = 0.0
    wall_seconds: float = 0.0
    stopped_by: str = ""
    rank_medians_us: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    measured_at: str = ""
    first_us: Mapping[str, float] = field(default_factory=dict)
    condition: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[PointFault, ...] = ()
    node: str = ""

    def log_ratios(self, baseline: str, candidate: str) -> list[float]:
        """log(T_baseline / T_candidate) per repetition: positive where the candidate is faster."""
        pairs = zip(self.latencies_us.get(baseline, ()), self.latencies_us.get(candidate, ()), strict=False)
        return [math.log(slow / fast) for slow, fast in pairs]

    def first_log_ratios(self, baseline: str, candidate: str) -> list[float]:
        """The same for the first warm-up call, where both were timed."""
        pair = (self.first_us.get(baseline), self.first_us.get(candidate))
        return [math.log(pair[0] / pair[1])] if pair[0] and pair[1] else []

    def unusable(self) -> tuple[frozenset[str], frozenset[str]]:
        """The backends that may not be used here, which says something of the sizes around, and those that may not be
        used at this very size (`sizes.is_alone`).
        """
        alone = frozenset(item.backend for item in self.exclusions if is_alone(self.size, item.reason))
        return frozenset(item.backend for item in self.exclusions) - alone, alone

    def to_json(self) -> dict[str, Any]:
        """The result as JSON data; `from_json` gives it back unchanged."""
        return {
            "cell": list(self.cell),
            "size": self.size,
            "latencies_us": {name: list(values) for name, values in self.latencies_us.items()},
            "exclusions": [[e.backend, e.reason, e.detail] for e in self.exclusions],
            "executions": dict(self.executions),
            "calls_per_sample": dict(self.calls_per_sample),
            "collective_seconds": self.collective_seconds,
            "wall_seconds": self.wall_seconds,
            "stopped_by": self.stopped_by,
            "rank_medians_us": {name: list(values) for name, values in self.rank_medians_us.items()},
            "shape": list(self.shape),
            "measured_at": self.measured_at,
            "first_us": dict(self.first_us),
            "condition": dict(self.condition),
            "faults": [[f.backend, f.reason, f.rank, f.detail, f.log, f.blamed] for f in self.faults],
            **({"node": self.node} if self.node else {}),
        }

    def to_text(self) -> str:
        """The result as it is kept: JSON, the last entry of which is a checksum of what is before it."""
        text = json.dumps(self.to_json(), separators=(",", ":"))[:-1]
        return f'{text}{_SUM}{_digest(text)}"}}'

    @classmethod
    def from_text(cls, text: str) -> PointResult:
        """What `to_text` wrote.

        Raises:
            ValueError: it is damaged; with what is wrong.
        """
        body, there, rest = text.rpartition(_SUM)
        if there and rest != f'{_digest(body)}"}}':
            raise ValueError("its checksum is that of other samples")
        try:
            result = cls.from_json(json.loads(text))
            result.check()
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as problem:
            raise ValueError(f"{type(problem).__name__}: {problem}") from problem
        return result

    def check(self) -> None:
        """Look whether it can be what was measured.

        Raises:
            ValueError: it can't.
        """
        collective, mode, dim, dtype, _ = self.cell
        known = collective in COLLECTIVES and mode in MODES and dim in DIMS and dtype in ITEMSIZE
        if not known or not _is_count(self.cell.world_size):
            raise ValueError(f"there is no cell {self.cell.name}")
        if not _is_count(self.size):
            raise ValueError(f"its size is {self.size!r}, expected bytes above 0")
        for name, values in (*self.latencies_us.items(), *((key, (one,)) for key, one in self.first_us.items())):
            for value in values:
                if not 0 < value < math.inf:
                    raise ValueError(f"{name} has a latency of {value!r}, expected microseconds above 0")
        for seconds in (self.collective_seconds, self.wall_seconds):
            if not 0 <= seconds < math.inf:
                raise ValueError(f"it took {seconds!r} s, expected none or more")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PointResult:
        """The result that `to_json` wrote."""
        return cls(
            cell=Cell(*data["cell"]),
            size=data["size"],
            latencies_us=_tuples(data["latencies_us"]),
            exclusions=tuple(PointExclusion(*item) for item in data["exclusions"]),
            executions=dict(data["executions"]),
            calls_per_sample=dict(data["calls_per_sample"]),
            collective_seconds=data["collective_seconds"],
            wall_seconds=data["wall_seconds"],
            stopped_by=data["stopped_by"],
            rank_medians_us=_tuples(data["rank_medians_us"]),
            shape=tuple(data["shape"]),
            measured_at=data["measured_at"],
            first_us=dict(data.get("first_us", {})),
            # Samples of before these were kept are as good.
            condition=dict(data.get("condition", {})),
            faults=tuple(PointFault(*item) for item in data.get("faults", ())),
            node=data.get("node", ""),
        )


def nodes_of(results: Sequence[PointResult]) -> list[str]:
    """By which node each was measured; empty words where none is named, `UNNAMED` for one beside those that are."""
    named = any(result.node for result in results)
    return [result.node or (UNNAMED if named else "") for result in results]


def _tuples(lists: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in lists.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_SUM_DIGITS]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0
