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
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.table import Platform, Table
from ccl_dispatch.runtime.units import exact_size
from ccl_dispatch.tuner.budgeting import Spent, make_sampler, no_room
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
from ccl_dispatch.tuner.search import Outlook, Proposal, RegretSampler
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
        study, sampler = _open_study(stack, plan, storage_url, out, patience=patience, replace_any=replace_any)
        alone = study.storage.exclusive
        if not alone:
            node = replace(node, name=node.named())
            # Nodes of another platform may write into the same folder.
            out = own_path(out, study.meta.name, config.name)
        if not replace_any:
            # In a journal of its own a config has one table, of the platform that was measured last.
            names = of_config(studies_in(study.storage), config.name) if alone else []
            others = [SweepStudy.load(study.storage, name) for name in names if name != study.meta.name]
            check_replaceable(out, *((one.meta, one.results()) for one in (study, *others)))
        rescue = None if alone else out.parent
        worker = stack.enter_context(
            StudyWorker(study, plan.space, node, asdict(config.budget), waiting=progress.waiting, rescue=rescue)
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
        search = _Search(plan, study, sampler, worker, source, Spent(plan, known, alone=alone), progress)
        end = search.run(known, common)
        progress.stopped(end.word, end.outlook)
        results = worker.results()
        if not results and end.word in ("executions", "seconds"):
            raise UsageError(no_room(plan, end.word))
        table = build_table(study.meta, results)
        write_table(table, out)
    unmeasured, partly = uncovered(plan, table)
    took = time.perf_counter() - began
    return SweepOutcome(
        table,
        out,
        tuple(results),
        end.word,
        took,
        end.worker_seconds,
        unmeasured,
        partly,
        unmeasured_shapes(plan, {(result.cell, result.size) for result in results}),
        end.left,
        config.budget.regret,
    )


def _open_study(
    stack: ExitStack, plan: Plan, storage_url: str, out: Path, *, patience: float, replace_any: bool
) -> tuple[SweepStudy, RegretSampler]:
    """The plan's study in the storage, open until `stack` is left, and its search.

    Raises:
        UsageError: the budget has no room for a single point, or what lies at `out` may not be replaced by the table of
            a study that is not there yet.
        StorageError: see `open_storage` and `SweepStudy.create_or_continue`.
    """
    meta = study_meta(plan)
    journal = journal_path(storage_url)
    if journal is not None and not journal.exists() and (used_up := make_sampler(plan).judge([]).exhausted):
        # Nor is there a study for what could not measure a single point.
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
    return SweepStudy.create_or_continue(storage, meta, sampler), sampler


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


class _End(NamedTuple):
    """How a search ended.

    Attributes:
        word: `searched`, or the budget that was met.
        outlook: what the search thinks then.
        worker_seconds: from ready workers to the last point, 0 when nothing was left to measure.
        now: it has ended just now, and not in an earlier run.
    """

    word: str
    outlook: Outlook
    worker_seconds: float = 0.0
    now: bool = True

    @property
    def left(self) -> float | None:
        """What more measuring could still win, as a share, where that ended it now."""
        return math.expm1(self.outlook.regret) if self.word == "regret" and self.now else None


@dataclass(frozen=True)
class _Search:
    """A sweep at work: ask the study where to measure, measure there, keep it, until it is enough."""

    plan: Plan
    study: SweepStudy
    sampler: RegretSampler
    worker: StudyWorker
    measurer: Measurer
    spent: Spent
    progress: Progress

    def run(self, known: Sequence[PointResult], common: int) -> _End:
        """Measure until the search or a budget ends.

        Args:
            known: the points that earlier runs of the study have measured.
            common: how many points each node of a shared storage measures first.

        Raises:
            UsageError: the budget has no room for a single point.
        """
        study, storage = self.study, self.study.storage
        outlook, word = self._decide()
        if not known and not study.running() and outlook.exhausted:
            # Before workers are started for nothing.
            raise UsageError(no_room(self.plan, outlook.exhausted))
        ended = study.ended(asdict(self.plan.config.budget)) if storage.exclusive else None
        if ended is not None:
            # Decided anew it might go on: starting the workers took a part of the seconds that is not spent now.
            return _End(ended, outlook, now=False)
        if outlook.proposal is None and not study.running():
            if study.goes_on():
                self._note_end()
            return _End(word or "searched", outlook)
        self.measurer.remember(known)
        self.measurer.start()
        ready = time.perf_counter()
        # Who shares an SQLite file shares the machine as well.
        if not storage.exclusive and not storage.url.startswith("sqlite"):
            self._measure_common(outlook, common)
        word, outlook = self._measure_all()
        return _End(word, outlook, time.perf_counter() - ready)

    def _decide(self) -> tuple[Outlook, str | None]:
        """What the search thinks of the study now, and the word for what ends it, None to go on."""
        outlook = self.sampler.outlook(self.study.study)
        return outlook, self.spent.budget(outlook, self.sampler.observations(self.study.study))

    def _measure_all(self) -> tuple[str, Outlook]:
        """Measure until the search or a budget ends; says which it was, and what the search thinks then."""
        while True:
            asked = self.worker.ask(self._decide)
            if asked.claim is None:
                return asked.ended, asked.outlook
            self._measure(asked.claim, asked.outlook, asked.outlook.proposal)

    def _note_end(self) -> None:
        """Let a study say that its search has ended: one that was cut short when nothing was left to measure."""
        claim = self.worker.ask(self._decide).claim
        if claim is not None:
            self.worker.give_up(claim, "asked for to end the search, which another process has taken up again")

    def _measure_common(self, outlook: Outlook, most: int) -> None:
        """Measure the points that every node measures, as far as this one has not, their repetitions to the last."""
        plan = self.plan
        for visit in still_to_do(plan, common_visits(plan, most), self.study.trials(), plan.node):
            claim = self.worker.take(visit.cell, visit.size, visit.repeats, {COMMON: visit.round})
            if claim is None:
                return
            self._measure(claim, outlook, None, thorough=True)

    def _measure(self, claim: Claim, outlook: Outlook, proposal: Proposal | None, *, thorough: bool = False) -> None:
        """Measure the claim's point, keep its samples and tell of them.

        Args:
            outlook: what the search thought before it.
            proposal: what the search wants to know there; None where it did not ask.
            thorough: take all repetitions, settled or not.
        """
        plan, worker, progress = self.plan, self.worker, self.progress
        with _given_up_on_failure(worker, claim):
            progress.point(claim.number, claim.cell, claim.size)
            point = plan.point(claim.cell, claim.size)
            number = plan.number(claim.cell, claim.size, claim.visit)
            request = PointRequest(point, number, repeats=claim.repeats, thorough=thorough)
            if proposal is not None:
                request = replace(request, doubts=proposal.doubts, warm_up=proposal.warm_up)
            result = worker.record(claim, self.measurer.measure(request))
        self.spent.add(result)
        progress.measured(result, self.study.verdicts(result), outlook)


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
