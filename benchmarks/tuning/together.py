"""All landscapes in one sweep, as a user's cells are: the search moves the budget from the plain to the difficult ones.

The budget is that of as many sweeps of one cell. No cell is like another here (each has a number of ranks of its own),
so that nothing is won by sharing curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from landscapes import Landscape
from landscapes.model import CELL

from tuning import compare
from tuning.checks import LOUDER, MIN_GAIN, USUAL, Verdict, alike, judge_agreement, judge_estimates, judge_goal, louder
from tuning.pipeline import EXHAUSTIVE, Budget, Tuned, tune

GOALS = (*USUAL, LOUDER)


class Task(NamedTuple):
    """A sweep over all of `landscapes`, with usual noise of that strength."""

    landscapes: Sequence[Landscape]
    seed: int
    fraction: float
    sigma: float = USUAL[0].sigma
    min_gain: float = 0.0


def in_one_sweep(landscapes: Sequence[Landscape]) -> list[Landscape]:
    """The landscapes as cells of one sweep: with the backends' names in common, and each with ranks of its own."""
    return [
        replace(one, cell=CELL._replace(world_size=2 + place), backends=("base", "fast"))
        for place, one in enumerate(landscapes)
    ]


def run(task: Task) -> tuple[Tuned, list[compare.Row]]:
    """The sweep, and a row for each of its cells."""
    cells = in_one_sweep([louder(one, task.sigma) for one in task.landscapes])
    budget = Budget(executions=round(task.fraction * EXHAUSTIVE) * len(cells))
    tuned = tune(cells, budget, seed=task.seed, min_gain=task.min_gain)
    return tuned, [compare.our_row(tuned, one, compare.COSTS[0], task.fraction) for one in cells]


def tasks(landscapes: Sequence[Landscape], seed: int) -> list[Task]:
    """One for each goal, and two seeds that are to agree."""
    wanted = [Task(landscapes, seed, goal.fraction, goal.sigma) for goal in GOALS]
    return wanted + [Task(landscapes, seed + step, 1 / 20, min_gain=MIN_GAIN) for step in (0, 1)]


def judge(landscapes: Sequence[Landscape], found: Sequence[tuple[Tuned, Sequence[compare.Row]]]) -> list[Verdict]:
    """What came of `tasks`, by the figures that are wanted of cells tuned alone."""
    verdicts = []
    for goal, (_, rows) in zip(GOALS, found, strict=False):
        verdicts += judge_goal(rows, goal, "one sweep, ")
        spent = np.array([row.executions for row in rows]) * EXHAUSTIVE
        quarters = ", ".join(f"{value:.0f}" for value in np.percentile(spent, (0, 25, 50, 75, 100)))
        print(f"one sweep, {goal.noise}, 1/{1 / goal.fraction:.0f}: executions of a cell, quartiles {quarters}")
    verdicts += judge_estimates([row for _, rows in found[: len(GOALS)] for row in rows])
    one, two = (tuned for tuned, _ in found[len(GOALS) :])
    return verdicts + judge_agreement([alike(cell, one, two) for cell in in_one_sweep(landscapes)])
