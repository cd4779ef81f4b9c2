"""From visits to verdicts: what is proven to be wrong, what drifted, what stays open, and what is still right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ccl_dispatch.runtime.table import CellTable, Table
from ccl_dispatch.runtime.units import short_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.verify.decisions import cost_of, estimates, judge_choices, spreads, tie_band
from ccl_dispatch.tuner.verify.drift import LEAST_CHANGE, Drift, find_drift
from ccl_dispatch.tuner.verify.excluded import excluded_by, without_excluded
from ccl_dispatch.tuner.verify.reference import Reference
from ccl_dispatch.tuner.verify.verdict import (
    DRIFTED,
    RIGHT,
    UNSURE,
    WRONG,
    CellVerdict,
    Refusal,
    choice_text,
    refusal_text,
    shift_text,
    worst_first,
)
from ccl_dispatch.tuner.verify.visits import Place, Visit

# Of all runs where nothing has changed, at most these shares get a false alarm of each kind; one in twenty together.
_FALSE_SHIFT, _FALSE_CHOICE, _FALSE_COST = 0.03, 0.01, 0.01
# A cell whose table costs so much more than it said when it was made has drifted; one whose cost is not known to be
# below the second figure is open.
_COST_MATTERS = 0.01
_COST_OPEN = 0.05
# Visits of a size before anything is said of it.
LEAST_VISITS = 2


@dataclass(frozen=True)
class Evidence:
    """What was measured up to now.

    Attributes:
        visits: per place, from calm rounds where there were any.
        results: all of them, disturbed ones too: wrong output is wrong on a busy machine as well.
        planned: per cell the sizes that were to be visited.
        looks: how many times a verdict may be asked for; each gets its share of what may be a false alarm.
        busy: the machine was busy in all rounds, and these are the ones that were used.
    """

    visits: Mapping[Place, Sequence[Visit]]
    results: Sequence[PointResult]
    planned: Mapping[Cell, Sequence[int]]
    looks: int
    busy: bool


def chooser(table: Table) -> Callable[[Place], str]:
    """The table's choice at a place."""
    dispatchers = {
        (cell.cell.collective, cell.cell.world_size): table.dispatcher(cell.cell.collective, cell.cell.world_size)
        for cell in table.cells
    }

    def choose(place: Place) -> str:
        cell = place.cell
        select = dispatchers[cell.collective, cell.world_size].select
        return select(place.size, dtype=cell.dtype, mode=cell.mode, dim=cell.dim)

    return choose


def judge(
    table: Table, cells: Sequence[CellTable], evidence: Evidence, reference: Reference | None
) -> tuple[CellVerdict, ...]:
    """The verdict on every one of `cells`."""

    def confidence(false_alarms: float) -> float:
        return 1 - false_alarms / evidence.looks

    choose = chooser(table)
    excluded = excluded_by(cells)
    visits = without_excluded(evidence.visits, table.candidates, excluded)
    found = estimates(visits, table.candidates, spreads(visits, table.candidates))
    choices = judge_choices(found, table.baseline, choose, confidence(_FALSE_CHOICE))
    band = tie_band(table.policy.min_gain)
    drift = Drift((), {})
    if reference is not None:
        drift = find_drift(
            visits,
            reference.visits,
            table.baseline,
            table.candidates,
            choose,
            confidence=confidence(_FALSE_SHIFT),
            mood=reference.mood,
            matters=max(table.policy.min_gain, LEAST_CHANGE),
        )
    verdicts = []
    for entry in cells:
        cell = entry.cell
        sure = 1 - _FALSE_COST / evidence.looks / len(cells)
        cost = cost_of(cell, found, table.candidates, choose, sure, excluded)
        wrong = tuple(choice for choice in choices if choice.place.cell == cell and choice.low > band)
        shifts = tuple(shift for shift in drift.shifts if cell in shift.cells)
        refusals = _refusals(entry, evidence.results, choose)
        why = [*map(refusal_text, refusals), *map(choice_text, worst_first(wrong)), *map(shift_text, shifts)]
        allowed = entry.regret_estimate or 0.0
        verdict = RIGHT
        if refusals or wrong:
            verdict = WRONG
        elif shifts:
            verdict = DRIFTED
        elif cost is not None and cost.low > allowed + _COST_MATTERS:
            verdict = DRIFTED
            why.append(f"keeping it costs at least {cost.low:.1%}, {allowed:.1%} was left when it was made")
        open_because = _open(entry, evidence, None if cost is None else cost.high - allowed)
        if evidence.busy and not refusals:
            verdict = UNSURE
            why.append("other work used the machine all the time: verify again when nothing else runs")
        elif verdict == RIGHT and open_because:
            verdict = UNSURE
            why.append(open_because)
        mine = [place for place in evidence.visits if place.cell == cell]
        verdicts.append(
            CellVerdict(
                cell,
                verdict,
                tuple(why),
                cost,
                wrong,
                refusals,
                shifts,
                drift.seen.get(cell),
                len(mine),
                sum(len(evidence.visits[place]) for place in mine),
            )
        )
    return tuple(verdicts)


def _open(entry: CellTable, evidence: Evidence, cost: float | None) -> str:
    """What the cell's verdict still lacks, empty when nothing."""
    answered = {result.size for result in evidence.results if result.cell == entry.cell and not result.latencies_us}
    lacking = [
        size
        for size in evidence.planned.get(entry.cell, ())
        if size not in answered and len(evidence.visits.get(Place(entry.cell, size), ())) < LEAST_VISITS
    ]
    if lacking:
        return (
            f"{len(lacking)} of {len(evidence.planned[entry.cell])} sizes, such as {short_size(lacking[0])}, were "
            f"visited less than {LEAST_VISITS} times: give more --seconds"
        )
    if cost is not None and cost > _COST_OPEN:
        return f"keeping it may cost {cost:.1%} more than it did; that could not be ruled out: give more --seconds"
    return ""


def _refusals(entry: CellTable, results: Sequence[PointResult], choose: Callable[[Place], str]) -> tuple[Refusal, ...]:
    """Where a backend that the table uses could not be used, joined over neighbouring sizes for one reason."""
    found: list[Refusal] = []
    for result in sorted(results, key=lambda result: result.size):
        if result.cell != entry.cell:
            continue
        use = choose(Place(result.cell, result.size))
        for item in result.exclusions:
            if item.backend != use:
                continue
            if found and (found[-1].backend, found[-1].reason) == (item.backend, item.reason):
                found[-1] = Refusal(use, item.reason, found[-1].detail, found[-1].low, result.size)
            else:
                found.append(Refusal(use, item.reason, item.detail, result.size, result.size))
    return tuple(found)


def suspicious(verdicts: Sequence[CellVerdict]) -> bool:
    """Whether something is amiss that more measuring could confirm, take back or settle."""
    return any(entry.verdict != RIGHT and not entry.refusals for entry in verdicts)
