"""Measuring from a file: the same loop, stopping and book-keeping as on a machine, on a virtual clock."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

from ccl_dispatch.tuner.backends.base import BackendContext
from ccl_dispatch.tuner.backends.replay import ReplayBackend
from ccl_dispatch.tuner.config.model import SlowNode
from ccl_dispatch.tuner.device.host import HostDevice
from ccl_dispatch.tuner.measure.invocation import Eager, Invocation
from ccl_dispatch.tuner.measure.loop import time_point
from ccl_dispatch.tuner.measure.measurer import point_result
from ccl_dispatch.tuner.measure.messages import MeasureSettings, PointRequest, RankReport
from ccl_dispatch.tuner.measure.team import VirtualTeam
from ccl_dispatch.tuner.measurements.replay import ReplayCurves
from ccl_dispatch.tuner.samples import PointExclusion, PointResult


class ReplayMeasurer:
    """Serves the measured latencies of `curves`. Times are virtual, and no output is checked: there is none.

    What the file excludes at a size is excluded with the file's reason, before anything is asked of its latencies.

    With a `pace` a point also takes as long as it did, times the pace. A `slow` node has longer latencies
    from a size on.

    A point's draws depend on the seed, the point and its number alone, so that a continued replay goes on as an
    uninterrupted one would.
    """

    def __init__(
        self,
        curves: ReplayCurves,
        settings: MeasureSettings,
        seed: int,
        *,
        pace: float = 0.0,
        slow: SlowNode | None = None,
    ) -> None:
        self._curves = curves
        # `min_seconds` keeps book-keeping in proportion to a real clock; a virtual one has no use for it.
        self._settings = replace(settings, min_seconds=0.0)
        self._seed = seed
        self._pace = pace
        self._slow = slow or SlowNode(0.0)

    def __enter__(self) -> ReplayMeasurer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is running."""

    def remember(self, results: Sequence[PointResult]) -> None:
        """Files have no faults to remember."""

    def start(self) -> None:
        """Nothing has to be started."""

    def measure(self, request: PointRequest) -> PointResult:
        """See `Measurer`."""
        team, point = VirtualTeam(), request.point
        rng = random.Random(f"{self._seed}/{request.number}/{point.cell.name}/{point.size}")
        report = RankReport()
        factor = 1.0 + self._slow.by if point.size >= self._slow.start else 1.0
        stream = self._settings.timing == "back_to_back"
        usable: dict[str, Invocation] = {}
        exclusions: dict[str, tuple[PointExclusion, ...]] = {}
        for name in self._settings.backends:
            if stated := self._curves.excluded(point.cell, name, point.size):
                exclusions[name] = stated
                continue
            options = {"name": name, "curves": self._curves, "team": team, "rng": rng, "factor": factor}
            backend = ReplayBackend(BackendContext(None, 0, 1, options=options))
            reason = backend.supports(point)
            if reason is None:
                bound = [backend.prepare(point, None, None)]
                usable[name] = Eager(HostDevice(), bound, region_seconds=0.0, stream=stream)
            else:
                report.unsupported[name] = reason
        baseline = self._settings.baseline
        if baseline in report.unsupported:
            # Sizes at which candidates are excluded reach beyond what was measured of the baseline.
            why = f"nothing to compare it with: {baseline} is {report.unsupported[baseline]}"
            report.unsupported |= dict.fromkeys(usable, why)
            usable = {}
        if not usable.keys() - {baseline}:
            # Where nothing may replace the baseline it is not timed, whatever is known of it.
            report.unsupported.pop(baseline, None)
            exclusions.pop(baseline, None)
        report.agreed_unsupported = tuple(report.unsupported)
        if baseline in usable and len(usable) > 1:
            report.timings = time_point(team, usable, request, self._settings)
        if self._pace:
            time.sleep(self._pace * team.clock())
        stated = tuple(item for items in exclusions.values() for item in items)
        return point_result(point, [report], self._settings, stated, team.clock(), measured_at="")
