"""The run: rounds over all sizes by several sets of workers, looked at now and then, until settled or time is up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.evidence.others import DISTURBING, Usage, others_share
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.measure.messages import PointRequest
from ccl_dispatch.tuner.plan import Plan, make_measurer
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.verify.excluded import excluded_by, right_again
from ccl_dispatch.tuner.verify.judge import Evidence, chooser, judge, suspicious
from ccl_dispatch.tuner.verify.reference import Reference
from ccl_dispatch.tuner.verify.setup import Setup, VerifyOptions, prepare
from ccl_dispatch.tuner.verify.spots import Spot
from ccl_dispatch.tuner.verify.verdict import UNSURE, CellVerdict, Verification
from ccl_dispatch.tuner.verify.visits import Place, Visit, visit_of

# Rounds by one set of workers before it is replaced: sets have their own luck, which more rounds don't average out.
# Where rounds are short more of them are gone, so that measuring takes as long as starting at least.
ROUNDS_PER_SET = 2
_MOST_ROUNDS_PER_SET = 6
# Numbers of sets after which the result is looked at; a finding needs as many as the second at least.
LOOKS = (2, 4, 8, 16)

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Round:
    """One round: its results, whose workers they are, and what share of the machine others used meanwhile."""

    worker_set: int
    results: tuple[PointResult, ...]
    others: float | None

    @property
    def calm(self) -> bool:
        return self.others is None or self.others < DISTURBING


@dataclass(frozen=True)
class Verified:
    """A finished verification, with what it rests on."""

    verification: Verification
    setup: Setup
    results: tuple[PointResult, ...]
    visits: Mapping[Place, Sequence[Visit]]

    def as_reference(self, when: str) -> Reference:
        """The visits of this run, to compare later ones with."""
        sets = 1 + max((visit.set for own in self.visits.values() for visit in own), default=0)
        visits = {place: tuple(own) for place, own in self.visits.items()}
        return Reference(self.verification.digest, self.setup.platform, visits, sets, (when,))


def verify_table(
    path: Path,
    options: VerifyOptions,
    log_folder: Path,
    say: Say,
    *,
    measurer: Callable[[Plan, Path], Measurer] = make_measurer,
) -> Verified:
    """Measure the table's cells again and judge them.

    Args:
        log_folder: where workers log.
        say: told what is going on, a line at a time.
        measurer: what makes the plan's measurer; it gets `log_folder` as well.

    Raises:
        TableError, UsageError, StorageError: see `load_table` and `prepare`.
        MeasuringError: measuring failed, and not by a candidate's fault.
        KeyboardInterrupt: as it came; workers are gone.
    """
    setup = prepare(load_table(path), path, options)
    with threadpool_limits(1):
        return _Run(setup, options, log_folder, say, measurer).verified()


class _Run:
    def __init__(
        self,
        setup: Setup,
        options: VerifyOptions,
        log_folder: Path,
        say: Say,
        measurer: Callable[[Plan, Path], Measurer],
    ) -> None:
        self._setup = setup
        self._options = options
        self._log_folder = log_folder
        self._say = say
        self._measurer = measurer
        self._rounds: list[_Round] = []
        self._sets = 0
        self._virtual = setup.plan.config.replay is not None
        self._virtual_seconds = 0.0
        self._began = time.perf_counter()
        self._number = 0

    def verified(self) -> Verified:
        setup = self._setup
        points = sum(map(len, setup.spots.values()))
        self._say(
            f"{setup.table.name}: {counted(len(setup.cells), 'cell')}, {counted(points, 'size')}, at most "
            f"{self._options.seconds:.0f} s"
        )
        verdicts: tuple[CellVerdict, ...] = ()
        stopped_by, looked = "", 0
        while not stopped_by:
            began = self._spent()
            ended = self._one_set()
            # Another set would take as long as this one did.
            if ended or self._spent() + (self._spent() - began) > self._options.seconds:
                stopped_by = "seconds"
            if self._refused_everywhere():
                stopped_by = "settled"
            calm = self._calm_sets()
            if stopped_by or (calm in LOOKS and calm > looked):
                verdicts, looked = self._look(), calm
            if not stopped_by and looked == calm and (self._settled(verdicts) or calm >= LOOKS[-1]):
                stopped_by = "settled"
        return Verified(self._verification(verdicts, stopped_by), setup, self._results(), self._visits()[0])

    def _settled(self, verdicts: Sequence[CellVerdict]) -> bool:
        if not verdicts:
            return False
        if suspicious(verdicts):
            return self._calm_sets() >= LOOKS[1] and not any(entry.verdict == UNSURE for entry in verdicts)
        return all(entry.seen is None or entry.seen <= self._options.seen for entry in verdicts)

    def _refused_everywhere(self) -> bool:
        """Whether in every cell a backend that it uses went wrong: no number of visits makes that right again."""
        choose = chooser(self._setup.table)
        refused = set()
        for result in self._results():
            use = choose(Place(result.cell, result.size))
            if any(item.backend == use for item in result.exclusions):
                refused.add(result.cell)
        return len(refused) == len(self._setup.cells)

    def _one_set(self) -> bool:
        """Start workers, have them go their rounds, end them; whether time ran out meanwhile."""
        plan = self._setup.plan
        if plan.config.replay is not None:
            # A set of workers of its own luck is a stopwatch with a seed of its own.
            seed = plan.config.replay.seed + 1_000_003 * (1 + self._options.seed) + self._sets
            plan = replace(plan, config=replace(plan.config, replay=replace(plan.config.replay, seed=seed)))
        ended = False
        starting = self._spent()
        with self._measurer(plan, self._log_folder) as source:
            source.start()
            ready, gone = self._spent(), 0
            while not ended and gone < _MOST_ROUNDS_PER_SET:
                if gone >= ROUNDS_PER_SET and self._spent() - ready >= ready - starting:
                    break
                before = None if self._virtual else Usage.now()
                results, ended = self._one_round(source)
                others = None if self._virtual else others_share(before, Usage.now())
                self._rounds.append(_Round(self._sets, results, others))
                self._tell(self._rounds[-1])
                gone += 1
        self._sets += 1
        return ended

    def _one_round(self, source: Measurer) -> tuple[tuple[PointResult, ...], bool]:
        order = [(cell, spot) for cell, spots in self._setup.spots.items() for spot in spots]
        random.Random(f"{self._options.seed}/{len(self._rounds)}").shuffle(order)
        results: list[PointResult] = []
        for cell, spot in order:
            if self._spent() >= self._options.seconds:
                return tuple(results), True
            self._number += 1
            result = source.measure(PointRequest(Point(cell, spot.size, spot.shape), self._number))
            self._virtual_seconds += result.wall_seconds
            results.append(result)
        return tuple(results), False

    def _spent(self) -> float:
        return self._virtual_seconds if self._virtual else time.perf_counter() - self._began

    def _results(self) -> tuple[PointResult, ...]:
        return tuple(result for item in self._rounds for result in item.results)

    def _calm_sets(self) -> int:
        return len({item.worker_set for item in self._rounds if item.calm})

    def _visits(self) -> tuple[dict[Place, list[Visit]], bool]:
        """The visits to judge by, and whether they are of disturbed rounds, for want of calm ones."""
        table = self._setup.table
        calm = [item for item in self._rounds if item.calm]
        busy = len(calm) < min(ROUNDS_PER_SET, len(self._rounds))
        visits: dict[Place, list[Visit]] = {}
        for item in self._rounds if busy else calm:
            for result in item.results:
                visit = visit_of(result, table.baseline, table.candidates, item.worker_set)
                if visit is not None:
                    visits.setdefault(Place(result.cell, result.size), []).append(visit)
        return visits, busy

    def _look(self) -> tuple[CellVerdict, ...]:
        visits, busy = self._visits()
        planned = {cell: [spot.size for spot in spots] for cell, spots in self._setup.spots.items()}
        evidence = Evidence(visits, self._results(), planned, len(LOOKS), busy)
        verdicts = judge(self._setup.table, self._setup.cells, evidence, self._setup.reference)
        counts = ", ".join(
            f"{sum(entry.verdict == word for entry in verdicts)} {word}"
            for word in dict.fromkeys(entry.verdict for entry in verdicts)
        )
        self._say(f"after {counted(self._sets, 'set')} of workers: {counts}")
        return verdicts

    def _tell(self, item: _Round) -> None:
        others = "" if item.others is None else f"; others used {item.others:.0%} of the machine"
        aside = "" if item.calm else ", set aside"
        self._say(
            f"set {item.worker_set + 1}, round {len(self._rounds)}: {counted(len(item.results), 'point')}"
            f"{others}{aside}; {self._spent():.0f} of {self._options.seconds:.0f} s"
        )

    def _verification(self, verdicts: tuple[CellVerdict, ...], stopped_by: str) -> Verification:
        setup = self._setup
        return Verification(
            table=str(setup.path),
            digest=setup.table.digest,
            provenance=setup.table.provenance,
            differs=setup.differs,
            config=setup.config_from,
            reference=setup.reference_from,
            cells=verdicts,
            left_out=setup.left_out,
            notes=(*setup.notes, *right_again(self._results(), setup.table.candidates, excluded_by(setup.cells))),
            random_sizes={cell: _random(spots) for cell, spots in setup.spots.items()},
            seed=self._options.seed,
            worker_sets=self._sets,
            rounds=len(self._rounds),
            set_aside=sum(not item.calm for item in self._rounds),
            seconds=self._spent(),
            stopped_by=stopped_by,
        )


def _random(spots: Sequence[Spot]) -> tuple[int, ...]:
    return tuple(spot.size for spot in spots if spot.why == "random")
