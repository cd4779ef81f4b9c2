"""The first look: which points are measured before anything is known that could choose them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.search.base import Observation, SearchSpace
from ccl_dispatch.tuner.search.family import CellGrid

Array = NDArray[np.float64]

# The first look at the first cell of a family, in sizes: few where the budget has room for few.
_LOOKS = (3, 9)
# And at its other cells: both ends, enough to see whether they may be alike.
_LOOKS_OF_OTHERS = 2
# Of the time that is left for a cell a look may take that part, one at the largest size half of it; and nearly all
# where a table could use a candidate up to there.
_TIME_OF_A_LOOK = 0.2
_TIME_OF_THE_LARGEST = 0.5
_TIME_OF_THE_LAST = 0.97


def first_looks(
    space: SearchSpace, grids: Mapping[str, CellGrid], visits: float | None, *, hurried: bool
) -> list[tuple[str, int]]:
    """Cells and sizes in order: both ends of every cell first, then what halves the widest gaps, then the workload.

    Args:
        space: the points.
        grids: of its cells, by name.
        visits: short ones that the budget has room for, for each cell; None where executions have no limit.
        hurried: whether there is a budget at all; without one every octave of every cell is looked at.
    """
    low, high = _LOOKS
    count = high
    if not hurried:
        # Nobody is in a hurry: every octave, everywhere.
        spans = [grid.x[-1] - grid.x[0] for grid in grids.values()]
        count = max(high, 1 + round(float(max(spans))))
    if visits is not None:
        # Half of a small budget, less than a tenth of a large one: 5 sizes of 7 visits, 6 of 13, 9 of 60.
        count = min(high, max(low, round(2 + 1.1 * math.log2(max(visits, 1.0)))))
        if len(space.all_families) > 1:
            # A cell that turns out plain leaves its share to the others: a third of the budget, 5 of 9, 9 of 21.
            count = max(count, min(high, round(2 + visits / 3)))
    waves: list[list[tuple[str, int]]] = []
    for family in space.all_families:
        for place, name in enumerate(family):
            first = place == 0 or count > high
            sizes = _spread(grids[name].x, count if first else _LOOKS_OF_OTHERS, 0 if first else place)
            order = [sizes[0], sizes[-1], *_halving(sizes)] if len(sizes) > 1 else sizes
            for depth, at in enumerate(order):
                while len(waves) <= depth:
                    waves.append([])
                waves[depth].append((name, grids[name].sizes[at]))
    shapes = [(name, size) for name in grids for size in sorted(space.workload.get(name, {}))]
    return list(dict.fromkeys([point for wave in waves for point in wave] + shapes))


def next_look(
    waiting: Sequence[tuple[str, int]],
    grids: Mapping[str, CellGrid],
    finished: Sequence[Observation],
    seen: Mapping[str, set[int]],
    seconds: float,
    takes: Callable[[str], Array],
) -> tuple[str, int] | None:
    """The first point of the first look that there is time for.

    Under a limit of time from small sizes to large ones: what larger ones take is told from how time grows up to there.
    The largest may take nearly all that is left, and so may, where it would take more, the largest size that does not;
    unless the candidates are behind up to there, so that a table would most likely use the baseline anyway. What was
    left out below comes last. The very first look is always taken: nothing is known yet of what a visit takes.

    Args:
        waiting: the looks that are left, not empty.
        grids: of the cells, by name.
        finished: visits so far.
        seen: per cell the sizes that were measured, or are being measured.
        seconds: what is left of the time.
        takes: the seconds of the shortest visit at each size of a cell.
    """
    if math.isinf(seconds) or not any(seen.values()):
        return waiting[0]
    takes = functools.cache(takes)

    def cost(name: str, size: int) -> float:
        return float(takes(name)[grids[name].sizes.index(size)])

    names = list(dict.fromkeys(name for name, _ in waiting))
    room = seconds / len(names)
    reached = {name: max(seen[name], default=0) for name in names}
    rising = sorted(waiting, key=lambda look: look[1])
    for name, size in rising:
        largest = grids[name].sizes[-1]
        part = _TIME_OF_A_LOOK
        if size == largest:
            part = _TIME_OF_THE_LARGEST if _is_behind(name, finished) else _TIME_OF_THE_LAST
        if size > reached[name] and cost(name, size) <= part * room:
            # What a look takes may be just what the largest size needs.
            left = room - cost(name, size)
            last_chance = _TIME_OF_THE_LAST * left < cost(name, largest) <= _TIME_OF_THE_LAST * room
            return name, largest if last_chance and not _is_behind(name, finished) else size
    for name in names:
        above = grids[name].x > math.log2(max(reached[name], 1))
        places = np.flatnonzero(above & (takes(name) <= _TIME_OF_THE_LAST * room))
        if len(places) and not _is_behind(name, finished):
            return name, grids[name].sizes[int(places[-1])]
    for name, size in rising:
        if size < reached[name] and cost(name, size) <= _TIME_OF_A_LOOK * room:
            return name, size
    return None


def look_left(
    waiting: Sequence[tuple[str, int]], grids: Mapping[str, CellGrid], seconds: float, takes: Callable[[str], Array]
) -> tuple[str, int] | None:
    """The first of the looks that are left that there is time for at all: for a search that would end without it.

    The parts of the time that looks may take are to leave some for what comes after them. When nothing does, all of it
    is theirs.
    """
    takes = functools.cache(takes)
    for name, size in waiting:
        if takes(name)[grids[name].sizes.index(size)] <= seconds:
            return name, size
    return None


def _is_behind(cell: str, finished: Sequence[Observation]) -> bool:
    """Whether no candidate led at the largest size that was measured in the cell."""
    mine = [o for o in finished if o.cell == cell and any(points.repeats for points in o.samples.values())]
    if not mine:
        return False
    last = max(mine, key=lambda o: o.size)
    return all(median(points.repeats) < 0 for points in last.samples.values() if points.repeats)


def _spread(x: Array, count: int, turn: int) -> list[int]:
    """Places of about `count` sizes, even on the log axis, both ends among them; `turn` shifts those between."""
    shift = (turn * 0.618) % 1.0 - 0.5 if turn else 0.0
    inner = (np.arange(1, count - 1) + shift * 0.8) / (count - 1)
    wanted = x[0] + (x[-1] - x[0]) * np.concatenate([[0.0], inner, [1.0]])
    return sorted({int(np.argmin(np.abs(x - at))) for at in wanted.tolist()})


def _halving(places: Sequence[int]) -> list[int]:
    """The inner places, those that halve the widest gaps first."""
    order = []
    gaps = [(0, len(places) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(places[middle])
            gaps += [(low, middle), (middle, high)]
    return order
