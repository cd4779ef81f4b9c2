"""From a point to its samples, whatever stands behind: workers on this machine, or a file that is replayed."""

from __future__ import annotations

import logging
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.device.condition import joined_conditions
from ccl_dispatch.tuner.evidence.others import OTHERS, Watch
from ccl_dispatch.tuner.launch.launcher import Launcher, OwnRanks
from ccl_dispatch.tuner.measure.fault import WorkerFault
from ccl_dispatch.tuner.measure.messages import NOT_MADE_ELSEWHERE, MeasureSettings, PointRequest, RankReport, Timings
from ccl_dispatch.tuner.measure.pool import WorkerPool
from ccl_dispatch.tuner.measure.visit import Visit
from ccl_dispatch.tuner.samples import PointExclusion, PointFault, PointResult

logger = logging.getLogger(__name__)


class Measurer(Protocol):
    """Measures points, one at a time. A context manager: leaving it ends all that it started."""

    def remember(self, results: Sequence[PointResult]) -> None:
        """Take in what earlier runs of the study have found, before anything is measured."""

    def start(self) -> None:
        """Do now what the first point would otherwise wait for."""

    def measure(self, request: PointRequest) -> PointResult:
        """The samples of a point, from one visit. Whom to leave out the measurer decides itself.

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
# a start of all workers, and what crashes here and there is not trusted in between.
_FAULTY_SIZES = 2
# Enough repetitions to see whether anything fails; nobody looks at their times.
_TRIAL_REPEATS = 8
# What keeps workers from starting, a port or memory that is about to be given back, may be gone after so long.
_START_PAUSE_SECONDS = 0.5


class WorkerMeasurer:
    """Measures on this machine, and goes on after faults: new workers, the point once more, then an exclusion.

    A candidate is excluded at a point after `retries` + 1 faults of its own there, the last of them without the other
    candidates, any of which may have broken the process for it. After as many faults of nobody's (the
    baseline was running, or nothing) the baseline is measured alone and then beside each candidate: the candidate
    beside which it fails has broken the process or the device. Where the baseline fails alone, or the workers can't be
    started, it is the machine's fault, and the sweep ends.
    """

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
        self._faulty: dict[tuple[Cell, str], dict[int, str]] = {}
        self._unmade: dict[str, PointExclusion] = {}
        self._starting: list[PointFault] = []
        self._unexplained = 0
        # Ranks that a launcher started are nobody's children here: what they use can't be told from others' work.
        self._watch = Watch() if launcher is None or isinstance(launcher, OwnRanks) else None

    def __enter__(self) -> WorkerMeasurer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close(at_once=kind is not None)

    def remember(self, results: Sequence[PointResult]) -> None:
        """See `Measurer`."""
        for result in results:
            for fault in result.faults:
                if fault.blamed:
                    self._faulty.setdefault((result.cell, fault.blamed), {})[result.size] = fault.reason

    def start(self) -> None:
        """Start the workers; a candidate that keeps them from starting is left out from then on.

        Raises:
            MeasuringError: they don't start, and it is no candidate's fault.
        """
        visit = Visit(self._unmade, self._settings.candidates)
        while True:
            try:
                self._pool.start()
            except WorkerFault as fault:
                logger.warning("starting workers: %s", fault)
                name, count = visit.suspect(fault)
                if count <= self._settings.retries:
                    time.sleep(_START_PAUSE_SECONDS)
                    continue
                if not name:
                    raise MeasuringError(
                        f"the workers could not be started {count} times, and no candidate was being set up: this is "
                        f"the machine's or the set-up's fault. The last time, {fault}"
                    ) from fault
                self._unmade[name] = visit.exclude(fault, name)
                self._pool.leave_out(name)
                logger.warning("%s is left out from now on", name)
            else:
                self._starting += visit.faults
                return

    def measure(self, request: PointRequest) -> PointResult:
        """See `Measurer`."""
        began = time.perf_counter() - self._pool.stopped_seconds
        point = request.point
        visit = Visit(self._left_out(point), self._settings.candidates)
        while True:
            found = self._attempt(replace(request, without=tuple(visit.without)), visit)
            if isinstance(found, WorkerFault):
                self._judge(request, visit, found)
                self._check_patience(visit)
                continue
            # What measuring a point costs: not the time for which somebody had stopped this process.
            seconds = time.perf_counter() - self._pool.stopped_seconds - began
            result = point_result(point, found, self._settings, tuple(visit.without.values()), seconds)
            self._unexplained += visit.unexplained
            starting, self._starting = self._starting, []
            share = self._watch.share() if self._watch is not None else None
            return replace(
                result,
                condition=result.condition if share is None else {**result.condition, OTHERS: round(share, 3)},
                faults=(*starting, *visit.faults),
                executions=dict(Counter(result.executions) + visit.executions),
            )

    def _left_out(self, point: Point) -> dict[str, PointExclusion]:
        """The candidates that are not tried at this point, for what they did elsewhere."""
        without = {}
        for (cell, name), sizes in self._faulty.items():
            if cell == point.cell and len(sizes) >= _FAULTY_SIZES:
                detail = f"not tried, after the same at {len(sizes)} other sizes"
                without[name] = PointExclusion(name, sizes[max(sizes)], detail)
        return without | self._unmade

    def _attempt(self, request: PointRequest, visit: Visit) -> list[RankReport] | WorkerFault:
        """The ranks' reports, or why there are none; a wrong baseline is a fault as well.

        Raises:
            MeasuringError: the workers can't be started.
        """
        point = request.point
        if not self._pool.running:
            self.start()
            request = replace(request, without=tuple({**dict.fromkeys(request.without), **self._unmade}))
            visit.without |= self._unmade
        try:
            reports = self._pool.measure(request)
        except WorkerFault as fault:
            logger.warning("%s, %d bytes: %s", point.cell.name, point.size, fault)
            return fault
        baseline = self._settings.baseline
        if baseline not in reports[0].agreed_wrong:
            return reports
        rank = next(rank for rank, report in enumerate(reports) if baseline in report.wrong)
        wrong = self._pool.fault("wrong_output", rank, baseline, reports[rank].wrong[baseline])
        logger.warning("%s, %d bytes: %s", point.cell.name, point.size, wrong)
        self._pool.kill()
        return wrong

    def _judge(self, request: PointRequest, visit: Visit, fault: WorkerFault) -> None:
        """What follows from a fault: nothing but another try, or exclusions.

        Raises:
            MeasuringError: the baseline fails alone as well.
        """
        name, count = visit.suspect(fault)
        retries = self._settings.retries
        if name and count > retries:
            self._exclude(visit, request.point, fault, name)
        elif (not name and count > retries) or (name and count == retries and visit.is_cleared(name)):
            self._find_guilty(request, visit)
        elif name and count == retries and len(visit.left) > 1:
            # Its last chance is without the other candidates: one of them may have left the process broken.
            if not self._is_guilty(request, visit, name):
                visit.clear(name)
        else:
            logger.warning("the point is measured once more, with new workers")

    def _is_guilty(self, request: PointRequest, visit: Visit, name: str) -> bool:
        """Whether measuring fails with this candidate alone beside the baseline; it is excluded then."""
        logger.warning("%s is measured alone beside the baseline, with new workers", name)
        others = tuple(each for each in self._settings.candidates if each != name)
        found = self._attempt(replace(request, without=others), visit)
        if not isinstance(found, WorkerFault):
            _count(visit, found)
            return False
        visit.note(found)
        self._exclude(visit, request.point, found, name)
        return True

    def _exclude(self, visit: Visit, point: Point, fault: WorkerFault, name: str) -> None:
        exclusion = visit.exclude(fault, name)
        self._faulty.setdefault((point.cell, name), {})[point.size] = exclusion.reason
        logger.warning("%s is excluded at this point (%s)", name, exclusion.reason)

    def _find_guilty(self, request: PointRequest, visit: Visit) -> None:
        """Exclude the candidates beside which the baseline fails, or acquit all of them.

        Raises:
            MeasuringError: the baseline fails alone as well.
        """
        point, suspects = request.point, visit.left
        logger.warning("nobody's fault so far: the baseline is measured alone, then beside each candidate")
        alone = replace(request, without=self._settings.candidates, repeats=_TRIAL_REPEATS, doubts={}, solo=True)
        for attempt in range(self._settings.retries + 1):
            found = self._attempt(alone, visit)
            if not isinstance(found, WorkerFault):
                _count(visit, found)
                break
            visit.note(found)
            if attempt == self._settings.retries:
                raise MeasuringError(
                    f"{point.cell.name} at {point.size} bytes: the baseline {self._settings.baseline} fails without "
                    f"any candidate beside it, {attempt + 1} times in a row: this is the machine's fault, or its own. "
                    f"The last time, {found}"
                ) from found
        for name in suspects:
            self._is_guilty(request, visit, name)
        visit.forgive()

    def _check_patience(self, visit: Visit) -> None:
        count = self._unexplained + visit.unexplained
        if count >= self._settings.max_faults:
            last = visit.faults[-1]
            raise MeasuringError(
                f"{count} faults in this run that no exclusion explains (`measure.max_faults`), the last one: "
                f"rank {last.rank} {last.reason}, {last.detail}. So many are the machine's fault: mend it, or raise "
                "`measure.max_faults`"
            )


def _count(visit: Visit, reports: Sequence[RankReport]) -> None:
    """Add what a trial ran to the visit's executions."""
    visit.executions.update(reports[0].check_executions)
    if reports[0].timings is not None:
        visit.executions.update(reports[0].timings.executions)


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
    timings = first.timings or Timings(calls={}, latencies={}, by_rank={}, executions={}, stopped_by="excluded")
    kept = [name for name in timings.latencies if name not in excluded]
    return PointResult(
        point.cell,
        point.size,
        {name: tuple(_microseconds(value) for value in timings.latencies[name]) for name in kept},
        exclusions=tuple(found),
        executions=dict(Counter(first.check_executions) + Counter(timings.executions)),
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
    told = [(rank, reasons[name]) for rank, reasons in enumerate(by_rank) if name in reasons]
    rank, text = next((item for item in told if item[1] != NOT_MADE_ELSEWHERE), told[0])
    everywhere = all(reasons.get(name) == text for reasons in by_rank)
    return text if everywhere else f"rank {rank}: {text}"


def _microseconds(seconds: float) -> float:
    """To a tenth of a nanosecond, which no clock here resolves: more digits would only fill the storage."""
    return round(seconds * 1e6, 4)


def _now() -> str:
    """The time of day in UTC, ISO 8601, to the second: for evidence, never for measuring."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
