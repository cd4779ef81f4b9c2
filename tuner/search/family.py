"""One family of cells as the search sees it: what is known of their curves, and what each point would be worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves import (
    Acquittal,
    CurveModel,
    Measuring,
    Noise,
    PointSamples,
    Posterior,
    Summary,
    summarise,
    value_of_telling,
    with_visits,
)
from ccl_dispatch.tuner.curves.points import Points
from ccl_dispatch.tuner.curves.value import loss_of
from ccl_dispatch.tuner.search.base import Observation, joined_samples, samples_by_cell
from ccl_dispatch.tuner.search.costs import LONG_VISIT

Array = NDArray[np.float64]

# Weights of hypotheses change slowly: they are learned anew when a family has grown by that factor.
GROWTH = 1.4
# A new estimate of the noise has every curve of the study fitted anew: only when twice as much is known.
NOISE_GROWTH = 2.0
# Below so many visits per cell, so many hypotheses are kept: with many points one is far ahead, and each costs as much
# as the first.
_KEPT = ((10, 6), (16, 3), (math.inf, 2))
# With so many visits per cell a dismissed point is not looked at with all hypotheses at each visit.
_FEW = 24


@dataclass(frozen=True)
class CellGrid:
    """The sizes of one cell: bytes, log2 of them, and what each counts (the weights add up to 1)."""

    name: str
    sizes: tuple[int, ...]
    x: Array
    weights: Array


@dataclass(frozen=True)
class Belief:
    """What may be true of a candidate's lead.

    Attributes:
        share: how far it is believed.
        lead: over the best other choice.
        weights: what each size counts, 0 where the candidate may not be used.
        forbidden: those sizes.
        variances: of what a visit finds, per number of repetitions.
    """

    share: float
    lead: Posterior
    weights: Array
    forbidden: NDArray[np.bool_]
    variances: Array

    @cached_property
    def measuring(self) -> Measuring:
        """What visits are worth if it is true: asked for some numbers of repetitions, and then for others."""
        return Measuring(self.lead.mean, self.lead.covariance, self.weights)


class Dismissed(NamedTuple):
    """A point was put down to an outlier, and may be true.

    Attributes:
        share: how likely that is.
        lead: of the candidate over the best other choice, if so.
        held: what is believed instead, by which choices are made.
        lost: what is expected to be lost by them.
        place: of the point.
    """

    share: float
    lead: Posterior
    held: Belief
    lost: float
    place: int

    def worth(self, choices: Sequence[int]) -> Array:
        """What visits are expected to gain by telling whether it is true, see `CellView.worth`."""
        one, two = self.held.lead, self.lead
        noise = self.held.variances[list(choices), None] + (one.deviation**2 + two.deviation**2) / 2
        gain = value_of_telling(self.share, one.mean, two.mean, self.held.weights, noise)
        return np.where(self.held.forbidden[None, :], 0.0, gain)


@dataclass(frozen=True)
class CellView:
    """What the search knows of one cell.

    Attributes:
        beliefs: what a visit would teach, of each candidate, see `CurveModel.beliefs`.
        closed: sizes that are being measured now: another visit is worth nothing before they are.
        regret: what is expected to be lost by choosing now.
        leads: per candidate the posterior of its lead over the best other choice.
        offsets: per candidate the log-ratio at which that lead is zero.
        forbidden: per candidate the sizes at which it may not be used.
        noise: per candidate, with what visits differ by.
        dismissed: the points that were put down to outliers.
    """

    grid: CellGrid
    beliefs: tuple[Belief, ...]
    closed: tuple[int, ...]
    regret: float
    leads: Mapping[str, Posterior]
    offsets: Mapping[str, Array]
    forbidden: Mapping[str, NDArray[np.bool_]]
    noise: Mapping[str, Noise]
    dismissed: tuple[Dismissed, ...]

    def worth(self, choices: Sequence[int]) -> Array:
        """The expected gain of a visit, in log units of mean regret of this cell: shape (len(choices), sizes).

        Args:
            choices: places in the family's numbers of repetitions.
        """
        total = np.zeros((len(choices), len(self.grid.sizes)))
        for one in self.beliefs:
            noise = np.repeat(one.variances[list(choices), None], len(self.grid.sizes), axis=1)
            gain = one.share * one.measuring.value(noise)
            total += np.where(one.forbidden[None, :], 0.0, gain)
        # What is under way in this cell may tell as well: not two workers for one question.
        for point in () if self.closed else self.dismissed:
            total += point.worth(choices)
        total[:, self.closed] = 0.0
        return total


def make_grid(name: str, sizes: Sequence[int], workload: Mapping[int, float]) -> CellGrid:
    """Weights: half of all for the octaves that a size stands for, half by the workload where there is one."""
    x = np.log2(np.asarray(sizes, dtype=float))
    octaves = np.gradient(x) if len(x) > 1 else np.ones(1)
    weights = octaves / octaves.sum()
    shares = np.array([workload.get(size, 0.0) for size in sizes])
    if shares.sum() > 0:
        weights = (weights + shares / shares.sum()) / 2
    return CellGrid(name, tuple(sizes), x, weights)


class _Learned(NamedTuple):
    """A candidate's model, the points as they were measured, and without outliers."""

    model: CurveModel
    measured: list[Points]
    points: list[Points]


class Family:
    """Cells that may be alike, with all of their points so far.

    Args:
        grids: of its cells.
        candidates: the backends that may replace the baseline; each has curves of its own.
        threshold: the log-ratio that a candidate has to exceed to be worth using.
        choices: the numbers of repetitions that a visit may have, rising.
    """

    def __init__(
        self, grids: Sequence[CellGrid], candidates: Sequence[str], threshold: float, choices: Sequence[int]
    ) -> None:
        self.grids = tuple(grids)
        self._candidates = tuple(candidates)
        self._threshold = threshold
        self._choices = np.asarray(choices, dtype=float)
        self._models: tuple[int, dict[str, CurveModel]] = (-1, {})
        self._latest: tuple[Sequence[Observation], dict[str, _Learned]] = ((), {})
        self._noise: Mapping[str, Noise] = {}
        self._summaries: dict[tuple[str, int, int, int], Summary] = {}
        self._known: dict[tuple[str, int], tuple[list[Observation], Points]] = {}

    def view(
        self,
        place: int,
        observations: Sequence[Observation],
        noise: Mapping[str, Noise],
        *,
        warm_up: bool = True,
    ) -> CellView:
        """What `observations` of the family, in the order of their trials, say about the cell at `place`.

        Args:
            place: of the cell among the family's grids.
            observations: visits that are done, or under way.
            noise: of the study, per candidate.
            warm_up: whether the next visit has one even if it is not a long one.
        """
        finished = [o for o in observations if not o.pending]
        noise = self._with_visits(noise, finished)
        if noise != self._noise:
            self._noise = noise
            self._models = (-1, {})
            self._latest = ((), {})
            self._summaries.clear()
            self._known.clear()
        grid = self.grids[place]
        curves = {}
        acquitted = {}
        for name, (model, measured, points) in self._learn(finished).items():
            curves[name] = model.beliefs(points, place, grid.x)
            acquitted[name] = model.acquitted(points, measured, place, grid.x)
        return self._cell_view(grid, curves, acquitted, observations, warm_up=warm_up)

    def _with_visits(self, noise: Mapping[str, Noise], finished: Sequence[Observation]) -> Mapping[str, Noise]:
        """The study's noise with what this family's visits differ by, as far as sizes were visited again.

        What they show of that is asked as a table asks it: what it goes by is to be proven.
        """
        again = {point for point, count in Counter((o.cell, o.size) for o in finished).items() if count > 1}
        if not again:
            return noise
        twice = [o for o in finished if (o.cell, o.size) in again]
        return {name: with_visits(own, samples_by_cell(twice, name).values()) for name, own in noise.items()}

    def _learn(self, finished: Sequence[Observation]) -> dict[str, _Learned]:
        """The models as of the last checkpoint: a function of the trials, whoever asks and however often.

        As of now where few points are known and one of them is dismissed: which one is may hang on any further point,
        and the table goes by all.
        """
        if self._latest[0] == finished:
            return self._latest[1]
        at = checkpoint(len(finished))
        if at != self._models[0]:
            kept = _kept(at / len(self.grids))
            self._models = (
                at,
                {name: CurveModel.learn(self._points(finished[:at], name), kept=kept) for name in self._candidates},
            )
        few = at < len(finished) <= _FEW * len(self.grids)
        learned = {}
        for name, model in self._models[1].items():
            measured = self._points(finished, name)
            known = _Learned(model, measured, model.without_outliers(measured))
            if few and any(one is not two for one, two in zip(known.points, measured, strict=True)):
                anew = CurveModel.learn(measured, kept=_kept(len(finished) / len(self.grids)))
                known = _Learned(anew, measured, anew.without_outliers(measured))
            learned[name] = known
        self._latest = (finished, learned)
        return learned

    def _points(self, observations: Sequence[Observation], candidate: str) -> list[Points]:
        of_cell: dict[str, list[Observation]] = {}
        for observation in observations:
            of_cell.setdefault(observation.cell, []).append(observation)
        result = []
        for place, grid in enumerate(self.grids):
            mine = of_cell.get(grid.name, [])
            known = self._known.get((candidate, place))
            # Of all cells but one the very observations of last time.
            if known is None or known[0] != mine:
                joined = joined_samples(mine, candidate)
                sizes = sorted(size for _, size in joined)
                summaries = [self._summary(candidate, place, size, joined[grid.name, size]) for size in sizes]
                self._known[candidate, place] = known = (mine, Points.of(sizes, summaries))
            result.append(known[1])
        return result

    def _summary(self, candidate: str, place: int, size: int, samples: PointSamples) -> Summary:
        # A point's samples only ever grow, so their number names them.
        key = (candidate, place, size, len(samples.repeats))
        if key not in self._summaries:
            self._summaries[key] = summarise(samples, self._noise[candidate])
        return self._summaries[key]

    def _cell_view(
        self,
        grid: CellGrid,
        curves: Mapping[str, Sequence[tuple[float, Posterior]]],
        acquitted: Mapping[str, Acquittal | None],
        observations: Sequence[Observation],
        *,
        warm_up: bool,
    ) -> CellView:
        mine = [o for o in observations if o.cell == grid.name]
        pending = [grid.sizes.index(o.size) for o in mine if o.pending]
        forbidden = {name: _forbidden(grid, mine, name) for name in self._candidates}
        utilities = {
            name: np.where(forbidden[name], -np.inf, beliefs[0][1].mean - self._threshold)
            for name, beliefs in curves.items()
        }
        found: list[Belief] = []
        dismissed: list[Dismissed] = []
        regret = 0.0
        leads: dict[str, Posterior] = {}
        offsets = {}
        for name, beliefs in curves.items():
            others = [utility for other, utility in utilities.items() if other != name]
            offsets[name] = self._threshold + np.maximum.reduce([np.zeros(len(grid.sizes)), *others])
            weights = np.where(forbidden[name], 0.0, grid.weights)
            first = self._noise[name].first.usable & (warm_up | (self._choices >= LONG_VISIT))
            samples = self._choices + first
            scale = self._noise[name].scale
            variances = scale**2 / samples + self._noise[name].visit_variance(scale)
            own = 0.0
            first_belief = len(found)
            for share, curve in beliefs:
                covariance = curve.covariance
                for place in pending:
                    covariance = self._after(covariance, place, name)
                lead = Posterior(curve.mean - offsets[name], covariance)
                chosen = leads.setdefault(name, lead).mean
                own += share * float(weights @ loss_of(chosen, lead.mean, lead.deviation))
                found.append(Belief(share, lead, weights, forbidden[name], variances))
            if (otherwise := acquitted[name]) is not None:
                curve = otherwise.curve
                lead = Posterior(curve.mean - offsets[name], curve.covariance)
                lost = float(weights @ loss_of(leads[name].mean, lead.mean, lead.deviation))
                own += otherwise.share * (lost - own)
                place = int(np.argmin(np.abs(grid.x - otherwise.x)))
                held = found[first_belief]
                dismissed.append(Dismissed(otherwise.share, lead, held, otherwise.share * lost, place))
            regret += own
        return CellView(
            grid, tuple(found), tuple(pending), regret, leads, offsets, forbidden, self._noise, tuple(dismissed)
        )

    def _after(self, covariance: Array, place: int, candidate: str) -> Array:
        """The covariance once a point that is being measured now is known."""
        column = covariance[:, place]
        return np.asarray(
            covariance - np.outer(column, column) / (covariance[place, place] + self._noise[candidate].scale ** 2)
        )


def _kept(visits: float) -> int:
    """How many hypotheses are kept with so many visits of each cell."""
    return next(most for below, most in _KEPT if visits < below)


def checkpoint(count: int, growth: float = GROWTH) -> int:
    """The last of a rising row of counts (each about `growth` times the one before) that is not above `count`."""
    at = 0
    step = 1
    while step <= count:
        at = step
        step = max(step + 1, math.ceil(step * growth))
    return at


def _forbidden(grid: CellGrid, mine: Sequence[Observation], candidate: str) -> NDArray[np.bool_]:
    """Sizes at which the candidate may not be used: excluded ones, and those up to the nearest ones that were right."""
    refused = {o.size for o in mine if candidate in o.refused}
    result = np.array([size in refused for size in grid.sizes])
    bad = {o.size for o in mine if candidate in o.excluded}
    if not bad:
        return result
    good = {o.size for o in mine if candidate in o.samples} - bad
    for place, size in enumerate(grid.sizes):
        below = max((other for other in good | bad if other <= size), default=None)
        above = min((other for other in good | bad if other >= size), default=None)
        result[place] |= below in bad or above in bad
    return result
