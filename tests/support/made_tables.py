"""Tables for tests: a small one of every part, and a strategy for any valid one."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from ccl_dispatch.runtime.table import Band, CellTable, Crossover, Platform, Policy, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal

BASELINE = "rccl"
CANDIDATES = ("aiter", "symm_mem")

# The range of sizes that generated cells and the lookups on them come from, in bytes.
LARGEST = 1 << 20


def make_table(cells: tuple[CellTable, ...], name: str = "made") -> Table:
    """A sealed table of `cells`; its figures were made up for a test and its evidence says so."""
    platform = Platform("cpu", "made up", "made up", 8, "", {"torch": "0"}, {})
    policy = Policy(0.03, 0.95, "isolated")
    evidence = {"note": "made up for a test"}
    return seal(Table(name, "a test", "replayed", BASELINE, CANDIDATES, platform, policy, cells, evidence, "", ""))


def make_cell(cell: Cell, start: int, ends: list[int], uses: list[str]) -> CellTable:
    """A cell with one band per end, rising; uses of neighbours differ."""
    bands = tuple(
        Band(end, use, "faster", CANDIDATES[0] if use == BASELINE else BASELINE, 0.25, (0.2, 0.3), 3, 30)
        for end, use in zip(ends, uses, strict=True)
    )
    crossovers = tuple(
        Crossover(low.up_to, low.up_to - 1 if low.up_to > start else low.up_to, low.up_to + 1, low.use, high.use)
        for low, high in pairwise(bands)
    )
    return CellTable(cell, start, ends[-1], bands, crossovers, (), (), (), 0.001)


@st.composite
def cell_tables(draw: st.DrawFn, cell: Cell) -> CellTable:
    """Any run of bands over any range."""
    edges = sorted(draw(st.sets(st.integers(16, LARGEST), min_size=2, max_size=8)))
    uses: list[str] = []
    for _ in edges[1:]:
        uses.append(draw(st.sampled_from([name for name in (BASELINE, *CANDIDATES) if uses[-1:] != [name]])))
    return make_cell(cell, edges[0], edges[1:], uses)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Any table of one to three cells."""
    world_sizes = draw(st.sets(st.sampled_from([2, 4, 8]), min_size=1, max_size=3))
    cells = tuple(
        draw(cell_tables(Cell("all_gather", "graph", "first", "bfloat16", world_size))) for world_size in world_sizes
    )
    return make_table(cells)
