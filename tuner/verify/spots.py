"""Where a table is looked at again: around its borders, inside its bands, along its whole range, and at random."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccl_dispatch.runtime.table import CellTable
from ccl_dispatch.tuner.config.model import alignment
from ccl_dispatch.tuner.sizes import size_grid

# A size on every second octave is compared with the reference: a change of a protocol's worth of sizes is seen at two.
OCTAVES_APART = 2.0
RANDOM_SIZES = 2
# Of a cell's workload shapes the heaviest; of its borders, however many there are, these many.
_MOST_SHAPES = 6
_MOST_BORDERS = 12
_MOST_OVERRIDES = 12


@dataclass(frozen=True)
class Spot:
    """A size that is measured again, in per-rank input bytes, the workload shape that it stands for, and why it is."""

    size: int
    why: str
    shape: tuple[int, ...] = ()


def choose_spots(
    cell: CellTable,
    *,
    known: Mapping[int, int],
    workload: Sequence[tuple[tuple[int, ...], int, float]],
    limits: tuple[int, int],
    seed: int,
) -> tuple[Spot, ...]:
    """The sizes of one cell to measure, rising, none twice.

    Args:
        known: sizes at which the reference has been, and how many visits it has there.
        workload: (shape, size, weight) of the calls that the cell must answer for.
        limits: the least and the largest size that can be measured.
        seed: of the random sizes.
    """
    low, high = max(cell.measured_from, limits[0]), min(cell.measured_to, limits[1])
    if low > high:
        return ()
    step = alignment(cell.cell, low, high)
    spots = [Spot(low, "end"), Spot(high, "end")]
    overrides = sorted(cell.overrides, key=lambda item: (-item.gain, item.size))[:_MOST_OVERRIDES]
    spots += [Spot(item.size, "override", item.shape) for item in overrides]
    heaviest = sorted(workload, key=lambda entry: (-entry[2], entry[1]))[:_MOST_SHAPES]
    spots += [Spot(size, "workload", shape) for shape, size, _ in heaviest]
    borders = sorted(cell.crossovers, key=lambda item: item.high / item.low)[:_MOST_BORDERS]
    spots += [Spot(size, "border") for item in borders for size in (item.low, item.high)]
    start = cell.measured_from
    for band in cell.bands:
        spots.append(Spot(_aligned(math.sqrt(start * band.up_to), step), "middle"))
        start = band.up_to + 1
    spots += [Spot(size, "even") for size in _even(low, high, step, known)]
    rng = random.Random(f"{seed}/{cell.cell.name}")
    spots += [
        Spot(_aligned(math.exp(rng.uniform(math.log(low), math.log(high))), step), "random")
        for _ in range(RANDOM_SIZES if high // step > low // step else 0)
    ]
    chosen: dict[int, Spot] = {}
    for spot in spots:
        if low <= spot.size <= high:
            chosen.setdefault(spot.size, spot)
    return tuple(chosen[size] for size in sorted(chosen))


def _even(low: int, high: int, step: int, known: Mapping[int, int]) -> list[int]:
    """Sizes evenly spread over the range: where the reference has been, the ones that it knows best.

    A reference that was made by this very choice has the same sizes again.
    """
    wanted = size_grid(low, high, 1, step) if low // step < high // step else (low,)
    wanted = wanted[:: int(OCTAVES_APART)]
    found = []
    for size in wanted:
        reach = 2 ** (OCTAVES_APART / 2)
        near = [other for other in known if size / reach < other <= size * reach and low <= other <= high]
        found.append(min(near, key=lambda other: (-known[other], abs(math.log(other / size)), other)) if near else size)
    return found


def _aligned(size: float, step: int) -> int:
    return max(round(size / step) * step, step)
