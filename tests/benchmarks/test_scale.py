"""How hard landscapes are is told by noise that no two of them share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from landscapes import make
from tuning import scale
from tuning.pipeline import EXHAUSTIVE


def test_each_round_of_each_landscape_has_noise_of_its_own() -> None:
    """Two rounds differ, and so do the same curve's regrets as another landscape; the same task repeats itself."""
    one = make(3, "crossovers", 0)
    first, again, other = (scale.run(scale.Task(one, number, 7, 3)).regrets for number in (0, 0, 1))
    assert list(first) == [*scale.GRIDS, "ours at 1/100", "ours at 1/20"]
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    coarse = next(iter(scale.GRIDS))
    assert len(set(first[coarse].tolist())) > 1
    assert first[coarse].tolist() != other[coarse].tolist()


def test_grids_cost_what_ours_may() -> None:
    """With one warm-up a visit both grids cost at most as much as ours at the budget beside them, and half of it."""
    for (count, pairs), fraction in zip(scale.GRIDS.values(), scale.FRACTIONS, strict=True):
        executions = count * 2 * (pairs + 1)
        assert 0.5 * EXHAUSTIVE / fraction < executions <= 1.1 * EXHAUSTIVE / fraction


def test_the_text_takes_means_over_all_and_the_worst_of_each_round() -> None:
    """Two landscapes, one of them of a vendor's library: figures by hand."""
    one = make(3, "crossovers", 0)
    vendor = replace(one, backends=("rccl", "fast"))
    rows = [
        scale.Row(one, {"way": np.array([0.01, 0.03])}),
        scale.Row(vendor, {"way": np.array([0.02, 0.00])}),
        scale.Row(vendor, {"way": np.array([0.00, 0.00])}),
    ]
    lines = scale.text(rows)
    assert lines[0].startswith("all, 3 landscapes")
    # Means 0.02, 0.01 and 0; the worst of the rounds are 0.02 and 0.03.
    assert lines[1].split() == ["way", "1.000%", "0.577%", "2.50%"]
    assert lines[3].split() == ["way", "0.500%", "0.500%", "1.00%"]
