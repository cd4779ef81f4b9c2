"""What the search thinks of each cell: its curve's view, what visits would be worth, the proofs that are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import Noise
from ccl_dispatch.tuner.search.base import Observation, joined_samples, study_noise
from ccl_dispatch.tuner.search.costs import Budget, CostModel
from ccl_dispatch.tuner.search.family import CellView, Family, checkpoint
from ccl_dispatch.tuner.search.index import FamilyPoints
from ccl_dispatch.tuner.search.proof import Proof, missing_proofs, open_limits
from ccl_dispatch.tuner.search.rates import Best, best_of, share_of, worth_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CellState:
    """A cell with what each visit would be worth, the same per share of the budget, the best visit, the executions that
    a visit of each row uses, the seconds of the shortest and the longest visit, the proofs that are missing (each after
    its worth per share), and what is expected to be lost.
    """

    view: CellView
    costs: CostModel
    worth: Array
    rates: Array
    best: Best
    uses: Array
    shortest: float
    longest: float
    proofs: tuple[tuple[float, Proof], ...]
    regret: float

    def affordable(self, choices: Array, left: float, seconds: float) -> NDArray[np.bool_]:
        """The sizes that the budget has room for a shortest visit of."""
        times = self.costs.seconds(self.view.grid.x, choices[:1])[0]
        return np.asarray((times <= seconds) & (self.uses[0] <= left))

    def most_repeats(self, choices: Array, size: int, left: float, seconds: float) -> int:
        """The most repetitions of a size that the budget has room for; 0 where it has none for a shortest visit."""
        times = self.costs.seconds(np.log2(np.array([float(size)])), choices)[:, 0]
        return int(np.max(choices, where=(times <= seconds) & (self.uses <= left), initial=0))

    def best_above(self, least: float) -> Best:
        """The best visit among those that are worth more than `least`; of no rate where none is.

        By its rate alone a short call comes first, though it may win next to nothing, and long ones a lot.
        """
        if self.best.worth > least:
            return self.best
        return best_of(self.worth, np.where(self.worth > least, self.rates, 0.0))

    def affordable_rates(self, choices: Array, rows: int, seconds: float) -> Array:
        """The first rows of `rates`, nothing where a visit takes longer than `seconds`."""
        times = self.costs.seconds(self.view.grid.x, choices[:rows])
        return np.where(times <= seconds, self.rates[:rows], 0.0)


class States:
    """The states of all cells, each made anew when something has changed for it.

    Of each cell its state is as of its own last visit, or the last checkpoint where that is later. What a visit of one
    cell tells of the others can wait that long, but not to the end: mostly their doubts get smaller by it, but where it
    shows by how much visits differ, what was proven may be so no more.

    Args:
        families: of cells that share what they learn.
        budget: what may be spent.
        choices: numbers of repetitions that a visit may have.
        threshold, confidence: of a proof.
        latest: whether the states are as of now instead, and by each family's own noise: as a table is made.
    """

    def __init__(
        self,
        families: Sequence[Family],
        budget: Budget,
        choices: Array,
        threshold: float,
        confidence: float,
        *,
        latest: bool,
    ) -> None:
        self._families = families
        self._budget = budget
        self._choices = choices
        self._threshold = threshold
        self._confidence = confidence
        self._latest = latest
        self._cells: dict[str, tuple[object, CellState]] = {}
        self._of_family: dict[int, tuple[object, list[CellState]]] = {}

    def of(
        self,
        families: Sequence[FamilyPoints],
        noise: Mapping[str, Noise],
        at: int,
        finished: Sequence[Observation],
        *,
        warm_up: bool,
    ) -> list[CellState]:
        """Of each cell the state.

        Args:
            families: what is known of each family, in the order of the families.
            noise: of the study's samples after its first `at` visits, by candidate.
            finished: all visits.
            warm_up: whether also a short visit needs one.
        """
        return [
            state
            for place, own in enumerate(families)
            for state in self._of_one(place, own, noise, at, finished, warm_up=warm_up)
        ]

    def _of_one(
        self,
        place: int,
        mine: FamilyPoints,
        noise: Mapping[str, Noise],
        at: int,
        finished: Sequence[Observation],
        *,
        warm_up: bool,
    ) -> list[CellState]:
        family = self._families[place]
        done, waiting = mine
        under_way = tuple((o.cell, o.size) for o in waiting)
        whole = (len(done), under_way, at, warm_up)
        if place in self._of_family and self._of_family[place][0] == whole:
            return self._of_family[place][1]
        if self._latest:
            noise = study_noise(done, noise)
        least = len(done) if self._latest else checkpoint(len(done))
        upto = {grid.name: least for grid in family.grids}
        for number, observation in enumerate(done[least:], least + 1):
            upto[observation.cell] = number
        states = []
        for index, grid in enumerate(family.grids):
            key = (upto[grid.name], under_way, at, warm_up)
            known = self._cells.get(grid.name)
            if known is None or known[0] != key:
                seen = [*done[: upto[grid.name]], *waiting]
                view = family.view(index, seen, noise, warm_up=warm_up)
                self._cells[grid.name] = known = (key, self._state(view, seen, finished, warm_up=warm_up))
            states.append(known[1])
        self._of_family[place] = (whole, states)
        return states

    def _state(
        self, view: CellView, family: Sequence[Observation], finished: Sequence[Observation], *, warm_up: bool
    ) -> CellState:
        mine = [o for o in family if o.cell == view.grid.name and not o.pending]
        costs = CostModel(self._budget, mine, finished, warm_up=warm_up)
        shares = costs.shares(view.grid.x, self._choices)
        worth = worth_of(view, shares)
        rates = worth / shares
        proofs: list[Proof] = []
        for name, lead in view.leads.items():
            samples = {size: found for (_, size), found in joined_samples(mine, name).items()}
            allowed = np.where(view.forbidden[name], -np.inf, lead.mean)
            noise = view.noise[name]
            proofs += missing_proofs(view.grid, allowed, samples, self._threshold, self._confidence, noise)
            bad = {o.size for o in mine if name in o.excluded}
            if bad:
                seen = {o.size for o in family if o.cell == view.grid.name}
                proofs += open_limits(view.grid, lead.mean, samples.keys() - bad, bad, seen)
        regret = view.regret + math.fsum(proof.worth for proof in proofs)
        uses = costs.executions(self._choices)
        shortest = float(costs.seconds(view.grid.x, self._choices[:1]).min())
        longest = float(costs.seconds(view.grid.x, self._choices[-1:]).max())
        rated = tuple((proof.worth / share_of(costs, proof), proof) for proof in proofs)
        best = best_of(worth, rates)
        return CellState(view, costs, worth, rates, best, uses, shortest, longest, rated, regret)


def mean_regret(states: Sequence[CellState]) -> float:
    """What is expected to be lost in the mean over cells, in log units."""
    return math.fsum(state.regret for state in states) / len(states)
