"""The regret that a table says may be left."""

from __future__ import annotations

import pytest
from curve_bench import Bench


def test_what_lies_between_sizes_far_apart_counts(bench: Bench) -> None:
    """A candidate that leads by a tenth wherever it was measured, beyond all noise: with sizes more than three octaves
    apart something else may lie between them, with half an octave hardly.
    """
    few, many = (
        bench.fit(bench.points(bench.grid(count), {"fast": lambda _: 0.1}, noise=0.01, outliers=0.0)).regret_estimate
        for count in (6, 40)
    )
    assert few is not None
    assert many is not None
    assert few > 3 * many
    assert 1e-3 < few < 0.1


def test_the_same_samples_have_the_same_estimate(bench: Bench) -> None:
    """In whatever order they come."""
    results = bench.points(bench.grid(9), {"fast": lambda x: 0.05 * (13 - x)})
    assert bench.fit(results).regret_estimate == bench.fit(results[::-1]).regret_estimate


@pytest.mark.parametrize("lead", [0.015, 0.028])
def test_what_min_gain_leaves_on_purpose_is_in_the_estimate(bench: Bench, lead: float) -> None:
    """A candidate that leads by less than min_gain is not used, and that is lost for certain: the estimate is not less.

    Half of a mean, which suits what is merely possible, would be half of it.
    """
    results = bench.points(bench.grid(21), {"fast": lambda _: lead}, samples=200, outliers=0.0)
    table = bench.fit(results, min_gain=0.03)
    assert {band.use for band in table.bands} == {"base"}
    assert table.regret_estimate is not None
    assert lead < table.regret_estimate < 2 * lead
