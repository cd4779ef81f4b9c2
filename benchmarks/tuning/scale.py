"""How hard the published GPU landscapes are: what two plain even grids leave on them, and ours at about their cost.

Wanted regrets were set by what such grids leave on other landscapes; so this tells how far they carry over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from landscapes import VENDORS, Landscape
from numpy.typing import NDArray

from tuning import rivals
from tuning.pipeline import EXHAUSTIVE, Budget, tune

# By name, sizes and pairs.
GRIDS: Mapping[str, tuple[int, int]] = {"9 sizes x 2 pairs": (9, 2), "21 sizes x 5 pairs": (21, 5)}
FRACTIONS = (100, 20)


class Task(NamedTuple):
    """A landscape, which of all it is, and how often each way is taken, every time with noise of its own."""

    landscape: Landscape
    number: int
    seed: int
    rounds: int


class Row(NamedTuple):
    """The regrets of one landscape: by way, one for each round."""

    landscape: Landscape
    regrets: Mapping[str, NDArray[np.float64]]


def run(task: Task) -> Row:
    """Both grids and ours at both budgets."""
    one = task.landscape
    found: dict[str, list[float]] = {}
    for turn in range(task.rounds):
        # Landscapes with the same noise would share their outliers, and the mean over them say little.
        generator = np.random.default_rng((task.seed, task.number, turn))
        for name, (count, pairs) in GRIDS.items():
            visits = [rivals.visit(one, generator, size, pairs) for size in rivals.even_sizes(one, count)]
            found.setdefault(name, []).append(one.regret(rivals.by_sign(one, visits)))
        for fraction in FRACTIONS:
            budget = Budget(executions=EXHAUSTIVE // fraction)
            tuned = tune([one], budget, seed=int(generator.integers(1 << 31)))
            found.setdefault(f"ours at 1/{fraction}", []).append(tuned.regret(one))
    return Row(one, {name: np.array(values) for name, values in found.items()})


def text(rows: Sequence[Row]) -> list[str]:
    """For all of them, and for those in which the library that serves everything is the baseline."""
    lines = []
    vendors = [row for row in rows if row.landscape.backends[0] in VENDORS]
    for label, group in (("all", rows), ("RCCL or NCCL is the baseline", vendors)):
        lines.append(f"{label}, {len(group)} landscapes: mean, its standard error, median of the rounds' worst")
        for name in group[0].regrets:
            regrets = np.array([row.regrets[name] for row in group])
            each = regrets.mean(axis=1)
            error = each.std(ddof=1) / len(each) ** 0.5
            worst = float(np.median(regrets.max(axis=0)))
            lines.append(f"  {name:<20}{regrets.mean():>8.3%}{error:>8.3%}{worst:>8.2%}")
    return lines
