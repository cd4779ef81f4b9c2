"""What the table would use now, as far as the points so far tell: the search's own curves, for people who watch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ccl_dispatch.tuner.curves import Noise, PointSamples
from ccl_dispatch.tuner.search.base import Observation, study_noise
from ccl_dispatch.tuner.search.family import NOISE_GROWTH, CellView, Family, checkpoint, make_grid

if TYPE_CHECKING:
    from ccl_dispatch.tuner.plan import Plan
    from ccl_dispatch.tuner.samples import PointResult


class Belief(NamedTuple):
    """One cell as the points so far show it.

    Attributes:
        sizes: of the cell's grid, rising.
        uses: per size the backend that is ahead by at least `min_gain`, the baseline where none is; empty where no
            point of this cell or of one that may be alike tells anything.
        sureness: per size how probable it is that this is the right one, by the curves. What a candidate's band must
            prove besides is not in it.
        regret: what choosing so is expected to lose, mean log units over the cell.
    """

    sizes: tuple[int, ...]
    uses: tuple[str, ...]
    sureness: tuple[float, ...]
    regret: float

    def runs(self) -> list[tuple[str, int, float]]:
        """Backend, last size and mean sureness of each run of sizes with one backend."""
        found: list[tuple[str, int, float]] = []
        start = 0
        for place, use in enumerate(self.uses):
            if place + 1 == len(self.uses) or self.uses[place + 1] != use:
                part = self.sureness[start : place + 1]
                found.append((use, self.sizes[place], math.fsum(part) / len(part)))
                start = place + 1
        return found


def unknown(sizes: tuple[int, ...]) -> Belief:
    """What is believed of a cell before anything is known."""
    return Belief(sizes, ("",) * len(sizes), (0.0,) * len(sizes), math.inf)


class Beliefs:
    """The beliefs on all cells of a plan. Points are taken at once; a cell is worked out when it is asked for."""

    def __init__(self, plan: Plan) -> None:
        space = plan.space
        self._baseline = plan.settings.baseline
        self._candidates = plan.settings.candidates
        grids = {name: make_grid(name, space.grid[name], space.workload.get(name, {})) for name in space.cells}
        threshold = plan.settings.rule.threshold
        self._families = [
            Family([grids[name] for name in family], self._candidates, threshold, [1]) for family in space.all_families
        ]
        self._place = {
            name: (number, place)
            for number, family in enumerate(space.all_families)
            for place, name in enumerate(family)
        }
        self._seen: list[list[Observation]] = [[] for _ in self._families]
        self._everything: list[Observation] = []
        self._noise: tuple[int, Mapping[str, Noise]] = (-1, {})
        self._known: dict[str, tuple[int, Belief]] = {}
        self._changed: dict[str, int] = {}

    def take(self, result: PointResult) -> None:
        """One more point."""
        name = result.cell.name
        if name not in self._place:
            return
        ratios = {other: result.log_ratios(self._baseline, other) for other in self._candidates}
        samples = {
            other: PointSamples(tuple(values), tuple(result.first_log_ratios(self._baseline, other)))
            for other, values in ratios.items()
            if values
        }
        excluded, refused = result.unusable()
        observation = Observation(name, result.size, samples, excluded=excluded, refused=refused)
        self._seen[self._place[name][0]].append(observation)
        self._everything.append(observation)
        self._changed[name] = self._changed.get(name, 0) + 1

    def stale(self, name: str) -> bool:
        """Whether the cell has points that `of` has not worked in yet."""
        return name in self._changed

    def known(self, name: str) -> Belief | None:
        """The cell as it was last worked out, if ever."""
        return self._known[name][1] if name in self._known else None

    def of(self, name: str) -> Belief:
        """The cell by all points so far; takes milliseconds where there are new ones."""
        family, place = self._place[name]
        seen = self._seen[family]
        known = self._known.get(name)
        if known is None or known[0] != len(seen):
            view = self._families[family].view(place, seen, self._noise_now())
            known = (len(seen), self._belief(view, told=bool(seen)))
            self._known[name] = known
            self._changed.pop(name, None)
        return known[1]

    def _noise_now(self) -> Mapping[str, Noise]:
        at = checkpoint(len(self._everything), NOISE_GROWTH)
        if self._noise[0] != at:
            self._noise = (at, study_noise(self._everything[:at], self._candidates))
        return self._noise[1]

    def _belief(self, view: CellView, *, told: bool) -> Belief:
        sizes = view.grid.sizes
        if not told:
            return unknown(sizes)
        uses = [self._baseline] * len(sizes)
        sureness = np.ones(len(sizes))
        for name, lead in view.leads.items():
            forbidden = view.forbidden[name]
            for place, (mean, deviation) in enumerate(zip(lead.mean.tolist(), lead.deviation.tolist(), strict=True)):
                if forbidden[place] or not math.isfinite(mean):
                    continue
                ahead = mean > 0
                if ahead:
                    uses[place] = name
                # Of each candidate apart: where several are close to the one that is used the least sure one counts.
                sureness[place] = min(sureness[place], _normal(abs(mean) / max(deviation, 1e-9)))
        return Belief(sizes, tuple(uses), tuple(sureness.tolist()), view.regret)


def _normal(z: float) -> float:
    """The probability that a standard normal lies below `z`."""
    return 0.5 * math.erfc(-z / math.sqrt(2))
