"""Ours and its rivals on the same landscapes at the same cost, counted in executions and in machine time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from landscapes import Landscape

from tuning import rivals
from tuning.pipeline import EXHAUSTIVE, Budget, Tuned, choices, own_seed, tune

FRACTIONS = (1 / 200, 1 / 100, 1 / 50, 1 / 20, 1 / 10)
COSTS = ("executions", "machine time")
OURS, EXHAUSTIVE_GRID, EVEN, BEST_EVEN = "ours", "exhaustive grid", "even grid", "even grid, best split"


class Row(NamedTuple):
    """One run.

    Attributes:
        landscape, family, usual: its name and kind, and whether its noise is the usual one.
        variant: the pairs per visit that a rival was tried with.
        cost: of `COSTS`, what `fraction` of the exhaustive scan was given.
        regret: true, by the method's own rule.
        regret_measured_only: the same, with the baseline beyond the sizes visited, as a table has it.
        regret_our_fit: true, with our fit on the method's samples; nan when it was not asked for.
        estimate: the regret that the table says; nan for rivals.
        executions, seconds: what was spent, as fractions of the exhaustive scan's.
    """

    landscape: str
    family: str
    usual: bool
    method: str
    variant: str
    cost: str
    fraction: float
    regret: float
    regret_measured_only: float
    regret_our_fit: float
    estimate: float
    executions: float
    seconds: float


@dataclass(frozen=True)
class Task:
    """What is run on one landscape."""

    landscape: Landscape
    seed: int
    fractions: tuple[float, ...] = FRACTIONS
    costs: tuple[str, ...] = COSTS
    rivals: bool = True
    our_fit: bool = True
    min_gain: float = 0.0


def run(task: Task) -> list[Row]:
    """All methods on one landscape."""
    ours = [_ours(task, cost, fraction) for cost in task.costs for fraction in task.fractions]
    return ours + (list(_rivals(task, ours)) if task.rivals else [])


def exhaustive_seconds(landscape: Landscape) -> float:
    """Machine time of an exhaustive scan: its number of executions at the mean latency over a 2x grid."""
    return EXHAUSTIVE * landscape.exhaustive_us * 1e-6


def _ours(task: Task, cost: str, fraction: float) -> Row:
    landscape = task.landscape
    whole = exhaustive_seconds(landscape)
    budget = Budget(executions=round(fraction * EXHAUSTIVE)) if cost == COSTS[0] else Budget(seconds=fraction * whole)
    tuned = tune([landscape], budget, seed=own_seed(landscape, task.seed), min_gain=task.min_gain)
    return our_row(tuned, landscape, cost, fraction)


def our_row(tuned: Tuned, landscape: Landscape, cost: str, fraction: float) -> Row:
    """What a sweep came to in one of its cells."""
    mine = [result for result in tuned.results if result.cell == landscape.cell]
    regret = tuned.regret(landscape)
    return Row(
        landscape.name,
        landscape.family,
        landscape.is_usual,
        OURS,
        "",
        cost,
        fraction,
        regret,
        regret,
        regret,
        tuned.estimate(landscape),
        sum(sum(result.executions.values()) for result in mine) / EXHAUSTIVE,
        sum(result.collective_seconds for result in mine) / exhaustive_seconds(landscape),
    )


def _rivals(task: Task, ours: Sequence[Row]) -> Iterator[Row]:
    landscape = task.landscape
    # What ours spent beyond its budget, its rivals get too.
    limits = [
        (row.cost, row.fraction, max(row.fraction, row.executions if row.cost == COSTS[0] else row.seconds))
        for row in ours
    ]
    whole = exhaustive_seconds(landscape)
    most = {cost: max((limit for one, _, limit in limits if one == cost), default=0.0) for cost in COSTS}
    scan = rivals.exhaustive(landscape, _rng(task, EXHAUSTIVE_GRID, 0))
    yield from (_row(task, EXHAUSTIVE_GRID, "100", cost, 1.0, scan) for cost in task.costs)
    for method, (trail, choices_of_pairs, visits) in rivals.TRAILS.items():
        for pairs in choices_of_pairs:
            walked = rivals.walk(
                trail(landscape, _rng(task, method, pairs), pairs),
                visits,
                most[COSTS[0]] * EXHAUSTIVE,
                most[COSTS[1]] * whole,
            )
            for cost, fraction, limit in limits:
                kept = (
                    rivals.affordable(walked, executions=limit * EXHAUSTIVE)
                    if cost == COSTS[0]
                    else rivals.affordable(walked, seconds=limit * whole)
                )
                yield _row(task, method, str(pairs), cost, fraction, kept)
    for cost, fraction, limit in limits:
        timed = cost == COSTS[1]
        amount = limit * (whole if timed else EXHAUSTIVE)
        even = rivals.even_by_seconds if timed else rivals.even_by_executions
        by_thumb = rivals.even_by_thumb(landscape, amount, seconds=timed)
        for pairs in rivals.EVEN_PAIRS:
            row = _row(
                task,
                BEST_EVEN,
                str(pairs),
                cost,
                fraction,
                even(landscape, _rng(task, BEST_EVEN, pairs), pairs, amount),
            )
            yield row
            if pairs == by_thumb:
                yield row._replace(method=EVEN, variant="thumb")


def _row(task: Task, method: str, variant: str, cost: str, fraction: float, visits: Sequence[rivals.Visit]) -> Row:
    landscape = task.landscape
    fit = float("nan")
    if task.our_fit:
        nowhere = np.zeros(len(landscape.sizes), np.bool_)
        table = rivals.fitted(landscape, visits) if visits else None
        fit = landscape.regret(nowhere if table is None else choices(table, landscape, landscape.sizes))
    return Row(
        landscape.name,
        landscape.family,
        landscape.is_usual,
        method,
        variant,
        cost,
        fraction,
        landscape.regret(rivals.by_sign(landscape, visits)),
        landscape.regret(rivals.by_sign(landscape, visits, measured_only=True)),
        fit,
        float("nan"),
        sum(found.executions for found in visits) / EXHAUSTIVE,
        sum(found.seconds for found in visits) / exhaustive_seconds(landscape),
    )


def _rng(task: Task, method: str, pairs: int) -> np.random.Generator:
    return np.random.default_rng([task.seed, pairs, *task.landscape.name.encode(), *method.encode()])


class Entry(NamedTuple):
    """A method at one cost: regrets over all landscapes, and what was spent in the mean."""

    method: str
    variant: str
    mean: float
    worst: float
    worst_at: str
    mean_our_fit: float
    executions: float
    seconds: float


def measured_only(rows: Sequence[Row]) -> list[Row]:
    """The rows as they are when every method is held to the rule of tables: the baseline where nothing was measured."""
    return [row._replace(regret=row.regret_measured_only) for row in rows]


def summarise(rows: Sequence[Row], cost: str, fraction: float) -> list[Entry]:
    """One entry for each method, ours first, with the best of its variants."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row.cost == cost and row.fraction == fraction:
            groups.setdefault(row.method, {}).setdefault(row.variant, []).append(row)
    entries = []
    for method, variants in groups.items():
        best = min(variants.values(), key=lambda found: float(np.mean([row.regret for row in found])))
        worst = max(best, key=lambda row: row.regret)
        entries.append(
            Entry(
                method,
                best[0].variant,
                float(np.mean([row.regret for row in best])),
                worst.regret,
                worst.landscape,
                float(np.mean([row.regret_our_fit for row in best])),
                float(np.mean([row.executions for row in best])),
                float(np.mean([row.seconds for row in best])),
            )
        )
    return sorted(entries, key=lambda entry: (entry.method != OURS, entry.mean))
