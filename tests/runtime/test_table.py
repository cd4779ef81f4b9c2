"""What a table and its bands say of themselves to a reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_tables import BASELINE, make_cell, make_table

from ccl_dispatch.runtime.table import BAND_REASONS, TIE_FLOOR, Band
from ccl_dispatch.runtime.vocabulary import Cell

_GAINS = st.sampled_from([-0.05, -0.03, -0.0301, -0.01, -0.0101, 0.0, 0.01, 0.0101, 0.03, 0.0301, 0.05])


@given(st.sampled_from(BAND_REASONS), st.none() | st.tuples(_GAINS, _GAINS).map(sorted), st.sampled_from([0.0, 0.03]))
def test_a_tie_is_called_one_where_it_is_known_to_be_close(
    why: str, bounds: list[float] | None, min_gain: float
) -> None:
    """A band of the baseline's is a tie where its interval lies within min_gain, and at least 1 %, on either side, the
    ends included; else nothing is proven. Any other reason is told as it is.
    """
    band = Band(64, BASELINE, why, "aiter", 0.0, None if bounds is None else (bounds[0], bounds[1]), 3, 30)
    reach = 0.03 if min_gain else 0.01
    assert reach >= TIE_FLOOR
    close = bounds is not None and all(abs(bound) <= reach for bound in bounds)
    assert band.reason(min_gain) == (why if why != "tie" else "tie" if close else "not proven")


@pytest.mark.parametrize(("cells", "told"), [(0, "0 cells"), (1, "1 cell"), (2, "2 cells")])
def test_a_table_is_shown_in_one_line(cells: int, told: str) -> None:
    """In a debugger or a log: its name, how much it has, where its figures come from and which it is."""
    names = [Cell("all_gather", "eager", "first", "bfloat16", ranks) for ranks in (2, 4)]
    table = make_table(tuple(make_cell(cell, 16, [1024], ["aiter"]) for cell in names[:cells]))
    assert repr(table) == f"<Table 'made': {told}, replayed, {table.digest[:19]}>"
    assert table.digest.startswith("sha256:")
