"""Two tables held against each other: exactly the calls that change are named, with what each table knows of them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import LARGEST, make_cell, make_table, tables

from ccl_dispatch.runtime.table import Band, CellTable, Crossover, Exclusion, Override, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.compare import ExclusionBorder, compare
from ccl_dispatch.tuner.emit.text import seal

CELL = Cell("all_gather", "graph", "first", "bfloat16", 8)


@settings(max_examples=100, deadline=None)
@given(a=tables(), b=tables(), world_size=st.sampled_from([2, 4, 8]), size=st.integers(1, LARGEST + 100))
def test_a_call_changes_if_and_only_if_the_diff_says_so(a: Table, b: Table, world_size: int, size: int) -> None:
    """For any two tables and any call, the diff has its size in a change exactly when the two decide differently."""
    before, after = (
        table.dispatcher("all_gather", world_size).select(size, dtype="bfloat16", mode="graph") for table in (a, b)
    )
    covering = [
        change
        for change in compare(a, b).changes
        if change.cell == CELL._replace(world_size=world_size)
        and change.low <= size
        and (change.high is None or size <= change.high)
    ]
    assert [(change.before, change.after) for change in covering] == ([(before, after)] if before != after else [])


@settings(max_examples=50, deadline=None)
@given(a=tables(), b=tables())
def test_both_directions_tell_the_same(a: Table, b: Table) -> None:
    """Swapping the tables swaps backends and evidence, and nothing else; a table does not differ from itself."""
    there, back = compare(a, b), compare(b, a)
    assert [(c.cell, c.low, c.high, c.before, c.after) for c in there.changes] == [
        (c.cell, c.low, c.high, c.after, c.before) for c in back.changes
    ]
    assert there.octaves == pytest.approx(back.octaves)
    assert compare(a, a).changes == ()
    assert compare(a, a).octaves[0] == 0
    assert there.octaves == pytest.approx(_octaves(a, b))


def _octaves(a: Table, b: Table) -> tuple[float, float]:
    """Over how many octaves of what either measured two tables decide differently, and of how many."""
    changed = measured = 0.0
    for cell in {each.cell for each in (*a.cells, *b.cells)}:
        there = [each for each in (*a.cells, *b.cells) if each.cell == cell]
        low, high = min(each.measured_from for each in there), max(each.measured_to for each in there)
        measured += math.log2(high / low)
        inner = {end for each in there for end in (each.measured_from - 1, *(band.up_to for band in each.bands))}
        for start, end in pairwise(sorted({low, high} | {size for size in inner if low < size < high})):
            uses = {
                table.dispatcher(cell.collective, cell.world_size).select(end, dtype=cell.dtype, mode=cell.mode)
                for table in (a, b)
            }
            changed += math.log2(end / start) if len(uses) > 1 else 0.0
    return changed, measured


def test_gains_are_told_as_seen_from_before_to_after() -> None:
    """What one table proves of the backend that goes is a cost, of the backend that comes a gain."""
    a = make_table((make_cell(CELL, 16, [1024], ["aiter"]),))
    tie = Band(1024, "rccl", "tie", "aiter", -0.2, (-0.25, 0.25), 3, 30)
    b = make_table((make_cell(CELL, 16, [1024], ["rccl"])._replace(bands=(tie,)),))
    (change,) = compare(a, b).changes
    assert (change.low, change.high, change.before, change.after) == (16, 1024, "aiter", "rccl")
    (by_a,), (by_b,) = change.by_a, change.by_b
    assert by_a.gain == pytest.approx(1 / 1.25 - 1)
    assert by_a.interval == pytest.approx((1 / 1.3 - 1, 1 / 1.2 - 1))
    assert (by_b.gain, by_b.why) == (-0.2, "tie")


def test_an_override_is_a_change_of_one_size() -> None:
    """A workload shape that was overridden in one table alone is named by itself."""
    cell = make_cell(CELL, 16, [1024], ["aiter"])
    override = Override(256, (1, 128), "rccl", "aiter", 0.1, (0.05, 0.15), 40)
    (change,) = compare(make_table((cell,)), make_table((cell._replace(overrides=(override,)),))).changes
    assert (change.low, change.high, change.after) == (256, 256, "rccl")
    assert (change.by_b[0].gain, change.by_b[0].why) == (0.1, "override")


def test_another_baseline_changes_every_call_that_falls_back() -> None:
    """Cells of neither table are one change of their own, and the heads say that the baseline differs."""
    a = make_table((make_cell(CELL, 16, [1024], ["aiter"]),))
    b = seal(a._replace(baseline="nccl", name="other", policy=a.policy._replace(min_gain=0.1)))
    b = seal(b._replace(platform=b.platform._replace(link="xgmi", settings={"NCCL_ALGO": "Ring"})))
    found = compare(a, b)
    assert [(c.cell, c.low, c.high) for c in found.changes] == [(CELL, 1, 15), (CELL, 1025, None), (None, 1, None)]
    assert {(d.key, d.a, d.b) for d in found.differences} == {
        ("name", "made", "other"),
        ("baseline", "rccl", "nccl"),
        ("policy.min_gain", "0.03", "0.1"),
        ("platform.link", "", "xgmi"),
        ("platform.settings.NCCL_ALGO", "not set", "'Ring'"),
    }


def test_a_cell_of_one_table_alone_is_named() -> None:
    """A cell that B no longer has changes to the baseline where A used a candidate, and is listed."""
    a = make_table((make_cell(CELL, 16, [1024], ["aiter"]),))
    found = compare(a, make_table(()))
    assert found.only_a == (CELL,)
    (change,) = found.changes
    assert (change.after, change.by_b) == ("rccl", ())
    assert found.octaves == pytest.approx((6.0, 6.0))


def test_a_border_that_moved_within_its_interval_is_called_that() -> None:
    """A change that lies where a table says that its crossover may lie is marked, one that reaches out of it is not."""

    def table(end: int, low: int, high: int) -> Table:
        cell = make_cell(CELL, 16, [end, 65536], ["aiter", "rccl"])
        return make_table((cell._replace(crossovers=(Crossover(end, low, high, "aiter", "rccl"),)),))

    (inside,) = compare(table(1000, 512, 2048), table(1500, 1024, 2048)).changes
    assert inside.crossover == (512, 2048)
    (outside,) = compare(table(1000, 512, 1024), table(3000, 2048, 4096)).changes
    assert outside.crossover is None


def _refused_from(end: int, first_refused: int) -> Table:
    """A table whose candidate wins twelvefold up to `end` and is refused from another measured size on."""
    bands = (
        Band(end, "aiter", "faster", "rccl", 11.1, (9.0, 13.5), 9, 90),
        Band(65536, "rccl", "excluded", None, None, None, 3, 0),
    )
    border = Crossover(end, end, first_refused, "aiter", "rccl")
    refused = Exclusion("aiter", "unsupported", first_refused, 65536, "larger than its pool")
    return make_table((CellTable(CELL, 16, 65536, bands, (border,), (), (refused,), (), 0.0),))


def test_where_an_exclusion_begins_is_no_crossover() -> None:
    """Sizes between the last right one and the first excluded one are marked as that, by either table.

    Nothing there says that the two are equal.
    """
    a, b = _refused_from(1024, 16384), _refused_from(4096, 65536)
    for first, second, table in ((a, b, "a"), (b, a, "b")):
        (change,) = compare(first, second).changes
        assert change.crossover is None
        assert change.exclusion == ExclusionBorder("aiter", table, 1024, 16384, upwards=True)


def test_a_crossover_that_the_other_table_contradicts_is_not_called_equal() -> None:
    """A wide interval of one table says nothing where the other proves a winner and has no border of its own."""
    cell = make_cell(CELL, 16, [1000, 65536], ["aiter", "rccl"])
    wide = make_table((cell._replace(crossovers=(Crossover(1000, 16, 65536, "aiter", "rccl"),)),))
    (change,) = compare(wide, make_table((make_cell(CELL, 16, [65536], ["aiter"]),))).changes
    assert (change.low, change.high, change.crossover) == (1001, 65536, None)
    # A border of its own that may lie there, be it at the last size, says that it does not know either.
    for low, high, equal in ((65536, 70000, True), (512, 1001, True), (65537, 70000, False), (512, 1000, False)):
        other = make_cell(CELL, 16, [65536, 70000], ["aiter", "rccl"])
        other = other._replace(crossovers=(Crossover(65536, low, high, "aiter", "rccl"),))
        changes = compare(wide, make_table((other,))).changes
        assert changes[0].crossover == ((16, 65536) if equal else None)
    tie = Band(65536, "rccl", "tie", "aiter", 0.0, (-0.1, 0.1), 3, 30)
    undecided = make_table((make_cell(CELL, 16, [65536], ["rccl"])._replace(bands=(tie,)),))
    (change,) = compare(wide, undecided).changes
    assert change.crossover == (16, 65536)
