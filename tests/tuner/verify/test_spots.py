"""Where a table is looked at again."""

from __future__ import annotations

from made_tables import make_cell

from ccl_dispatch.runtime.table import CellTable, Override
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.verify.spots import Spot, choose_spots

CELL = Cell("all_gather", "graph", "first", "bfloat16", 8)


def _table() -> CellTable:
    cell = make_cell(CELL, 16, [65536, 1 << 20], ["aiter", "rccl"])
    return cell._replace(overrides=(Override(131072, (1, 65536), "aiter", "rccl", 0.2, (0.1, 0.3), 20),))


def _spots(cell: CellTable, seed: int = 0, limits: tuple[int, int] = (16, 1 << 30)) -> tuple[Spot, ...]:
    workload = [((1, 7168), 14336, 1.0), ((1, 1 << 20), 1 << 21, 9.0)]
    return choose_spots(cell, known={4112: 8, 4000: 1}, workload=workload, limits=limits, seed=seed)


def test_borders_middles_ends_shapes_and_random_sizes_are_all_there() -> None:
    """Each reason to look again has its sizes, a shape outside of the cell has none, known sizes are taken again."""
    spots = {spot.size: spot for spot in _spots(_table())}
    (crossover,) = _table().crossovers
    assert {spots[size].why for size in (crossover.low, crossover.high)} == {"border"}
    assert (spots[16].why, spots[1 << 20].why) == ("end", "end")
    assert (spots[131072].why, spots[131072].shape) == ("override", (1, 65536))
    assert (spots[14336].why, spots[14336].shape) == ("workload", (1, 7168))
    assert sum(spot.why == "random" for spot in spots.values()) == 2
    assert sum(spot.why == "middle" for spot in spots.values()) == 2
    assert spots[4112].why == "even", "of two sizes nearby the one that the reference knows better"
    assert 1 << 21 not in spots


def test_sizes_are_those_that_backends_take() -> None:
    """All rise, none comes twice, and what the tool chose itself is a multiple of 16, or of 128 along a last dim."""
    for cell, step in ((_table(), 16), (_table()._replace(cell=CELL._replace(dim="last"), measured_from=128), 128)):
        spots = _spots(cell)
        sizes = [spot.size for spot in spots]
        assert sizes == sorted(set(sizes))
        assert all(spot.size % step == 0 for spot in spots if spot.why in ("random", "middle"))


def test_random_sizes_hang_on_the_seed_alone() -> None:
    """The same seed gives the same sizes, another one others."""
    assert _spots(_table(), 1) == _spots(_table(), 1)
    assert _spots(_table(), 1) != _spots(_table(), 2)


def test_what_can_not_be_measured_is_left_out() -> None:
    """Nothing lies outside of the limits; a cell that lies outside of them has no size at all."""
    assert all(1024 <= spot.size <= 4096 for spot in _spots(_table(), limits=(1024, 4096)))
    assert _spots(_table(), limits=(1 << 25, 1 << 26)) == ()
