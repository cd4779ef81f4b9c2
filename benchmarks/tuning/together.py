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
from tuning.checks import MIN_GAIN, Verdict, alike, judge_agreement, judge_estimates, judge_regrets, louder
from tuning.pipeline import EXHAUSTIVE, Budget, Tuned, tune

# By name: the fraction of the exhaustive scan, the noise, the mean and the worst regret that are wanted.
GOALS = {
    "usual noise": (1 / 100, None, 0.0012, 0.01),
    "usual noise, more": (1 / 20, None, 0.0004, 0.003),
    "noise of 10 %": (1 / 50, 0.10, 0.002, 0.015),
}


class Task(NamedTuple):
    """A sweep over all of `landscapes`; what its rows are named, and the noise where it is not the usual one."""

    landscapes: Sequence[Landscape]
    seed: int
    fraction: float
    sigma: float | None = None
    min_gain: float = 0.0


def in_one_sweep(landscapes: Sequence[Landscape]) -> list[Landscape]:
    """The landscapes as cells of one sweep: with the backends' names in common, and each with ranks of its own."""
    return [
        replace(one, cell=CELL._replace(world_size=2 + place), backends=("base", "fast"))
        for place, one in enumerate(landscapes)
    ]


def run(task: Task) -> tuple[Tuned, list[compare.Row]]:
    """The sweep, and a row for each of its cells."""
    cells = in_one_sweep([one if task.sigma is None else louder(one, task.sigma) for one in task.landscapes])
    budget = Budget(executions=round(task.fraction * EXHAUSTIVE) * len(cells))
    tuned = tune(cells, budget, seed=task.seed, min_gain=task.min_gain)
    rows = []
    for one in cells:
        mine = [result for result in tuned.results if result.cell == one.cell]
        regret = tuned.regret(one)
        rows.append(
            compare.Row(
                one.name,
                one.family,
                one.is_usual,
                compare.OURS,
                "together",
                compare.COSTS[0],
                task.fraction,
                regret,
                regret,
                regret,
                tuned.estimate(one),
                sum(sum(result.executions.values()) for result in mine) / EXHAUSTIVE,
                sum(result.collective_seconds for result in mine) / compare.exhaustive_seconds(one),
            )
        )
    return tuned, rows


def tasks(landscapes: Sequence[Landscape], seed: int) -> list[Task]:
    """One for each goal, and two seeds that are to agree."""
    wanted = [Task(landscapes, seed, fraction, sigma) for fraction, sigma, _, _ in GOALS.values()]
    return wanted + [Task(landscapes, seed + step, 1 / 20, None, MIN_GAIN) for step in (0, 1)]


def judge(landscapes: Sequence[Landscape], found: Sequence[tuple[Tuned, Sequence[compare.Row]]]) -> list[Verdict]:
    """What came of `tasks`, by the figures that are wanted of cells tuned alone."""
    verdicts = []
    for (label, (fraction, _, mean, worst)), (_, rows) in zip(GOALS.items(), found, strict=False):
        verdicts += judge_regrets(rows, fraction, mean, worst, f"one sweep, {label}")
        published = [row for row in rows if row.family == "published"]
        if published:
            verdicts += judge_regrets(published, fraction, mean, worst, f"one sweep, {label}, published measurements")
        spent = np.array([row.executions for row in rows]) * EXHAUSTIVE
        quarters = ", ".join(f"{value:.0f}" for value in np.percentile(spent, (0, 25, 50, 75, 100)))
        print(f"one sweep, {label}, 1/{1 / fraction:.0f}: executions of a cell, quartiles {quarters}")
    verdicts += judge_estimates([row for _, rows in found[: len(GOALS)] for row in rows])
    one, two = (tuned for tuned, _ in found[len(GOALS) :])
    agreed = [alike(cell, one, two) for cell in in_one_sweep(landscapes)]
    return verdicts + judge_agreement(agreed)[:1]
