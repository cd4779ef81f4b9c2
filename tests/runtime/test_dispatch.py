"""Deciding: what the table says, and the baseline everywhere else."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import BASELINE, CANDIDATES, LARGEST, make_cell, make_table, tables

from ccl_dispatch.runtime.dispatch import MAX_KEPT, Answers, Dispatcher
from ccl_dispatch.runtime.table import Override, Table
from ccl_dispatch.runtime.vocabulary import Cell

CELL = Cell("all_gather", "eager", "first", "bfloat16", 4)


def _scan(table: Table, world_size: int, size: int) -> str:
    """The answer by reading the table from top to bottom."""
    for cell in table.cells:
        if cell.cell.world_size == world_size and cell.measured_from <= size <= cell.measured_to:
            return next(band.use for band in cell.bands if size <= band.up_to)
    return table.baseline


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([2, 4, 8]), st.integers(-1, LARGEST + 100))
def test_select_and_bind_agree_with_reading_the_table(table: Table, world_size: int, size: int) -> None:
    """For every table and size, select and a bound lookup give what a linear scan of the bands gives."""
    dispatcher = table.dispatcher("all_gather", world_size=world_size)
    expected = _scan(table, world_size, size)
    assert dispatcher.select(size, dtype="bfloat16", mode="graph") == expected
    assert dispatcher.bind(dtype="bfloat16", mode="graph")(size) == expected


@settings(max_examples=50, deadline=None)
@given(tables())
def test_the_ends_of_every_band_are_exact(table: Table) -> None:
    """`up_to` itself belongs to its band, and the byte after it to the next one."""
    for cell in table.cells:
        use = table.dispatcher("all_gather", world_size=cell.cell.world_size).bind(dtype="bfloat16", mode="graph")
        for band, after in zip(cell.bands, [*[band.use for band in cell.bands[1:]], BASELINE], strict=True):
            assert use(band.up_to) == band.use
            assert use(band.up_to + 1) == after
        assert use(cell.measured_from - 1) == BASELINE


def test_what_the_table_does_not_know_is_the_baseline() -> None:
    """Another collective, world size, dtype, mode or dim, known or not, gives the baseline and no exception."""
    table = make_table((make_cell(CELL, 16, [1024], ["aiter"]),))
    assert table.dispatcher("all_gather", world_size=4).select(64, dtype="bfloat16", mode="eager") == "aiter"
    assert table.dispatcher("all_gather", world_size=6).select(64, dtype="bfloat16", mode="eager") == BASELINE
    assert table.dispatcher("all_reduce", world_size=4).select(64, dtype="bfloat16", mode="eager") == BASELINE
    here = table.dispatcher("all_gather", world_size=4)
    for dtype, mode, dim in (
        ("float32", "eager", "first"),
        ("no such dtype", "eager", "first"),
        (None, "eager", "first"),
        ([], "eager", "first"),
        ("bfloat16", "graph", "first"),
        ("bfloat16", "no such mode", "first"),
        ("bfloat16", "eager", "last"),
    ):
        assert here.select(64, dtype=dtype, mode=mode, dim=dim) == BASELINE


def test_an_override_holds_for_its_exact_size_alone() -> None:
    """A workload shape's own measurement decides for its size and for no neighbour."""
    cell = make_cell(CELL, 16, [1024], ["aiter"])
    override = Override(512, (1, 256), BASELINE, "aiter", 0.1, (0.05, 0.15), 40)
    table = make_table((cell._replace(overrides=(override,)),))
    use = table.dispatcher("all_gather", world_size=4).bind(dtype="bfloat16", mode="eager")
    assert [use(511), use(512), use(513)] == ["aiter", BASELINE, "aiter"]


@settings(max_examples=100, deadline=None)
@given(tables(), st.data())
def test_overrides_change_their_sizes_and_nothing_else(table: Table, data: st.DataObject) -> None:
    """For any overrides, also neighbouring ones and ones at a band's ends, all other sizes keep their backend."""
    cell = table.cells[0]
    world_size = cell.cell.world_size
    ends = [cell.measured_from, *(band.up_to for band in cell.bands)]
    near = st.builds(lambda end, step: end + step, st.sampled_from(ends), st.integers(-2, 2))
    inside = near.filter(lambda size: cell.measured_from <= size <= cell.measured_to)
    chosen = data.draw(st.dictionaries(inside, st.sampled_from([BASELINE, *CANDIDATES]), max_size=6))
    overrides = tuple(Override(size, (size,), use, "other", 0.1, (0.0, 0.2), 9) for size, use in chosen.items())
    changed = table._replace(cells=(cell._replace(overrides=overrides), *table.cells[1:]))
    dispatcher = changed.dispatcher("all_gather", world_size)
    use = dispatcher.bind("bfloat16", "graph")
    for size in {end + step for end in ends for step in range(-3, 4)}:
        expected = chosen.get(size) or _scan(table, world_size, size)
        assert use(size) == dispatcher.select(size, mode="graph") == expected


def test_a_torch_dtype_is_its_name() -> None:
    """torch.bfloat16 and "bfloat16" are the same cell, on the first call and on later ones."""
    import torch

    table = make_table((make_cell(CELL, 16, [1024], ["aiter"]),))
    dispatcher = table.dispatcher("all_gather", world_size=4)
    assert [dispatcher.select(64, dtype=torch.bfloat16, mode="eager") for _ in range(3)] == ["aiter"] * 3
    assert dispatcher.select(64, dtype=torch.float16, mode="eager") == BASELINE


def test_so_many_answers_are_kept_and_no_more() -> None:
    """Of the sizes that were asked for first each is found at once from then on; the memory of a cell is bounded, and
    answers beyond it are right as well.
    """
    answers = Answers((MAX_KEPT - 10, MAX_KEPT + 10), ("low", "middle", "high"))
    expected = [
        "low" if size <= MAX_KEPT - 10 else "middle" if size <= MAX_KEPT + 10 else "high" for size in range(5000)
    ]
    for _ in range(2):
        assert [answers[size] for size in range(5000)] == expected
        assert list(answers) == list(range(MAX_KEPT))


def _elsewhere(dispatcher: Dispatcher, use: Callable[[int], str], size: int) -> tuple[str, str, str]:
    return dispatcher.select(size, "bfloat16", "eager"), dispatcher.bind()(size), use(size)


def test_a_dispatcher_and_what_it_binds_go_to_another_process() -> None:
    """A spawned worker that was given them decides as their maker does; so does a deep copy."""
    dispatcher = make_table((make_cell(CELL, 16, [1024, 4096], ["aiter", "symm_mem"]),)).dispatcher("all_gather", 4)
    use = dispatcher.bind()
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        for size, name in ((64, "aiter"), (2048, "symm_mem"), (8192, BASELINE)):
            assert workers.apply(_elsewhere, (dispatcher, use, size)) == (name,) * 3
            assert copy.deepcopy(dispatcher).select(size) == name
    assert pickle.loads(pickle.dumps(dispatcher.bind("float32")))(64) == BASELINE  # noqa: S301 - our own bytes
