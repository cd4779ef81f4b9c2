"""Slow ranks: told from a table as they are told from samples."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.evidence.ranks import slow_ranks
from ccl_dispatch.tuner.samples import PointResult

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)


@given(st.floats(0.5, 90.0))
def test_a_number_is_the_same_with_four_digits(slower: float) -> None:
    """Whatever a rank is slower by, what is said of it survives the four digits that a table keeps."""
    results = [
        PointResult(CELL, 16 << place, {"slow": (1.0,)}, rank_medians_us={"slow": (1.0, 1.0 + slower)})
        for place in range(12)
    ]
    (found,) = [item for item in slow_ranks(results) if item.rank == 1]
    kept = replace(found, slower=float(f"{found.slower:.4g}"), at_least=float(f"{found.at_least:.4g}"))
    assert kept.text() == found.text()
