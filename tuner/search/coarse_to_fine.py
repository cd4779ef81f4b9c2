"""The plain search: a coarse grid over every cell, then halving between neighbours that disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from ccl_dispatch.tuner.search.base import Observation, PointSampler, SearchSpace
from ccl_dispatch.tuner.statistics import Interval

_NOBODY = "baseline"


class CoarseToFineSampler(PointSampler):
    """First every cell at every octave (and at all required sizes), widely spaced sizes first; then refinement.

    Refinement takes the widest gap between two measured neighbours whose choice of backend differs and measures its
    middle, until the neighbours on both sides of every change are neighbours in the grid of sizes as well.

    Args:
        space: the points.
        threshold: log(1 + min_gain): what a candidate must gain to be chosen.
    """

    def __init__(self, space: SearchSpace, threshold: float) -> None:
        super().__init__(space)
        self._threshold = threshold
        self._waves = {
            cell: _coarse_waves(sizes, space.required.get(cell, frozenset())) for cell, sizes in space.grid.items()
        }

    def propose(self, observations: Sequence[Observation]) -> tuple[str, int] | None:
        """See the class."""
        known = self._by_cell(observations)
        return self._coarse(known) or self._refine(known)

    def count_remaining(self, observations: Sequence[Observation]) -> int:
        """What is left of the first look, and the halvings of the gaps that are known to need them."""
        known = self._by_cell(observations)
        coarse = sum(size not in known[cell] for cell, waves in self._waves.items() for wave in waves for size in wave)
        return coarse + sum(gap.bit_length() - 1 for _, gap, _ in self._gaps(known))

    def _by_cell(self, observations: Sequence[Observation]) -> dict[str, dict[int, Observation]]:
        known: dict[str, dict[int, Observation]] = {cell: {} for cell in self.space.cells}
        for observation in observations:
            if observation.cell in known:
                known[observation.cell][observation.size] = observation
        return known

    def _coarse(self, known: Mapping[str, Mapping[int, Observation]]) -> tuple[str, int] | None:
        # Wave by wave through all cells: a sweep that is cut short has looked everywhere, if not closely.
        deepest = max(len(waves) for waves in self._waves.values())
        for depth in range(deepest):
            for cell in self.space.cells:
                waves = self._waves[cell]
                for size in waves[depth] if depth < len(waves) else ():
                    if size not in known[cell]:
                        return cell, size
        return None

    def _refine(self, known: Mapping[str, Mapping[int, Observation]]) -> tuple[str, int] | None:
        # Of equal gaps the first one: max keeps it.
        cell, _, size = max(self._gaps(known), key=lambda found: found[1], default=("", 0, 0))
        return (cell, size) if cell else None

    def _gaps(self, known: Mapping[str, Mapping[int, Observation]]) -> list[tuple[str, int, int]]:
        """Neighbours that disagree with sizes between them: (cell, steps of the grid, the size in the middle)."""
        found = []
        for cell in self.space.cells:
            grid = self.space.grid[cell]
            measured = [place for place, size in enumerate(grid) if size in known[cell]]
            for left, right in pairwise(measured):
                ends = known[cell][grid[left]], known[cell][grid[right]]
                disagree = len({self._choice(end.verdicts) for end in ends}) > 1
                if right - left > 1 and disagree and not any(end.pending for end in ends):
                    found.append((cell, right - left, grid[(left + right) // 2]))
        return found

    def _choice(self, verdicts: Mapping[str, Interval]) -> str:
        best = max(verdicts, key=lambda name: (verdicts[name].median, name), default=_NOBODY)
        return best if best in verdicts and verdicts[best].median > self._threshold else _NOBODY


def _coarse_waves(sizes: Sequence[int], required: frozenset[int]) -> list[list[int]]:
    """The sizes of the first look: ends and required sizes, then every 8th, 4th, 2nd and every octave between."""
    octaves = [sizes[0]]
    for size in sizes:
        if size >= 2 * octaves[-1]:
            octaves.append(size)
    waves = [sorted({sizes[0], sizes[-1], *required})]
    seen = set(waves[0])
    for step in (8, 4, 2, 1):
        wave = [size for size in octaves[::step] if size not in seen]
        seen.update(wave)
        waves.append(wave)
    return waves
