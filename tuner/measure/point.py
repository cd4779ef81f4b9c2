"""A worker's part in one point: who can take it, is the output right, then the timing."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ccl_dispatch.tuner.backends.base import Backend
from ccl_dispatch.tuner.measure.check import Pattern
from ccl_dispatch.tuner.measure.loop import time_point
from ccl_dispatch.tuner.measure.messages import MeasureSettings, PointRequest, RankReport
from ccl_dispatch.tuner.measure.team import Team


class PointRunner:
    """Measures points with the backends of one world size, on one rank."""

    def __init__(
        self, team: Team, backends: Mapping[str, Backend], pattern: Pattern, settings: MeasureSettings
    ) -> None:
        self._team = team
        self._backends = backends
        self._pattern = pattern
        self._settings = settings
        # Taken once: fresh memory for every point would cost more in page faults than a check does in copying.
        self._source = torch.empty(pattern.largest, dtype=torch.uint8)
        self._target = torch.empty(pattern.largest * team.world_size, dtype=torch.uint8)

    def measure(self, request: PointRequest) -> RankReport:
        """Every rank of the team calls it with the same request."""
        report = RankReport()
        point = request.point
        usable = {name: backend for name, backend in self._backends.items() if name not in request.without}
        for name, backend in usable.items():
            reason = backend.supports(point)
            if reason is not None:
                report.unsupported[name] = reason
        report.agreed_unsupported = self._any_rank(tuple(usable), report.unsupported)
        usable = {name: backend for name, backend in usable.items() if name not in report.agreed_unsupported}
        if self._settings.baseline not in usable:
            return report
        dtype = getattr(torch, point.cell.dtype)
        source = self._source[: point.size].view(dtype).view(point.input_shape)
        target = self._target[: point.size * self._team.world_size].view(dtype).view(point.output_shape)
        for name, backend in usable.items():
            self._team.enter(name)
            backend.prepare(point, source, target)
            self._team.enter("")
        usable = self._check(usable, request, source, target, report, again=False)
        if self._settings.baseline not in usable or len(usable) == 1:
            return report
        report.timings = time_point(self._team, usable, request, self._settings)
        # Once more with other input: what broke while calls followed each other closely must not pass.
        self._check(usable, request, source, target, report, again=True)
        return report

    def _check(
        self,
        backends: Mapping[str, Backend],
        request: PointRequest,
        source: torch.Tensor,
        target: torch.Tensor,
        report: RankReport,
        *,
        again: bool,
    ) -> dict[str, Backend]:
        """Run each backend once on poisoned output; those that were right on every rank."""
        team, point = self._team, request.point
        for index, (name, backend) in enumerate(backends.items()):
            # Every check has input of its own: the output of the backend before is wrong for this one.
            round_number = (2 * request.number + again) * len(self._backends) + index
            source.view(-1).view(torch.uint8).copy_(self._pattern.input(point, team.rank, round_number))
            self._pattern.poison(target, point, team.world_size, round_number)
            team.enter(name)
            before = team.clock()
            team.barrier()
            backend.run()
            team.barrier()
            report.check_seconds += team.clock() - before
            team.enter("")
            report.check_executions[name] = report.check_executions.get(name, 0) + 1
            wrong = self._pattern.mistakes(target, point, team.world_size, round_number)
            if wrong:
                report.wrong[name] = f"{wrong} (after timing)" if again else wrong
        bad = self._any_rank(tuple(backends), report.wrong)
        report.agreed_wrong = tuple(dict.fromkeys((*report.agreed_wrong, *bad)))
        return {name: backend for name, backend in backends.items() if name not in bad}

    def _any_rank(self, names: tuple[str, ...], problems: Mapping[str, str]) -> tuple[str, ...]:
        """The names that at least one rank has a problem with, alike on all ranks."""
        flags = [1.0 if name in problems else 0.0 for name in names]
        mask = self._team.decide(
            flags, lambda rows: sum(1 << bit for bit in range(len(names)) if any(row[bit] for row in rows))
        )
        return tuple(name for bit, name in enumerate(names) if mask >> bit & 1)
