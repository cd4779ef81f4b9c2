"""The sweep: ask the study where to measure, measure there, keep it, until it is enough; then the table."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from ccl_dispatch.runtime.table import Platform, Table
from ccl_dispatch.tuner.build import build_table, executions
from ccl_dispatch.tuner.config_model import SweepConfig, config_digest
from ccl_dispatch.tuner.emit import write_table
from ccl_dispatch.tuner.faults import count_faults
from ccl_dispatch.tuner.files import remove_parts
from ccl_dispatch.tuner.launch.given import GivenRanks
from ccl_dispatch.tuner.machine import sweep_platform
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.plan import Plan, make_measurer, make_plan
from ccl_dispatch.tuner.progress import Progress
from ccl_dispatch.tuner.ranks import slow_ranks
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import Budget, Outlook, PointSampler, RegretSampler
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
            "faults": count_faults(self.results),
            "slow_ranks": [item.text() for item in slow_ranks(self.results)],
            "table": str(self.path),
            "digest": self.table.digest,
        }


def run_sweep(
    config: SweepConfig,
    storage_url: str,
    out: Path,
    log_folder: Path,
    progress: Progress,
    *,
    measurer: Callable[[Plan, Path], Measurer] = make_measurer,
    given: GivenRanks | None = None,
) -> SweepOutcome:
    """Measure, search, fit, write. Continues the study that is in the storage; Ctrl-C leaves one that can be continued.

    Args:
        storage_url: see `open_storage`.
        out: where the table goes; replaced in one step at the end.
        log_folder: where workers log.
        measurer: what makes the plan's measurer; it gets `log_folder` as well.
        given: the ranks to use, where a launcher started them.

    Raises:
        StorageError, UsageError, MeasuringError, OutputError: see there; all completed points are in the storage.
        KeyboardInterrupt: as it came; likewise.
    """
    began = time.perf_counter()
    plan = make_plan(config, given)
    # The matrices of the search are small: threads of BLAS would only take cores from the workers.
    with threadpool_limits(1):
        return _run(plan, storage_url, out, lambda: measurer(plan, log_folder), progress, began)


def _run(
    plan: Plan, storage_url: str, out: Path, measurer: Callable[[], Measurer], progress: Progress, began: float
) -> SweepOutcome:
    with ExitStack() as stack:
        # Before there is a study: one that was begun on the wrong machine could never be continued.
        source = stack.enter_context(measurer())
        meta = study_meta(plan)
        sampler = make_sampler(plan)
        storage = stack.enter_context(open_storage(storage_url, write=True))
        if storage.mended_bytes:
            logger.warning("%s ended in a torn line; %d bytes were set aside", storage_url, storage.mended_bytes)
        remove_parts(str(out))
        study = SweepStudy.create_or_continue(storage, meta, sampler)
        whole, lost = study.recover()
        if whole or lost:
            logger.warning("taken over from an ended sweep: %d points completed, %d to be measured again", whole, lost)
        results = study.results()
        progress.begin(plan, results)
        stopped_by, worker_seconds = "searched", 0.0
        outlook = sampler.outlook(study.study)
        if outlook.proposal is not None:
            source.remember(results)
            source.start()
            ready = time.perf_counter()
            stopped_by, outlook = _measure_all(plan, study, sampler, source, results, progress)
            worker_seconds = time.perf_counter() - ready
        progress.stopped(stopped_by, outlook)
        table = build_table(study.meta, results)
        write_table(table, out)
    return SweepOutcome(table, out, tuple(results), stopped_by, time.perf_counter() - began, worker_seconds)


def study_meta(plan: Plan) -> StudyMeta:
    """What the study of this plan, on this machine or of this replay, says about itself."""
    config = plan.config
    replay = config.replay
    if replay is None:
        platform = sweep_platform(plan)
        settings = plan.settings
        source: dict[str, Any] = {"host": socket.gethostname(), "cache": "cold" if settings.cold else "warm"}
        if any(cell.mode != "eager" for cell in plan.cells.values()):
            source["graph_calls"] = settings.graph_calls
        if settings.placement.note:
            source["note"] = settings.placement.note
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


def make_sampler(plan: Plan) -> RegretSampler:
    """The search of a plan, with the plan's budget."""
    config = plan.config
    backends = len(plan.settings.backends)
    # A measured visit also checks every output before and after. What a visit really takes is learned from the first
    # ones (a captured graph runs its calls all at once).
    fixed = backends * (max(1, plan.settings.warmup) + (0 if config.replay else 2))
    return RegretSampler(
        plan.space,
        config.candidates,
        threshold=plan.settings.rule.threshold,
        confidence=plan.policy.confidence,
        budget=Budget(
            executions=config.budget.executions,
            seconds=config.budget.seconds,
            regret=config.budget.regret,
            fixed_executions=fixed,
            repeat_executions=backends,
        ),
        repeats=(plan.settings.rule.min_samples, plan.settings.rule.max_samples),
    )


def _measure_all(
    plan: Plan,
    study: SweepStudy,
    sampler: PointSampler,
    measurer: Measurer,
    results: list[PointResult],
    progress: Progress,
) -> tuple[str, Outlook]:
    """Measure until the search or a budget ends; appends to `results`, says which it was, and what is left to win."""
    spent = _Spent(plan, results)
    visits = Counter((result.cell, result.size) for result in results)
    while True:
        outlook = sampler.outlook(study.study)
        word = spent.budget(outlook)
        if word is not None:
            return word, outlook
        with _trial(study, plan) as (trial, cell_name, size, repeats):
            progress.point(trial.number, cell_name, size)
            cell = plan.cells[cell_name]
            number = plan.number(cell_name, size, visits[cell, size])
            # Where others share the study the trial's point may be another one than the outlook's.
            same = outlook.proposal is not None and outlook.proposal[:2] == (cell_name, size)
            doubts = outlook.proposal.doubts if same and outlook.proposal else {}
            result = measurer.measure(plan.point(cell_name, size), number, repeats, doubts)
            study.record(trial, result)
        visits[cell, size] += 1
        spent.add(result)
        results.append(result)
        progress.measured(result, study.verdicts(result), outlook)


@contextmanager
def _trial(study: SweepStudy, plan: Plan) -> Iterator[tuple[Any, str, int, int]]:
    """A trial that is failed when its point comes to nothing, for whatever reason."""
    trial, cell_name, size, repeats = study.ask(plan.space)
    try:
        yield trial, cell_name, size, repeats
    except BaseException as problem:
        try:
            study.give_up(trial, f"{type(problem).__name__}: {problem}"[:500])
        except Exception as second:  # noqa: BLE001 - what failed first is what the user must see
            logger.warning("trial %d could not be closed (%s); the next sweep takes care of it", trial.number, second)
        raise


class _Spent:
    """What has been spent of the config's budget, earlier runs of the study included."""

    def __init__(self, plan: Plan, results: list[PointResult]) -> None:
        self._budget = plan.config.budget
        self._virtual = plan.config.replay is not None
        self._executions = sum(executions(results).values())
        self._seconds = math.fsum(result.wall_seconds for result in results)
        self._began = time.perf_counter()

    def add(self, result: PointResult) -> None:
        """Count one more point."""
        self._executions += sum(result.executions.values())
        if self._virtual:
            self._seconds += result.wall_seconds

    def budget(self, outlook: Outlook) -> str | None:
        """The word for what ends the sweep now: a budget's name, or `searched`; None to go on."""
        budget = self._budget
        seconds = self._seconds + (0.0 if self._virtual else time.perf_counter() - self._began)
        if budget.seconds is not None and seconds >= budget.seconds:
            return "seconds"
        if budget.regret is not None and outlook.regret <= budget.regret:
            return "regret"
        if budget.executions is not None and self._executions >= budget.executions:
            return "executions"
        return outlook.exhausted or ("searched" if outlook.proposal is None else None)
