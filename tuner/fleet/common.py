"""Common points: a few that every node of a shared study measures, before the work is shared: are all alike?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from optuna.trial import FrozenTrial

from ccl_dispatch.tuner.plan import Plan
from ccl_dispatch.tuner.search.base import CELL, SIZE_INDEX
from ccl_dispatch.tuner.study.claims import COMMON, NODE, counts

DEFAULT_COMMON = 4
# Two visits of each, so that what differs between visits of one node is not taken for a difference between nodes.
ROUNDS = 2
_REPEATS = 100
# Of a sweep's budget, for each node.
_SHARE = 0.1
LEAST_SECONDS = 60.0


class CommonVisit(NamedTuple):
    """One visit of a common point, as one node makes it."""

    cell: str
    size: int
    repeats: int
    round: int


def common_visits(plan: Plan, most: int = DEFAULT_COMMON) -> list[CommonVisit]:
    """What each node measures: of the first and the last cell the largest size, then the smallest; all twice.

    None where the sweep's budget is so small that they would take more than a tenth of it, or below `LEAST_SECONDS`.

    Args:
        most: so many points at most.
    """
    cells = dict.fromkeys((plan.space.cells[0], plan.space.cells[-1]))
    points = dict.fromkeys((name, plan.space.grid[name][end]) for end in (-1, 0) for name in cells)
    chosen = list(points)[:most]
    budget, rule = plan.config.budget, plan.settings.rule
    repeats = min(_REPEATS, rule.max_samples)
    if budget.executions is not None and chosen:
        each = ROUNDS * len(chosen) * len(plan.settings.backends)
        repeats = min(repeats, int(_SHARE * budget.executions / each))
    if repeats < rule.min_samples or (budget.seconds is not None and budget.seconds < LEAST_SECONDS):
        return []
    return [CommonVisit(name, size, repeats, turn) for turn in range(ROUNDS) for name, size in chosen]


def still_to_do(
    plan: Plan, visits: Sequence[CommonVisit], trials: Sequence[FrozenTrial], node: str
) -> Iterator[CommonVisit]:
    """Those of `visits` that this node has not made yet, in an earlier run of the sweep."""
    done = {
        (trial.params[CELL], plan.space.sizes[trial.params[SIZE_INDEX]], trial.user_attrs[COMMON])
        for trial in trials
        if COMMON in trial.user_attrs and trial.user_attrs.get(NODE) == node and counts(trial)
    }
    for visit in visits:
        if (visit.cell, visit.size, visit.round) not in done:
            yield visit
