"""Explaining: the same answer as the dispatcher's, with what it rests on and what would change it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import BASELINE, LARGEST, make_cell, make_table, tables

from ccl_dispatch.runtime import explain
from ccl_dispatch.runtime.table import Band, CellTable, Exclusion, Override, Table
from ccl_dispatch.runtime.vocabulary import Cell

CELL = Cell("all_gather", "eager", "first", "bfloat16", 4)


def _table(**parts: Any) -> Table:
    cell = make_cell(CELL, 16, [1024, 4096, 65536], [BASELINE, "aiter", BASELINE])
    return make_table((cell._replace(**parts),))


def _told(table: Table, size: int) -> str:
    return "\n".join(table.explain("all_gather", 4, size).lines())


@settings(max_examples=100, deadline=None)
@given(tables(), st.sampled_from([2, 4, 8]), st.integers(-1, LARGEST + 100))
def test_it_gives_the_dispatchers_answer_and_its_band(table: Table, world_size: int, size: int) -> None:
    """For every table and size: `use` is select's answer, and it is the band's where there is one."""
    found = explain(table, "all_gather", world_size, size, mode="graph")
    assert found.use == table.dispatcher("all_gather", world_size).select(size, mode="graph")
    if found.band is None or found.band_from is None:
        assert found.use == BASELINE
    else:
        assert found.band_from <= size <= found.band.up_to
        assert found.use == found.band.use
    json.dumps(found.to_json())


@settings(max_examples=100, deadline=None)
@given(tables(), st.integers(1, LARGEST))
def test_what_it_says_would_change_the_answer_does(table: Table, size: int) -> None:
    """The neighbouring sizes that are named do use another backend, and the sizes between do not."""
    cell = table.cells[0]
    world_size = cell.cell.world_size
    found = explain(table, "all_gather", world_size, size, mode="graph")
    select = table.dispatcher("all_gather", world_size).select
    edges = [cell.measured_from - 1, *(band.up_to for band in cell.bands)]
    differ = [edge for edge in edges if select(edge, mode="graph") != select(edge + 1, mode="graph")]
    below = [edge for edge in differ if edge < size]
    above = [edge for edge in differ if edge >= size]
    others = [change for change in found.changes if change.startswith("world_size ")]
    for change in others:
        sizes, _, name = change.removeprefix("world_size ").partition(": ")
        for other in sizes.split(" or "):
            assert table.dispatcher("all_gather", int(other)).select(size, mode="graph") == name != found.use
    told = [change.split(" ", 1)[0].replace("below", "at") for change in found.changes if change not in others]
    assert told == ["at"] * bool(below) + ["above"] * bool(above) + ["no"] * (not differ)


def test_inside_a_band_it_shows_the_evidence_and_both_ends() -> None:
    """Gain, interval, samples and the two sizes at which the answer turns are told in people's units."""
    told = _told(_table(), 2048)
    for words in (
        "aiter: in a band that is proven faster as a whole: +25.0% against rccl",
        "band: 1 KiB to 4 KiB, aiter (faster), +25.0% against rccl, interval +20.0% to +30.0%, 3 points, 30 samples",
        "would change it: at 1 KiB and below: rccl; above 4 KiB: rccl",
        "made (replayed), sha256:",
    ):
        assert words in told


@pytest.mark.parametrize(("size", "side"), [(8, "below"), (65537, "above"), (0, "below"), (-5, "below")])
def test_outside_the_measured_range_it_says_so(size: int, side: str) -> None:
    """A size that was not measured is the baseline's, and the message names the side."""
    told = _told(_table(), size)
    assert told.startswith(f"{BASELINE}: ")
    assert f"lies {side} what was measured" in told


def test_a_candidate_up_to_the_end_is_not_promised_beyond_it() -> None:
    """At the end of the measured range the change is told as not measured, not as a win of the baseline."""
    table = make_table((make_cell(CELL, 16, [1024], ["aiter"]),))
    told = _told(table, 64)
    assert "below 16 B: not measured, baseline rccl" in told
    assert "above 1 KiB: not measured, baseline rccl" in told


def test_an_unknown_cell_names_what_there_is_instead() -> None:
    """For a call of no cell the message names the cells that differ from it in one thing."""
    found = explain(_table(), "all_gather", 8, 64)
    assert found.use == BASELINE
    assert found.measured is None
    assert "the table has no cell all_gather/eager/first/bfloat16/ws8" in found.reason
    assert found.changes == ("world_size 4: measured",)
    assert "differs from it in one thing" in explain(_table(), "all_gather", 8, 64, dtype="float32").changes[0]


def test_an_override_goes_before_its_band() -> None:
    """The exact size's own measurement is the reason, and any other size of the band is named as the way out."""
    table = _table(overrides=(Override(2048, (4, 256), BASELINE, "aiter", 0.1, (0.05, 0.15), 40),))
    found = table.explain("all_gather", 4, 2048, shape=(4, 256))
    assert found.use == BASELINE
    assert "exactly this size: +10.0% against aiter" in found.reason
    assert "any other size of this band: aiter" in found.changes
    assert "(shape 4,256)" in found.lines()[1]


def test_ties_and_exclusions_have_their_own_reasons() -> None:
    """A baseline band says whether nothing gains enough there or everything is excluded, and why."""
    bands = (
        Band(64, BASELINE, "tie", "aiter", 0.001, (-0.01, 0.01), 3, 90),
        Band(1024, BASELINE, "excluded", None, None, None, 2, 0),
    )
    exclusion = Exclusion("aiter", "wrong_output", 128, 1024, "rank 1 differs")
    table = make_table((CellTable(CELL, 16, 1024, bands, (), (), (exclusion,), (), None),))
    assert "no candidate is proven to gain 3%" in _told(table, 32)
    assert _told(table, 32).splitlines()[-1].endswith("aiter proven to gain 3% here, its samples show -0.1%")
    told = _told(table, 512)
    assert "every candidate is excluded here" in told
    assert "excluded: aiter from 128 B to 1 KiB (wrong_output); at 128 B: rank 1 differs" in told
    one = table._replace(cells=(table.cells[0]._replace(exclusions=(exclusion._replace(low=512, high=512),)),))
    assert "excluded: aiter (wrong_output) rank 1 differs" in _told(one, 512)
    assert "no size: the whole cell uses the baseline" in told


def test_a_likely_candidate_is_not_called_proven() -> None:
    """A candidate that is ahead without proof is used where min_gain is 0, and said to be just that."""
    bands = (Band(1024, "aiter", "likely", BASELINE, 0.04, None, 2, 6),)
    table = make_table((CellTable(CELL, 16, 1024, bands, (), (), (), (), None),))
    assert _told(table, 64).startswith("aiter: ahead here by its samples, without proof: +4.0% against rccl\n")


def test_near_a_crossover_it_says_how_uncertain_the_place_is() -> None:
    """Within a crossover's interval the two backends and the interval are named; away from it they are not."""
    assert "near a crossover: rccl below, aiter above, somewhere between 1023 B and 1 KiB" in _told(_table(), 1024)
    assert "near a crossover" not in _told(_table(), 2048)


def test_the_last_line_is_what_would_change_the_answer() -> None:
    """It names the sizes at which the answer turns, and calls of this size that differ in one thing and use another."""
    graph = make_cell(CELL._replace(mode="graph"), 16, [4096], ["symm_mem"])
    same = make_cell(CELL._replace(world_size=8), 16, [4096], ["aiter"])
    table = make_table((make_cell(CELL, 16, [1024, 4096], [BASELINE, "aiter"]), graph, same))
    last = table.explain("all_gather", 4, 2048).lines()[-1]
    assert last == (
        "would change it: at 1 KiB and below: rccl; above 4 KiB: not measured, baseline rccl; mode graph: symm_mem"
    )
