"""The sweep: ask the study where to measure, measure there, keep it, until it is enough; then the table."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.table import Platform, Table
from ccl_dispatch.runtime.units import exact_size
from ccl_dispatch.tuner.budgeting import make_sampler, no_room
from ccl_dispatch.tuner.config.model import SweepConfig, config_digest
from ccl_dispatch.tuner.emit.build import build_table, executions
from ccl_dispatch.tuner.emit.origin import check_replaceable
from ccl_dispatch.tuner.emit.text import write_table
from ccl_dispatch.tuner.evidence.disturbed import disturbed_in_words
from ccl_dispatch.tuner.evidence.faults import count_faults
from ccl_dispatch.tuner.evidence.ranks import slow_ranks
from ccl_dispatch.tuner.files import remove_parts
from ccl_dispatch.tuner.fleet.common import DEFAULT_COMMON, common_visits, still_to_do
from ccl_dispatch.tuner.launch.given import GivenRanks
from ccl_dispatch.tuner.machine import sweep_platform
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.measure.messages import PointRequest
from ccl_dispatch.tuner.plan import Plan, make_measurer, make_plan, uncovered, unmeasured_shapes
from ccl_dispatch.tuner.progress import Progress
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import Outlook
from ccl_dispatch.tuner.search.base import Observation
from ccl_dispatch.tuner.study import Node, StudyMeta, StudyWorker, SweepStudy, open_storage
from ccl_dispatch.tuner.study.claims import COMMON, Claim
from ccl_dispatch.tuner.study.patience import DEFAULT_PATIENCE, words_of
from ccl_dispatch.tuner.study.platforms import of_config, own_path
from ccl_dispatch.tuner.study.storage import is_new, journal_path
from ccl_dispatch.tuner.study.sweep_study import studies_in

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep ended with.

    `stopped_by` is `searched`, or the budget that was met: `regret`, `seconds` or `executions`.
    `unmeasured` are the cells without a measurement, `partly` those that were not measured from end to end.
    `shapes` are the workload's shapes that were not measured themselves.
    `left` is what, to the search, more measuring could still win when it ended, as a share, and `wanted` what the
    config asks for; both None where that did not end it now.
    `worker_seconds` is the time from ready workers to the last point, 0 when nothing was left to measure.
    """

    table: Table
    path: Path
    results: tuple[PointResult, ...]
    stopped_by: str
    wall_seconds: float
    worker_seconds: float
    unmeasured: tuple[str, ...]
    partly: tuple[str, ...]
    shapes: tuple[str, ...] = ()
    left: float | None = None
    wanted: float | None = None

    def summary(self) -> dict[str, Any]:
        """The summary as JSON data; counts and seconds of collectives are those of the whole study."""
        regrets = [cell.regret_estimate for cell in self.table.cells if cell.regret_estimate is not None]
        return {
            "cells": len(self.table.cells),
            "points": len({(result.cell, result.size) for result in self.results}),
            "trials": len(self.results),
            "executions": executions(self.results),
            "collective_seconds": round(sum(result.collective_seconds for result in self.results), 6),
            "wall_seconds": round(self.wall_seconds, 3),
            "worker_seconds": round(self.worker_seconds, 3),
            "stopped_by": self.stopped_by,
            "regret_estimate": sum(regrets) / len(regrets) if regrets else None,
            "unmeasured_cells": list(self.unmeasured),
            "partly_measured_cells": list(self.partly),
            "unmeasured_shapes": list(self.shapes),
            "provenance": self.table.provenance,
            "faults": count_faults(self.results),
            "slow_ranks": [item.text() for item in slow_ranks(self.results)],
            "disturbed": disturbed_in_words(self.table),
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
    node: Node | None = None,
    patience: float = DEFAULT_PATIENCE,
    common: int = DEFAULT_COMMON,
    replace_any: bool = True,
) -> SweepOutcome:
    """Measure, search, fit, write. Continues the study that is in the storage; Ctrl-C leaves one that can be continued.

    Args:
        storage_url: see `open_storage`.
        out: where the table goes; replaced in one step at the end.
        log_folder: where workers log.
        measurer: what makes the plan's measurer; it gets `log_folder` as well.
        given: the ranks to use, where a launcher started them.
        node: this one, among those that share the storage.
        patience: for how many seconds a shared storage that is gone is waited for.
        common: how many points each node of a shared storage measures first, so that nodes can be compared.
        replace_any: whether whatever lies at `out` is replaced; else only a table that was made from this study.

    Raises:
        UsageError: among others where the budget has no room for a single point.
        StorageError, MeasuringError, OutputError: see there; all completed points are in the storage.
        KeyboardInterrupt: as it came; likewise.
    """
    began = time.perf_counter()
    node = replace(node or Node(), ranks=max(config.world_sizes))
    plan = replace(make_plan(config, given), node=node.named())
    # The matrices of the search are small: threads of BLAS would only take cores from the workers.
    with threadpool_limits(1), ExitStack() as stack:
        # Before there is a study: one that was begun on the wrong machine could never be continued.
        source = stack.enter_context(measurer(plan, log_folder))
        meta = study_meta(plan)
        journal = journal_path(storage_url)
        if journal is not None and not journal.exists() and (used_up := make_sampler(plan).judge([]).exhausted):
            # Nor for what could not measure a single point.
            raise UsageError(no_room(plan, used_up))
        if not replace_any and is_new(storage_url):
            # Here, so that a sweep that is refused leaves nothing behind.
            check_replaceable(out, (meta, ()))
        storage = stack.enter_context(open_storage(storage_url, write=True, patience=patience))
        if storage.mended_bytes:
            logger.warning("%s ended in a torn line; %d bytes were set aside", storage_url, storage.mended_bytes)
        if not replace_any and meta.name not in studies_in(storage):
            check_replaceable(out, (meta, ()))
        remove_parts(str(out))
        sampler = make_sampler(plan, alone=storage.exclusive)
        study = SweepStudy.create_or_continue(storage, meta, sampler)
        if not storage.exclusive:
            node = replace(node, name=node.named())
            # Nodes of another platform may write into the same folder.
            out = own_path(out, study.meta.name, config.name)
        if not replace_any:
            # In a journal of its own a config has one table, of the platform that was measured last.
            names = of_config(studies_in(storage), config.name) if storage.exclusive else []
            others = [SweepStudy.load(storage, name) for name in names if name != study.meta.name]
            check_replaceable(out, *((one.meta, one.results()) for one in (study, *others)))
        worker = stack.enter_context(
            StudyWorker(
                study,
                plan.space,
                node,
                asdict(config.budget),
                waiting=progress.waiting,
                rescue=None if storage.exclusive else out.parent,
            )
        )
        whole, lost = worker.recover()
        if whole or lost:
            logger.warning(
                "of the visits that an ended sweep was at: %d completed, %d to be made again; all before are kept",
                whole,
                lost,
            )
        known = study.results()
        progress.begin(plan, known)
        spent = _Spent(plan, known, alone=storage.exclusive)

        def decide() -> tuple[Outlook, str | None]:
            outlook = sampler.outlook(study.study)
            return outlook, spent.budget(outlook, sampler.observations(study.study))

        stopped_by, worker_seconds, left = "searched", 0.0, None
        outlook = sampler.outlook(study.study)
        if not known and not study.running() and outlook.exhausted:
            # Before workers are started for nothing.
            raise UsageError(no_room(plan, outlook.exhausted))
        ended = study.ended(asdict(config.budget)) if storage.exclusive else None
        if ended is not None:
            # Decided anew it might go on: starting the workers took a part of the seconds that is not spent now.
            stopped_by = ended
        elif outlook.proposal is not None or study.running():
            source.remember(known)
            source.start()
            ready = time.perf_counter()
            # Who shares an SQLite file shares the machine as well.
            if not storage.exclusive and not storage.url.startswith("sqlite"):
                _measure_common(plan, study, worker, source, spent, progress, outlook, common)
            stopped_by, outlook = _measure_all(plan, study, worker, decide, source, spent, progress)
            worker_seconds = time.perf_counter() - ready
        else:
            stopped_by = spent.budget(outlook, sampler.observations(study.study)) or stopped_by
            if study.goes_on():
                _note_end(worker, decide)
        if stopped_by == "regret" and ended is None:
            left = math.expm1(outlook.regret)
        progress.stopped(stopped_by, outlook)
        results = worker.results()
        if not results and stopped_by in ("executions", "seconds"):
            raise UsageError(no_room(plan, stopped_by))
        table = build_table(study.meta, results)
        write_table(table, out)
    unmeasured, partly = uncovered(plan, table)
    took = time.perf_counter() - began
    return SweepOutcome(
        table,
        out,
        tuple(results),
        stopped_by,
        took,
        worker_seconds,
        unmeasured,
        partly,
        unmeasured_shapes(plan, {(result.cell, result.size) for result in results}),
        left,
        config.budget.regret,
    )


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
        if replay.slow:
            source["made_slower"] = {
                name: f"{slow.by:.1%} from {exact_size(slow.start)}" for name, slow in replay.slow.items()
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
    worker: StudyWorker,
    decide: Callable[[], tuple[Outlook, str | None]],
    measurer: Measurer,
    spent: _Spent,
    progress: Progress,
) -> tuple[str, Outlook]:
    """Measure until the search or a budget ends; says which it was, and what the search thinks then."""
    while True:
        asked = worker.ask(decide)
        if asked.claim is None:
            return asked.ended, asked.outlook
        with _given_up_on_failure(worker, asked.claim):
            result = _measured(plan, asked.claim, asked.outlook, measurer, progress)
            result = worker.record(asked.claim, result)
        spent.add(result)
        progress.measured(result, study.verdicts(result), asked.outlook)


def _note_end(worker: StudyWorker, decide: Callable[[], tuple[Outlook, str | None]]) -> None:
    """Let a study say that its search has ended: one that was cut short when nothing was left to measure."""
    claim = worker.ask(decide).claim
    if claim is not None:
        worker.give_up(claim, "asked for to end the search, which another process has taken up again")


def _measure_common(
    plan: Plan,
    study: SweepStudy,
    worker: StudyWorker,
    measurer: Measurer,
    spent: _Spent,
    progress: Progress,
    outlook: Outlook,
    most: int,
) -> None:
    """Measure the points that every node measures, as far as this one has not."""
    for visit in still_to_do(plan, common_visits(plan, most), study.trials(), plan.node):
        claim = worker.take(visit.cell, visit.size, visit.repeats, {COMMON: visit.round})
        if claim is None:
            return
        with _given_up_on_failure(worker, claim):
            result = worker.record(claim, _measured(plan, claim, None, measurer, progress))
        spent.add(result)
        progress.measured(result, study.verdicts(result), outlook)


def _measured(plan: Plan, claim: Claim, outlook: Outlook | None, measurer: Measurer, progress: Progress) -> PointResult:
    """Measure the claim's point; without an outlook it is a common one, whose repetitions are taken to the last."""
    progress.point(claim.number, claim.cell, claim.size)
    point = plan.point(claim.cell, claim.size)
    number = plan.number(claim.cell, claim.size, claim.visit)
    request = PointRequest(point, number, repeats=claim.repeats, thorough=outlook is None)
    if outlook is not None and outlook.proposal is not None:
        request = replace(request, doubts=outlook.proposal.doubts, warm_up=outlook.proposal.warm_up)
    return measurer.measure(request)


@contextmanager
def _given_up_on_failure(worker: StudyWorker, claim: Claim) -> Iterator[None]:
    """The claim's trial is failed when its point comes to nothing, for whatever reason."""
    try:
        yield
    except BaseException as problem:
        try:
            worker.give_up(claim, f"{type(problem).__name__}: {problem}"[:500])
        except Exception as second:  # noqa: BLE001 - what failed first is what the user must see
            if str(second) != str(problem):
                told = words_of(second)
                logger.warning("trial %d could not be closed (%s); the next sweep takes care of it", claim.number, told)
        raise


class _Spent:
    """What has been spent of the config's budget, earlier runs of the study included.

    Where several nodes share a study, what all of them measured counts: `seconds` are then the nodes' together.
    """

    def __init__(self, plan: Plan, results: Sequence[PointResult], *, alone: bool) -> None:
        self._budget = plan.config.budget
        self._alone = alone
        self._virtual = plan.config.replay is not None
        self._executions = sum(executions(results).values())
        self._seconds = math.fsum(result.wall_seconds for result in results)
        self._began = time.perf_counter()

    def add(self, result: PointResult) -> None:
        """Count one more point."""
        self._executions += sum(result.executions.values())
        if self._virtual:
            self._seconds += result.wall_seconds

    def budget(self, outlook: Outlook, observations: Sequence[Observation]) -> str | None:
        """The word for what ends the sweep now: a budget's name, or `searched`; None to go on."""
        budget = self._budget
        used = self._executions
        seconds = self._seconds + (0.0 if self._virtual else time.perf_counter() - self._began)
        if not self._alone:
            visits = [observation.visit for observation in observations if observation.visit is not None]
            used = sum(visit.executions for visit in visits)
            seconds = math.fsum(visit.seconds for visit in visits)
        if budget.seconds is not None and seconds >= budget.seconds:
            return "seconds"
        if budget.regret is not None and outlook.regret <= budget.regret:
            return "regret"
        if budget.executions is not None and used >= budget.executions:
            return "executions"
        return outlook.exhausted or ("searched" if outlook.proposal is None else None)
