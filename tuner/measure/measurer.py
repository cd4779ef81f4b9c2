"""From a point to its samples, whatever stands behind: workers on this machine, or a file that is replayed."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.curves import Doubt
from ccl_dispatch.tuner.device.condition import joined_conditions
from ccl_dispatch.tuner.launch.launcher import Launcher
from ccl_dispatch.tuner.measure.messages import MeasureSettings, PointRequest, RankReport
from ccl_dispatch.tuner.measure.pool import WorkerFault, WorkerPool
from ccl_dispatch.tuner.samples import PointExclusion, PointResult

logger = logging.getLogger(__name__)


class Measurer(Protocol):
    """Measures points, one at a time. A context manager: leaving it ends all that it started."""

    def start(self) -> None:
        """Do now what the first point would otherwise wait for."""

    def measure(
        self, point: Point, number: int, repeats: int | None = None, doubts: Mapping[str, Doubt] | None = None
    ) -> PointResult:
        """The samples of `point`, from one visit.

        Args:
            number: makes what is random about the visit its own.
            repeats: repetitions to take, None for as many as the settings allow.
            doubts: per candidate what is known from other points; repetitions may end once all are settled.

        Raises:
            MeasuringError: there is no answer, and it is not a candidate's fault.
        """

    def __enter__(self) -> Measurer:
        """Start nothing yet."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""


# A candidate that was excluded for faults at so many sizes of a cell is not tried at its other sizes: every fault costs
# two starts of all workers, and what crashes here and there is not trusted in between.
_FAULTY_SIZES = 2


class WorkerMeasurer:
    """Measures on this machine. A candidate that crashes, hangs or raises is retried once, then excluded there."""

    def __init__(
        self,
        world_sizes: Sequence[int],
        largest: int,
        settings: MeasureSettings,
        options: Mapping[str, Mapping[str, Any]],
        log_folder: Path,
        launcher: Launcher | None = None,
    ) -> None:
        self._settings = settings
        self._pool = WorkerPool(world_sizes, largest, settings, options, log_folder, launcher)
        self._faults: dict[tuple[Cell, str], list[PointExclusion]] = {}

    def __enter__(self) -> WorkerMeasurer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close(at_once=kind is not None)

    def start(self) -> None:
        """Start the workers."""
        self._pool.start()

    def measure(
        self, point: Point, number: int, repeats: int | None = None, doubts: Mapping[str, Doubt] | None = None
    ) -> PointResult:
        """See `Measurer`."""
        began = time.perf_counter()
        without = {
            name: PointExclusion(name, known[-1].reason, f"not tried, after the same at {len(known)} other sizes")
            for (cell, name), known in self._faults.items()
            if cell == point.cell and len(known) >= _FAULTY_SIZES
        }
        suspect = ""
        while True:
            request = PointRequest(point, number, tuple(without), repeats, doubts or {})
            try:
                reports = self._pool.measure(request)
            except WorkerFault as fault:
                logger.warning("%s, %d bytes: %s", point.cell.name, point.size, fault)
                # The second fault in a row of the same backend is its own; the first may be anybody's.
                if fault.backend != suspect or not suspect:
                    if suspect:
                        raise
                    suspect = fault.backend or self._settings.baseline
                    logger.warning("the point is measured once more, with new workers")
                    continue
                if fault.backend == self._settings.baseline:
                    raise
                without[fault.backend] = PointExclusion(
                    fault.backend, fault.reason, f"rank {fault.rank}: {fault.detail}"
                )
                self._faults.setdefault((point.cell, fault.backend), []).append(without[fault.backend])
                suspect = ""
                continue
            return point_result(point, reports, self._settings, tuple(without.values()), time.perf_counter() - began)


def point_result(
    point: Point,
    reports: Sequence[RankReport],
    settings: MeasureSettings,
    exclusions: tuple[PointExclusion, ...],
    wall_seconds: float,
    *,
    measured_at: str | None = None,
) -> PointResult:
    """Join the ranks' reports; rank 0's comes first.

    Raises:
        MeasuringError: the baseline can't take the point, or gives a wrong output.
    """
    first = reports[0]
    found = list(exclusions)
    unsupported = [report.unsupported for report in reports]
    wrong = [report.wrong for report in reports]
    found += [PointExclusion(name, "unsupported", _detail(name, unsupported)) for name in first.agreed_unsupported]
    found += [PointExclusion(name, "wrong_output", _detail(name, wrong)) for name in first.agreed_wrong]
    for exclusion in found:
        if exclusion.backend == settings.baseline:
            raise MeasuringError(
                f"{point.cell.name} at {point.size} bytes: the baseline {exclusion.backend} can't be measured "
                f"({exclusion.reason}: {exclusion.detail}). Leave this cell or size out of the config, "
                "or choose another baseline"
            )
    excluded = {exclusion.backend for exclusion in found}
    timings = first.timings
    executions = dict(first.check_executions)
    if timings is None:
        return PointResult(
            point.cell,
            point.size,
            {},
            exclusions=tuple(found),
            executions=executions,
            collective_seconds=first.check_seconds,
            wall_seconds=wall_seconds,
            stopped_by="excluded",
            shape=point.shape,
            measured_at=_now() if measured_at is None else measured_at,
        )
    for name, count in timings.executions.items():
        executions[name] = executions.get(name, 0) + count
    kept = [name for name in timings.latencies if name not in excluded]
    return PointResult(
        point.cell,
        point.size,
        {name: tuple(_microseconds(value) for value in timings.latencies[name]) for name in kept},
        exclusions=tuple(found),
        executions=executions,
        calls_per_sample={name: timings.calls[name] for name in kept},
        collective_seconds=round(timings.busy + first.check_seconds, 9),
        wall_seconds=round(wall_seconds, 9),
        stopped_by=timings.stopped_by,
        rank_medians_us={
            name: tuple(_microseconds(statistics.median(values)) for values in timings.by_rank[name]) for name in kept
        },
        shape=point.shape,
        measured_at=_now() if measured_at is None else measured_at,
        first_us={name: _microseconds(timings.first[name]) for name in kept if name in timings.first},
        condition=joined_conditions([condition for report in reports for condition in report.conditions]),
    )


def _detail(name: str, by_rank: Sequence[Mapping[str, str]]) -> str:
    rank, text = next((rank, reasons[name]) for rank, reasons in enumerate(by_rank) if name in reasons)
    everywhere = all(reasons.get(name) == text for reasons in by_rank)
    return text if everywhere else f"rank {rank}: {text}"


def _microseconds(seconds: float) -> float:
    """To a tenth of a nanosecond, which no clock here resolves: more digits would only fill the storage."""
    return round(seconds * 1e6, 4)


def _now() -> str:
    """The time of day in UTC, ISO 8601, to the second: for evidence, never for measuring."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
