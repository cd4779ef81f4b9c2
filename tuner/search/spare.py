"""What a budget is spent on that nothing else needs: where a surprise could be that no belief has thought of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import Noise
from ccl_dispatch.tuner.curves.visits import LONG, SIZES_AGAIN
from ccl_dispatch.tuner.search.base import Observation, joined_samples
from ccl_dispatch.tuner.search.family import CellView

# Sizes that lie further apart than that have something between them that nobody looked at.
_OCTAVE = 1.0


def spare_look(
    cells: Sequence[tuple[CellView, NDArray[np.bool_]]],
    seen: Mapping[str, Collection[int]],
    finished: Sequence[Observation],
    noise: Mapping[str, Noise],
) -> tuple[str, int] | None:
    """Cell and size that are looked at once by every belief nothing is left to win; None when there is none.

    Beliefs about curves come from what was measured, and what is certain by them may be wrong in two ways: an island
    that no size was measured in, and a lone sample that was an outlier. So the widest gap of more than an octave is
    halved, and when there is none the lone sample that decides the most is taken again.

    Args:
        cells: what is known of each, and the sizes that the budget has room for.
        seen: per cell the sizes that were measured, or are being measured.
        finished: visits so far.
        noise: of the study, per candidate.
    """
    counts: dict[tuple[str, int], int] = {}
    for name, own in noise.items():
        for point, samples in joined_samples(finished, name).items():
            count = len(samples.repeats) + (len(samples.firsts) if own.first.usable else 0)
            counts[point] = min(count, counts.get(point, count))
    gaps, lone = [], []
    for view, affordable in cells:
        grid = view.grid
        known = np.array([size in seen[grid.name] for size in grid.sizes])
        worth_a_look = affordable & ~np.logical_and.reduce(list(view.forbidden.values()))
        places = np.flatnonzero(known)
        for low, high in pairwise(places.tolist()):
            middle = int(np.argmin(np.abs(grid.x - (grid.x[low] + grid.x[high]) / 2)))
            if grid.x[high] - grid.x[low] > _OCTAVE and not known[middle] and worth_a_look[middle]:
                gaps.append((float(grid.x[high] - grid.x[low]), grid.name, grid.sizes[middle]))
        # What lies half-way to its neighbours is decided by a size.
        octaves = np.gradient(grid.x[places]) if len(places) > 1 else np.ones(len(places))
        for at, span in zip(places.tolist(), octaves.tolist(), strict=True):
            size = grid.sizes[at]
            if counts.get((grid.name, size)) == 1 and at not in view.closed and worth_a_look[at]:
                lead = max(abs(float(one.mean[at])) for one in view.leads.values())
                lone.append((span * lead, grid.name, size))
    found = max(gaps or lone, default=None, key=lambda item: (item[0], -item[2], item[1]))
    return found and found[1:]


def look_again(views: Sequence[CellView], least: float) -> tuple[str, int] | None:
    """The point that was put down to an outlier where most is expected to be lost by that; None if `least` at most is.

    A visit near it may tell as well, and is rated beside all others (`Dismissed.worth`). But no search is through
    while what it dismissed may be true.
    """
    found = [
        (point.lost, view.grid, point.place)
        for view in views
        for point in view.dismissed
        if point.lost > least and point.place not in view.closed
    ]
    if not found:
        return None
    _, grid, place = max(found, key=itemgetter(0))
    return grid.name, grid.sizes[place]


def visit_again(looks: Collection[tuple[str, int]], family: Sequence[Observation]) -> tuple[str, int] | None:
    """Cell and size of a family to be visited once more, to see by how much visits differ; None if that is known.

    No number of repetitions tells it, and it is not the same for cells that are measured differently (eager calls, say,
    and replays of a graph). Of the sizes that the first look measured long enough those that stand out most from their
    neighbours: if visits differ much, they did by chance. Which ones does not depend on what was measured since, so
    that several processes ask for the same.

    Args:
        looks: cells and sizes of the first look, which is over.
        family: visits that are done, and under way.
    """
    firsts: dict[str, dict[int, float]] = {}
    counts = Counter((o.cell, o.size) for o in family)
    for o in family:
        samples = next(iter(o.samples.values()), None)
        if samples is not None and len(samples.repeats) >= LONG and (o.cell, o.size) in looks:
            firsts.setdefault(o.cell, {}).setdefault(o.size, median(samples.repeats))
    found = []
    for cell, medians in firsts.items():
        known = sorted(medians.items())
        for (_, below), (size, value), (_, above) in zip(known, known[1:], known[2:], strict=False):
            found.append((-min(abs(value - below), abs(value - above)), cell, size))
    return next(((cell, size) for _, cell, size in sorted(found)[:SIZES_AGAIN] if counts[cell, size] == 1), None)
