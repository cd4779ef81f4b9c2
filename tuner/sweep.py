"""The sweep: ask the study where to measure, measure there, keep it, until it is enough; then the table."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.table import Platform, Table
from ccl_dispatch.tuner.build import build_table, executions
from ccl_dispatch.tuner.config_model import SweepConfig, config_digest
from ccl_dispatch.tuner.emit import write_table
from ccl_dispatch.tuner.fit import remaining_regret
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.plan import Plan, make_measurer, make_plan
from ccl_dispatch.tuner.progress import Progress
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import CoarseToFineSampler, PointSampler
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep ended with.

    `stopped_by` is `searched`, or the budget that was met: `regret`, `seconds` or `executions`.
    `worker_seconds` is the time from ready workers to the last point, 0 when nothing was left to measure.
    """

    table: Table
    path: Path
    results: tuple[PointResult, ...]
    stopped_by: str
    wall_seconds: float
    worker_seconds: float

    def summary(self) -> dict[str, Any]:
        """The summary as JSON data; counts and seconds of collectives are those of the whole study."""
        regrets = [cell.regret_estimate for cell in self.table.cells if cell.regret_estimate is not None]
        return {
            "cells": len(self.table.cells),
            "trials": len(self.results),
            "executions": executions(self.results),
            "collective_seconds": round(sum(result.collective_seconds for result in self.results), 6),
            "wall_seconds": round(self.wall_seconds, 3),
            "worker_seconds": round(self.worker_seconds, 3),
            "stopped_by": self.stopped_by,
            "regret_estimate": sum(regrets) / len(regrets) if regrets else None,
            "provenance": self.table.provenance,
            "table": str(self.path),
            "digest": self.table.digest,
        }


def run_sweep(config: SweepConfig, storage_url: str, out: Path, log_folder: Path, progress: Progress) -> SweepOutcome:
    """Measure, search, fit, write. Continues the study that is in the storage; Ctrl-C leaves one that can be continued.

    Args:
        storage_url: see `open_storage`.
        out: where the table goes; replaced in one step at the end.
        log_folder: where workers log.

    Raises:
        StorageError, UsageError, MeasuringError, OutputError: see there; all completed points are in the storage.
        KeyboardInterrupt: as it came; likewise.
    """
    began = time.perf_counter()
    plan = make_plan(config)
    meta = study_meta(plan)
    sampler = CoarseToFineSampler(plan.space, plan.settings.rule.threshold)
    with ExitStack() as stack:
        storage = stack.enter_context(open_storage(storage_url, write=True))
        if storage.mended_bytes:
            logger.warning("%s ended in a torn line; %d bytes were set aside", storage_url, storage.mended_bytes)
        study = SweepStudy.create_or_continue(storage, meta, sampler)
        whole, lost = study.recover()
        if whole or lost:
            logger.warning("taken over from an ended sweep: %d points completed, %d to be measured again", whole, lost)
        results = study.results()
        progress.begin(plan, results)
        stopped_by, worker_seconds = "searched", 0.0
        if sampler.next_point(study.study) is not None:
            measurer = stack.enter_context(make_measurer(plan, log_folder))
            measurer.start()
            ready = time.perf_counter()
            stopped_by = _measure_all(plan, study, sampler, measurer, results, progress)
            worker_seconds = time.perf_counter() - ready
        table = build_table(study.meta, results)
        write_table(table, out)
    return SweepOutcome(table, out, tuple(results), stopped_by, time.perf_counter() - began, worker_seconds)


def study_meta(plan: Plan) -> StudyMeta:
    """What the study of this plan, on this machine or of this replay, says about itself."""
    config = plan.config
    replay = config.replay
    if replay is None:
        platform = this_platform("cpu")
        source: dict[str, Any] = {"host": socket.gethostname()}
    else:
        platform = Platform("", "", plan.replayed_platform, 0, "", {}, {})
        source = {
            "replayed_file": Path(replay.file).name,
            "replayed_sha256": replay.sha256,
            "replayed_where": dict(replay.where),
            "noise": replay.noise,
            "outliers": replay.outliers,
        }
    return StudyMeta(
        name=config.name,
        provenance="measured" if replay is None else "replayed",
        baseline=config.baseline,
        candidates=config.candidates,
        policy=plan.policy,
        platform=platform,
        identity=config.identity(),
        digest=config_digest(config),
        workload=plan.workload,
        source=source,
    )


def _measure_all(
    plan: Plan,
    study: SweepStudy,
    sampler: PointSampler,
    measurer: Measurer,
    results: list[PointResult],
    progress: Progress,
) -> str:
    """Measure until the search or a budget ends; appends to `results` and says which it was."""
    budget = _Budget(plan, results, virtual=plan.config.replay is not None)
    while True:
        word = budget.spent(results)
        if word is not None:
            return word
        if sampler.next_point(study.study) is None:
            return "searched"
        with _trial(study, plan) as (trial, cell_name, size):
            progress.point(cell_name, size)
            cell = plan.cells[cell_name]
            visit = sum(1 for result in results if result.cell == cell and result.size == size)
            result = measurer.measure(plan.point(cell_name, size), plan.number(cell_name, size, visit))
            study.record(trial, result)
        results.append(result)
        progress.measured(result, study.verdicts(result), sampler.remaining(study.study))


@contextmanager
def _trial(study: SweepStudy, plan: Plan) -> Iterator[tuple[Any, str, int]]:
    """A trial that is failed when its point comes to nothing, for whatever reason."""
    trial, cell_name, size = study.ask(plan.space)
    try:
        yield trial, cell_name, size
    except BaseException as problem:
        try:
            study.give_up(trial, f"{type(problem).__name__}: {problem}"[:500])
        except Exception as second:  # noqa: BLE001 - what failed first is what the user must see
            logger.warning("trial %d could not be closed (%s); the next sweep takes care of it", trial.number, second)
        raise


@dataclass
class _Budget:
    """Whether the config's budget is used up. What earlier runs of the study spent counts."""

    plan: Plan
    earlier: list[PointResult]
    virtual: bool
    _before: float = field(init=False)
    _began: float = field(init=False)
    _regrets: dict[str, tuple[int, float]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._before = sum(result.wall_seconds for result in self.earlier)
        self._began = time.perf_counter()

    def spent(self, results: list[PointResult]) -> str | None:
        """The name of the budget that is used up."""
        budget = self.plan.config.budget
        if budget.executions is not None and sum(executions(results).values()) >= budget.executions:
            return "executions"
        if budget.seconds is not None and self._seconds(results) >= budget.seconds:
            return "seconds"
        if budget.regret is not None and self._regret(results) <= budget.regret:
            return "regret"
        return None

    def _seconds(self, results: list[PointResult]) -> float:
        if self.virtual:
            return sum(result.wall_seconds for result in results)
        return self._before + time.perf_counter() - self._began

    def _regret(self, results: list[PointResult]) -> float:
        """The mean over cells of what more measuring could still win; infinite until every cell has had its first look.

        Only the cells that changed are fitted again.
        """
        total = 0.0
        for name, cell in self.plan.cells.items():
            mine = [result for result in results if result.cell == cell]
            if not self._looked_at(name, mine):
                return float("inf")
            known = self._regrets.get(name)
            if known is None or known[0] != len(mine):
                workload = {size: (shape, weight) for shape, size, weight in self.plan.workload[cell]}
                value = remaining_regret(
                    cell,
                    mine,
                    baseline=self.plan.settings.baseline,
                    candidates=self.plan.settings.candidates,
                    policy=self.plan.policy,
                    workload=workload,
                )
                self._regrets[name] = known = (len(mine), value)
            total += known[1]
        return total / len(self.plan.cells)

    def _looked_at(self, name: str, mine: list[PointResult]) -> bool:
        """Both ends, all workload shapes and every second octave: an estimate from fewer would only be a guess."""
        sizes = self.plan.space.grid[name]
        measured = {result.size for result in mine}
        if not {sizes[0], sizes[-1], *self.plan.space.required[name]} <= measured:
            return False
        ordered = sorted(measured)
        return all(high <= 4 * low or _adjacent(sizes, low, high) for low, high in pairwise(ordered))


def _adjacent(sizes: tuple[int, ...], low: int, high: int) -> bool:
    return sizes.index(high) == sizes.index(low) + 1
