"""A worker's part in one point: who can take it, is the output right, then the timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ccl_dispatch.tuner.backends.base import Backend, Point
from ccl_dispatch.tuner.measure.arena import MAX_SLOTS, Arena
from ccl_dispatch.tuner.measure.check import Pattern
from ccl_dispatch.tuner.measure.invocation import Eager, Invocation, Replayed
from ccl_dispatch.tuner.measure.loop import time_point
from ccl_dispatch.tuner.measure.messages import MeasureSettings, PointRequest, RankReport
from ccl_dispatch.tuner.measure.team import Team


@dataclass(frozen=True)
class _Prepared:
    """A backend at a point, and the pairs of buffers that one run of it reads and writes."""

    invocation: Invocation
    slots: Sequence[tuple[torch.Tensor, torch.Tensor]]


class PointRunner:
    """Measures points with the backends of one world size, on one rank.

    Args:
        inputs: per backend the memory that its registered inputs must lie in, or None.
        refused: candidates that are not there, on any rank, and why.
    """

    def __init__(
        self,
        team: Team,
        backends: Mapping[str, Backend],
        pattern: Pattern,
        settings: MeasureSettings,
        arena: Arena,
        inputs: Mapping[str, torch.Tensor | None],
        refused: Mapping[str, str],
    ) -> None:
        self._team = team
        self._backends = backends
        self._pattern = pattern
        self._settings = settings
        self._arena = arena
        self._inputs = inputs
        self._refused = refused

    def measure(self, request: PointRequest) -> RankReport:
        """Every rank of the team calls it with the same request."""
        report = RankReport()
        point, team, device = request.point, self._team, self._arena.device
        usable = {name: backend for name, backend in self._backends.items() if name not in request.without}
        for name, backend in usable.items():
            reason = backend.supports(point)
            if reason is not None:
                report.unsupported[name] = reason
        report.agreed_unsupported = (*self._any_rank(tuple(usable), report.unsupported), *self._refused)
        report.unsupported |= self._refused
        usable = {name: backend for name, backend in usable.items() if name not in report.agreed_unsupported}
        if not request.check_only and self._settings.baseline not in usable:
            return report
        prepared: dict[str, _Prepared] = {}
        for name, backend in usable.items():
            team.enter(name)
            before = team.clock()
            prepared[name] = self._prepare(name, backend, point, report)
            report.check_seconds += team.clock() - before
            team.enter("")
        prepared = self._check(prepared, request, report, again=False)
        if not request.check_only:
            if self._settings.baseline not in prepared or (len(prepared) == 1 and not request.solo):
                return report
            report.conditions.append(device.condition())
            invocations = {name: item.invocation for name, item in prepared.items()}
            report.timings = time_point(team, invocations, request, self._settings)
            report.conditions.append(device.condition())
        # Once more with other input: what broke while calls followed each other closely must not pass.
        self._check(prepared, request, report, again=True)
        return report

    def _prepare(self, name: str, backend: Backend, point: Point, report: RankReport) -> _Prepared:
        """Bind the point's buffers, and capture the calls where the mode says so."""
        settings, arena = self._settings, self._arena
        graph = point.cell.mode != "eager"
        slots = arena.slots(point, self._inputs[name] if point.cell.mode == "graph" else None)
        bound = [backend.prepare(point, source, target) for source, target in slots]
        flush = arena.needs_flush(point)
        if not graph:
            stream = settings.timing == "back_to_back"
            eager = Eager(arena.device, bound, region_seconds=self._team.region_seconds, stream=stream, flush=flush)
            return _Prepared(eager, slots[:1])
        count = settings.graph_calls
        captured = [bound[index % len(bound)] for index in range(count + 1)]
        replay, align = arena.device.capture([captured[:-1], captured[-1:]], backend.capture)
        report.check_executions[name] = report.check_executions.get(name, 0) + 1  # the first call is made uncaptured
        return _Prepared(Replayed(arena.device, replay, align, count, flush=flush), slots[:count])

    def _check(
        self, prepared: Mapping[str, _Prepared], request: PointRequest, report: RankReport, *, again: bool
    ) -> dict[str, _Prepared]:
        """Run each backend once on poisoned outputs; those that were right on every rank."""
        team, point = self._team, request.point
        for index, (name, item) in enumerate(prepared.items()):
            # Every check has input of its own: the output of the backend before is wrong for this one.
            first_round = ((2 * request.number + again) * len(self._backends) + index) * MAX_SLOTS
            for slot, (source, target) in enumerate(item.slots):
                source.view(-1).view(torch.uint8).copy_(self._pattern.input(point, team.rank, first_round + slot))
                self._pattern.poison(target, point, team.world_size, first_round + slot)
            self._arena.device.synchronize()
            team.enter(name)
            before = team.clock()
            team.barrier()
            item.invocation.run()
            team.barrier()
            report.check_seconds += team.clock() - before
            team.enter("")
            report.check_executions[name] = report.check_executions.get(name, 0) + item.invocation.calls
            for slot, (_, target) in enumerate(item.slots):
                wrong = self._pattern.mistakes(target, point, team.world_size, first_round + slot)
                if wrong:
                    report.wrong[name] = f"{wrong} (after timing)" if again else wrong
                    break
        bad = self._any_rank(tuple(prepared), report.wrong)
        report.agreed_wrong = tuple(dict.fromkeys((*report.agreed_wrong, *bad)))
        return {name: item for name, item in prepared.items() if name not in bad}

    def _any_rank(self, names: tuple[str, ...], problems: Mapping[str, str]) -> tuple[str, ...]:
        """The names that at least one rank has a problem with, alike on all ranks."""
        flags = [1.0 if name in problems else 0.0 for name in names]
        mask = self._team.decide(
            flags, lambda rows: sum(1 << bit for bit in range(len(names)) if any(row[bit] for row in rows))
        )
        return tuple(name for bit, name in enumerate(names) if mask >> bit & 1)
