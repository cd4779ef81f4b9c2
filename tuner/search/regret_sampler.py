"""The search: measure next where it is expected to lower the table's regret the most for what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import Doubt, Noise
from ccl_dispatch.tuner.curves.visits import LONG
from ccl_dispatch.tuner.search.base import (
    Observation,
    Outlook,
    Proposal,
    SearchSpace,
    study_noise,
)
from ccl_dispatch.tuner.search.costs import LONG_VISIT, Budget, CostModel
from ccl_dispatch.tuner.search.family import NOISE_GROWTH, Family, checkpoint, make_grid
from ccl_dispatch.tuner.search.index import FamilyPoints, Index, Known
from ccl_dispatch.tuner.search.looks import first_looks, look_left, next_look
from ccl_dispatch.tuner.search.point_sampler import PointSampler
from ccl_dispatch.tuner.search.rates import Best, best_of, doubts_of
from ccl_dispatch.tuner.search.spare import look_again, spare_look, visit_again
from ccl_dispatch.tuner.search.states import CellState, States, mean_regret
from ccl_dispatch.tuner.statistics import edge

Array = NDArray[np.float64]

# Numbers of repetitions that a visit may have.
_CHOICES = (1, 2, 4, 10, 30, 100, 400, 1300, 4096)
# A sweep that no budget ends is over when so little may be left to win; one with a budget, at nothing.
_ENOUGH = 3e-4
_NOTHING = 1e-12
_SLIGHT = 0.01
# Visits go without a warm-up once so many have shown that the first call is like all others; each eighth looks again.
_ENOUGH_FIRSTS = 3
_WARM_UP_EVERY = 8


# A warm-up that only looks again at first calls may take that part of the time that is left.
_TIME_TO_LOOK_AGAIN = 0.1


# And a visit that shows by how much visits differ that part of what is left.
_FOR_SCATTER = 0.1


class RegretSampler(PointSampler):
    """Proposes the visit with the most expected gain per cost, over all cells, sizes and numbers of repetitions.

    First every cell is looked at: its ends and a few sizes between (the more the budget allows), and all sizes of its
    workload. From then on the next visit is the one that lowers the expected regret of the table by the most per share
    of the budget: the knowledge gradient on curves that are known in distribution only (`curves.model`). Sizes that are
    far from a crossover, or whose doubt costs little, are left alone; a step, an island that a measurement hints at, a
    tie that is dear because the workload lives there, are looked at more closely. Where the policy asks for a proven
    gain (threshold above 0), the samples that a proof lacks are worth what the table would otherwise leave unused.

    Args:
        space: the points.
        candidates: the backends that may replace the baseline.
        threshold: log(1 + min_gain): what a candidate must gain to be chosen.
        confidence: of a proof.
        budget: what may be spent, and what is enough.
        repeats: the least and the most repetitions of a visit.
        warm_up: whether every visit needs a warm-up, or only long ones and all until first calls have shown to be like
            the others.
        visits_again: whether a few sizes are visited again to see by how much visits differ.
    """

    def __init__(
        self,
        space: SearchSpace,
        candidates: Sequence[str],
        *,
        threshold: float = 0.0,
        confidence: float = 0.95,
        budget: Budget | None = None,
        repeats: tuple[int, int] = (1, 400),
        warm_up: bool = True,
        visits_again: bool = False,
    ) -> None:
        super().__init__(space)
        self._candidates = tuple(candidates)
        self._budget = budget or Budget()
        self._always_warm_up = warm_up
        self._visits_again = visits_again
        low, high = repeats
        self._choices = np.array([n for n in _CHOICES if low < n < high] + sorted({low, high}))
        self._choices.sort()
        self._grids = {name: make_grid(name, space.grid[name], space.workload.get(name, {})) for name in space.cells}
        families = [
            Family([self._grids[name] for name in family], candidates, edge(threshold), self._choices.tolist())
            for family in space.all_families
        ]
        self._index = Index(space)
        executions = self._budget.executions
        visits = None if executions is None else self._visits(executions) / len(self._grids)
        self._looks = first_looks(space, self._grids, visits, hurried=not self._budget.is_empty)
        self._looks_left = self._looks
        self._first_look = frozenset(self._looks)
        self._noise: tuple[int, Mapping[str, Noise]] = (-1, {})
        self._states, self._latest = (
            States(families, self._budget, self._choices, threshold, confidence, latest=latest)
            for latest in (False, True)
        )
        self._last: tuple[Sequence[Observation], Outlook] | None = None

    def judge(self, observations: Sequence[Observation]) -> Outlook:
        """See the class."""
        # Asked twice for each trial, before it and by it.
        if self._last is None or self._last[0] != observations:
            self._last = (observations, self._judge(observations))
        return self._last[1]

    def _judge(self, observations: Sequence[Observation]) -> Outlook:
        known = self._index.take(observations)
        finished = [o for o in observations if not o.pending] if known.pending else observations
        seen = known.seen
        left = self._left(known)
        waiting = self._waiting(known)
        seconds = math.inf if self._budget.seconds is None else self._budget.seconds - known.seconds
        noise = self._noise_at(finished)
        warm_up = self._warms_up(noise)

        def takes(name: str) -> Array:
            costs = self._costs(name, finished, warm_up=warm_up)
            return np.asarray(costs.seconds(self._grids[name].x, self._choices[:1])[0])

        def looked(look: tuple[str, int]) -> Outlook:
            name, size = look
            near = [o for o in finished if o.cell == name]
            uses = CostModel(self._budget, near, near, warm_up=warm_up).executions(self._choices)
            if uses[0] > left:
                return Outlook(None, math.inf, len(waiting), exhausted="executions")
            doubts = self._first_doubts(finished) if uses[0] < left else {}
            first = Proposal(name, size, int(self._choices[0]), doubts)
            return Outlook(self._warmed(first, left, seconds, finished, needed=warm_up), math.inf, len(waiting))

        if waiting and (look := next_look(waiting, self._grids, finished, seen, seconds, takes)) is not None:
            return looked(look)
        states = self._states.of(known.families, noise, self._noise[0], finished, warm_up=warm_up)
        unlimited = self._budget.executions is None and self._budget.seconds is None
        enough = self._budget.regret or (_ENOUGH if unlimited else 0.0)
        if mean_regret(states) < enough:
            # No search ends on what was thought of a cell before the last visits of the others, nor by another noise
            # than the one that the table will go by.
            states = self._latest.of(known.families, noise, 0, finished, warm_up=warm_up)
        regret = mean_regret(states)
        exhausted = ""
        if all(state.uses[0] > left for state in states):
            exhausted = "executions"
        elif all(state.shortest > seconds for state in states):
            exhausted = "seconds"
        if exhausted:
            return Outlook(None, regret, exhausted=exhausted)
        if self._visits_again and (again := self._visit_again(known.families, states, left, seconds)) is not None:
            # A look like the first ones: before it nobody knows how far any of them is to be trusted.
            return Outlook(again, math.inf, 1)
        if regret < enough:
            look = look_left(waiting, self._grids, seconds, takes)
            return Outlook(None, regret) if look is None else looked(look)
        # Without a limit a visit that wins next to nothing is not worth waiting for.
        proposal = self._best(states, left, seconds, noise, _SLIGHT * enough if unlimited else _NOTHING)
        if proposal is None and unlimited:
            doubtful = look_again([state.view for state in states], _SLIGHT * enough)
            proposal = doubtful and Proposal(*doubtful, int(self._choices[0]))
        elif proposal is None:
            views = [(state.view, state.affordable(self._choices, left, seconds)) for state in states]
            place = spare_look(views, seen, finished, noise)
            proposal = place and Proposal(*place, int(self._choices[0]))
        return Outlook(proposal and self._warmed(proposal, left, seconds, finished, needed=warm_up), regret)

    def _visit_again(
        self, families: Sequence[FamilyPoints], states: Sequence[CellState], left: float, seconds: float
    ) -> Proposal | None:
        """A second visit of a size, to see by how much visits differ, where the budget has room for more than that."""
        row = min(int(np.searchsorted(self._choices, LONG)), len(self._choices) - 1)
        of_cell = {state.view.grid.name: state for state in states}
        for done, waiting in families:
            point = visit_again(self._first_look, [*done, *waiting])
            if point is None:
                continue
            state = of_cell[point[0]]
            place = state.view.grid.sizes.index(point[1])
            takes = state.costs.seconds(state.view.grid.x, self._choices)[row, place]
            if state.uses[row] <= _FOR_SCATTER * left and takes <= _FOR_SCATTER * seconds:
                return Proposal(*point, int(self._choices[row]))
        return None

    def _waiting(self, known: Known) -> list[tuple[str, int]]:
        """The looks that are left, of those that were left last time where the study has only grown since."""
        if self._index.began_anew:
            self._looks_left = self._looks
        waiting = [(name, size) for name, size in self._looks_left if size not in known.seen[name]]
        if not known.pending:
            # What is being measured may fail, and is to be looked at again then.
            self._looks_left = waiting
        return waiting

    def _warms_up(self, noise: Mapping[str, Noise]) -> bool:
        """Whether also a short visit needs a warm-up: until first calls are known well enough."""
        return self._always_warm_up or not all(
            own.first.usable and own.first.seen >= _ENOUGH_FIRSTS for own in noise.values()
        )

    def _warmed(
        self, proposal: Proposal, left: float, seconds: float, finished: Sequence[Observation], *, needed: bool
    ) -> Proposal:
        """The proposal, with a warm-up if it is long, if short ones need one, or to look again at first calls.

        Which visit is the best is decided without regard to the latter: it would be the same.
        """
        if needed or proposal.repeats >= LONG_VISIT:
            return proposal._replace(warm_up=True)
        if len(finished) % _WARM_UP_EVERY:
            return proposal._replace(warm_up=False)
        budget = self._budget
        again = left >= budget.fixed_executions + proposal.repeats * budget.repeat_executions
        if again and budget.seconds is not None:
            costs = self._costs(proposal.cell, finished, warm_up=True)
            x, repeats = np.log2([float(proposal.size)]), np.array([float(proposal.repeats)])
            again = float(costs.seconds(x, repeats)[0, 0]) <= _TIME_TO_LOOK_AGAIN * seconds
        return proposal._replace(warm_up=again)

    def _costs(self, cell: str, finished: Sequence[Observation], *, warm_up: bool) -> CostModel:
        mine = [o for o in finished if o.cell == cell]
        return CostModel(self._budget, mine, finished, warm_up=warm_up)

    def _left(self, known: Known) -> float:
        """The executions that are left of the budget, those of points that are being measured taken off."""
        budget = self._budget
        if budget.executions is None:
            return math.inf
        return (
            budget.executions - known.executions - known.pending * (budget.fixed_executions + budget.repeat_executions)
        )

    def _visits(self, executions: float) -> float:
        """How many of the shortest visits that many executions are."""
        budget = self._budget
        each = budget.fixed_executions + budget.repeat_executions
        if self._always_warm_up or executions <= _ENOUGH_FIRSTS * each:
            return executions / each
        return _ENOUGH_FIRSTS + (executions - _ENOUGH_FIRSTS * each) / max(each - budget.warm_up_executions, 1)

    def _noise_at(self, finished: Sequence[Observation]) -> Mapping[str, Noise]:
        """The study's noise as of the last checkpoint, of the first few visits as of each."""
        few = len(finished) < _WARM_UP_EVERY
        at = len(finished) if few else checkpoint(len(finished), NOISE_GROWTH)
        if self._noise[0] != at:
            self._noise = (at, study_noise(finished[:at], self._candidates))
        return self._noise[1]

    def _first_doubts(self, finished: Sequence[Observation]) -> dict[str, Doubt]:
        """In the first look only the noise is known."""
        noise = self._noise_at(finished)
        return {name: Doubt(0.0, 0.0, 1.0, own.scale, -1.0, own.first.usable) for name, own in noise.items()}

    def _best(
        self, states: Sequence[CellState], left: float, seconds: float, noise: Mapping[str, Noise], least: float
    ) -> Proposal | None:
        best, best_cell = Best(0.0, 0.0, 0, 0), -1
        best_proof: tuple[float, Proposal] | None = None
        for cell, state in enumerate(states):
            if state.uses[-1] <= left and state.longest <= seconds:
                found = state.best_above(least)
            else:
                rows = int(np.searchsorted(state.uses, left, side="right"))
                if rows == 0:
                    continue
                found = best_of(state.worth, state.affordable_rates(self._choices, rows, seconds))
            if found.worth > least and found.rate > best.rate:
                best, best_cell = found, cell
            for rate, proof in state.proofs:
                if proof.worth <= least or rate <= (best_proof[0] if best_proof else best.rate):
                    continue
                # What all proofs are worth is no reason to go beyond the time: at the largest size one call may.
                affordable = state.most_repeats(self._choices, proof.size, left, seconds)
                if affordable:
                    repeats = min(max(proof.repeats, int(self._choices[0])), affordable)
                    best_proof = (rate, Proposal(state.view.grid.name, proof.size, repeats))
        if best_proof is not None and best_proof[0] > best.rate:
            return best_proof[1]
        if best_cell < 0:
            return None
        state = states[best_cell]
        repeats = int(self._choices[best.row])
        doubts = doubts_of(state.view, best.place, repeats, noise) if state.uses[best.row] < left else {}
        return Proposal(state.view.grid.name, state.view.grid.sizes[best.place], repeats, doubts)
