"""All landscapes in one sweep: they stay what they are, and what came of them is counted."""

from __future__ import annotations

import numpy as np
import pytest
from landscapes import make
from tuning import together
from tuning.pipeline import EXHAUSTIVE

from ccl_dispatch.tuner.curves.cells import families


def test_every_landscape_is_a_cell_of_its_own_and_like_no_other() -> None:
    """Same truth, and no cell of a family with another."""
    landscapes = [make(8, "crossovers", 0), make(8, "ties", 0), make(8, "crossovers", 1)]
    cells = together.in_one_sweep(landscapes)
    assert len(families([one.cell for one in cells])) == 3
    for one, cell in zip(landscapes, cells, strict=True):
        assert cell.regret(np.ones(len(cell.sizes), np.bool_)) == one.regret(np.ones(len(one.sizes), np.bool_))


def test_the_budget_is_shared_and_all_of_it_is_counted() -> None:
    """A row for each cell; together they spent what the sweep did, most of it where it was needed."""
    plain, difficult = make(8, "one_winner", 0), make(8, "crossovers", 0)
    tuned, rows = together.run(together.Task([plain, difficult], 8, 1 / 50))
    assert [row.landscape for row in rows] == [plain.name, difficult.name]
    assert sum(row.executions for row in rows) * EXHAUSTIVE == pytest.approx(tuned.executions)
    assert tuned.executions <= 2 * EXHAUSTIVE / 50
    assert rows[1].executions > 2 * rows[0].executions
    assert rows[0].regret == tuned.regret(together.in_one_sweep([plain, difficult])[0])


def test_it_is_judged_by_the_figures_for_cells_alone() -> None:
    """Two verdicts for each goal, four of the estimate and one of two seeds that agree."""
    landscapes = [make(8, "one_winner", 0), make(8, "one_winner", 1)]
    found = [together.run(task) for task in together.tasks(landscapes, 8)]
    verdicts = together.judge(landscapes, found)
    assert len(verdicts) == 2 * len(together.GOALS) + 4 + 1
    assert all(verdict.reached for verdict in verdicts if "regret" in verdict.words and "one sweep" in verdict.words)
    assert verdicts[-1].reached
