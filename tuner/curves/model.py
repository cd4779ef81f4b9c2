"""Curves as Gaussian processes over log2 size, whose shape is averaged over hypotheses by what the samples say.

The prior of a cell's curve r(x), x = log2 of the per-rank input bytes, is a sum of three parts: an offset, a smooth
part (Matern 3/2) and a rough part (Matern 1/2, which steps of a protocol look like). How large the parts are and how
far the smooth one reaches is not known: every hypothesis is weighed by its likelihood. Cells that may be alike (dtypes
of one curve) are joint: their curves correlate by one of several degrees, none among them, which are weighed likewise.

Source: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning (2006), chapters 2, 4 and 5; the
correlation between cells is the intrinsic model of coregionalization (E. Bonilla, K. Chai and C. Williams, 2007).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves.covariance import inverse_of, likelihoods, of_any_shape
from ccl_dispatch.tuner.curves.jumps import LEVEL, Jump
from ccl_dispatch.tuner.curves.kernel import SHAPES, Shape, own_kernel, unit_of
from ccl_dispatch.tuner.curves.noise import OUTLIER_SCALE
from ccl_dispatch.tuner.curves.outliers import believed, log_odds, most_credible, most_suspicious, widened
from ccl_dispatch.tuner.curves.points import FEWEST_AROUND, Joined, Points, Question, join, likely_jump

Array = NDArray[np.float64]


# Degrees of likeness between cells, with what each is believed before the samples speak.
LIKENESS = ((0.0, 0.2), (0.97, 0.2), (0.9995, 0.6))
# Hypotheses far behind the best say nothing; with many points one or two are left in any case.
_LEAST_SHARE = 0.03
_MOST_KEPT = 6
_TRIED_BETWEEN = 4
_TRIED_TOGETHER = 8
_FEW_JOINED = 40
# What may lie between two sizes although nothing measured hints at it: an island, a protocol of its own. No likelihood
# rules it out before every gap is small, so it keeps that share of belief beside whatever hypothesis fits best.
SURPRISE = Shape(0.0, 6.0, 0.3)
SURPRISE_SHARE = 0.06
# Cells that were alike at a few sizes may differ where nobody looked: of what is unseen others tell by so much less.
# Three dtypes that differ, 90 groups at 3 x 1/50: 0.06 % more regret than alone when it is 1, 0.01 % at 0.95.
_SURPRISE_LIKENESS = 0.95
# A point is tried as an outlier from these log odds up: those of a joint likelihood are not quite those of one cell.
_WORTH_TRYING = -2.0
# With so many points in a cell one of them means little.
_MANY = 24
# Less likely outliers are not worth a belief of their own.
_LEAST_SUSPICION = 0.02
# Up to that roughness a curve counts as calm: jumps are looked for beside it. A few; more are a rough curve.
_CALM = 0.02
_MOST_JUMPS = 6
# Cells of one curve have the same jumps, but that one may have one of its own; those only alike each have their own.
_SAME_JUMPS = 0.99
_DRAW_JITTER = 1e-10


@dataclass(frozen=True)
class Posterior:
    """A curve at some sizes: means and covariances, in log units."""

    mean: Array
    covariance: Array

    @property
    def deviation(self) -> Array:
        """Standard deviations."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))

    def drawn(self, normals: Array) -> Array:
        """Curves of this posterior, one for each row of standard normals."""
        # Eigenvalues rather than Cholesky: a posterior is often singular to rounding.
        values, vectors = np.linalg.eigh(self.covariance + _DRAW_JITTER * np.eye(len(self.mean)))
        return np.asarray(self.mean + (normals * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


class Acquittal(NamedTuple):
    """What was taken for an outlier may be true: how likely that is, at which log2 size, and the curve if so."""

    share: float
    x: float
    curve: Posterior


class _Hypothesis(NamedTuple):
    shape: Shape
    likeness: float
    weight: float


class _Learned(NamedTuple):
    """A model with the log likelihood of its best hypothesis, and the best one that is hardly rough."""

    model: CurveModel
    score: float
    calmest: CurveModel
    calmest_score: float


class CurveModel:
    """The hypotheses on the curves of a few cells that may be alike, weighed by the cells' points.

    Learned once from some points it may be asked for posteriors given others: weights change slowly.
    """

    def __init__(self, hypotheses: Sequence[_Hypothesis], unit: float, *, may_jump: bool = True) -> None:
        self._hypotheses = tuple(hypotheses)
        self._unit = unit
        self._may_jump = may_jump

    @classmethod
    def learn(cls, cells: Sequence[Points], *, kept: int = _MOST_KEPT) -> CurveModel:
        """Weigh every hypothesis by the likelihood of the cells' points; keep the `kept` best at most."""
        learned = cls._learned(cells, kept)
        while True:
            # By the best hypothesis and all cells, or by all hypotheses and its own cell: neither sees all outliers.
            places = {place for place in (learned.model.most_doubted(cells), _most_suspected(cells)) if place}
            tried: list[tuple[float, Sequence[Points], _Learned]] = []
            for cell, at in sorted(places):
                without = widened(cells, cell, at)
                other = cls._learned(without, kept)
                own = cells[cell]
                odds = float(log_odds(other.score - learned.score, own.trust[at], own.room[at]))
                tried.append((odds, without, other))
            best = max(tried, key=itemgetter(0), default=None)
            if best is None or best[0] <= 0:
                break
            cells, learned = best[1:]
        # Flat with a few jumps may explain the points better than the roughness that they have everywhere.
        for start, score in ((learned.calmest, learned.calmest_score), (learned.model, learned.score)):
            jumps, raised = start.jumps(cells)
            if jumps and score + raised > learned.score:
                return cls._learned(cells, kept, jumps, same=start.same_jumps).model
        return learned.model

    @classmethod
    def _learned(
        cls, cells: Sequence[Points], kept: int, jumps: Sequence[Jump] = (), *, same: bool = False
    ) -> _Learned:
        known = [points for points in cells if len(points.x)]
        unit = max([1.0, *(unit_of(points.values) for points in known)])
        if not known:
            nothing = cls([_Hypothesis(Shape(0.1, 6.0, 0.06), 0.0, 1.0)], unit)
            return _Learned(nothing, 0.0, nothing, 0.0)
        apart = np.sum(
            [
                likelihoods(join([points], place), SHAPES, 0.0, unit, jumps) if jumps else of_any_shape(points, unit)
                for place, points in enumerate(cells)
                if len(points.x)
            ],
            axis=0,
        )
        scored = [(float(score), shape, 0.0) for score, shape in zip(apart, SHAPES, strict=True)]
        if len(known) > 1:
            # Under every shape as far apart and as much alike as they can be; between the two under the best ones.
            joined = join(cells)
            beliefs = dict(LIKENESS)
            most = max(beliefs)
            # With many points the shapes that fit alone are those that fit together.
            few = len(joined.x) <= _FEW_JOINED
            shapes = (
                SHAPES
                if few
                else tuple(shape for _, shape, _ in sorted(scored, key=itemgetter(0), reverse=True)[:_TRIED_TOGETHER])
            )
            together = list(zip(likelihoods(joined, shapes, most, unit, jumps), shapes, strict=True))
            best = [shape for _, shape in sorted(together, key=itemgetter(0), reverse=True)[:_TRIED_BETWEEN]]
            between = [
                (score, shape, likeness)
                for likeness in beliefs
                if 0 < likeness < most
                for score, shape in zip(likelihoods(joined, best, likeness, unit, jumps), best, strict=True)
            ]
            scored += [(score, shape, most) for score, shape in together]
            # Of each degree as many hypotheses share its belief as were tried.
            tried = {0.0: len(SHAPES), most: len(SHAPES)}
            scored = [
                (score + math.log(beliefs[likeness] / tried.get(likeness, len(best))), shape, likeness)
                for score, shape, likeness in [*scored, *between]
            ]
        scored.sort(key=lambda item: (-item[0], item[1], item[2]))
        calmest_score, calm, degree = next(item for item in scored if item[1].rough <= _CALM)
        if jumps:
            # As they were found, where cells have one curve or apart, only those have them that find them so again.
            scored = [item for item in scored if (item[2] >= _SAME_JUMPS) == same]
        top = scored[0][0]
        chosen = [item for item in scored[:kept] if item[0] > top + math.log(_LEAST_SHARE)]
        total = math.fsum(math.exp(score - top) for score, _, _ in chosen)
        hypotheses = [_Hypothesis(shape, like, math.exp(score - top) / total) for score, shape, like in chosen]
        calmest = cls([_Hypothesis(calm, degree, 1.0)], unit)
        return _Learned(cls(hypotheses, unit), top, calmest, calmest_score)

    def jumps(self, cells: Sequence[Points], only: Iterable[int] | None = None) -> tuple[tuple[Jump, ...], float]:
        """The jumps of the cells' curves under the best hypothesis, and by how much they raise the log evidence.

        `only`: the places of the cells that matter, where no cell is like another.
        """
        shape, likeness, _ = self._hypotheses[0]
        if self.same_jumps:
            # Of all cells, or of one that is like the others but for it.
            rows: list[tuple[Joined, Sequence[int | None]]] = [(join(cells), (None, *range(len(cells))))]
        else:
            apart = range(len(cells)) if only is None or self.likeness else sorted(set(only))
            rows = [(join([cells[cell]], cell), (cell,)) for cell in apart]
        found: list[Jump] = []
        raised = 0.0
        while len(found) < _MOST_JUMPS:
            runs = []
            for joined, groups in rows:
                if len(joined.x) >= FEWEST_AROUND:
                    inverse = inverse_of(joined, shape, likeness, self._unit, tuple(found))
                    runs.append(likely_jump(joined, groups, inverse, LEVEL * self._unit))
            gain, jump = max(runs, key=itemgetter(0), default=(0.0, None))
            if jump is None or gain <= 0:
                break
            found.append(jump)
            raised += gain
        return tuple(found), raised

    @property
    def same_jumps(self) -> bool:
        """Whether the cells have one curve by the best hypothesis, and so their jumps in common."""
        return self._hypotheses[0].likeness >= _SAME_JUMPS

    def beliefs(self, cells: Sequence[Points], cell: int, x: Array) -> list[tuple[float, Posterior]]:
        """What may be true of a cell's curve at log2 sizes `x`, with how far each is believed.

        What is likely; that something unseen lies between the points; and, where no cell is like another, that the
        most suspicious point is an outlier although it is taken for true. Where cells are alike, the others' points
        speak of it.
        """
        question = Question(cells, [(cell, x)])
        (likely,) = self.answer(question)
        (surprised,) = self.surprised().answer(question)
        rest = 1 - SURPRISE_SHARE
        suspect = most_suspicious(cells[cell]) if self._asks(cells[cell]) else None
        if suspect is None or suspect.share < _LEAST_SUSPICION:
            return [(rest, likely), (SURPRISE_SHARE, surprised)]
        otherwise = _of_one_shape(suspect.shape, widened(cells, cell, suspect.place), cell, x)
        return [
            (rest * (1 - suspect.share), likely),
            (SURPRISE_SHARE, surprised),
            (rest * suspect.share, otherwise),
        ]

    def acquitted(self, cells: Sequence[Points], measured: Sequence[Points], cell: int, x: Array) -> Acquittal | None:
        """The most credible outlier of a cell as none; None if that is unlikely.

        Args:
            cells: points without outliers.
            measured: the same as they were measured.
        """
        own = measured[cell]
        suspect = most_credible(own, cells[cell]) if self._asks(own) else None
        if suspect is None or 1 - suspect.share < _LEAST_SUSPICION:
            return None
        true = [believed(points, own, suspect.place) if n == cell else points for n, points in enumerate(cells)]
        curve = _of_one_shape(suspect.shape_if_true, true, cell, x)
        return Acquittal(1 - suspect.share, float(own.x[suspect.place]), curve)

    def _asks(self, own: Points) -> bool:
        """Whether one point of a cell means much, and no other cell speaks of it."""
        return len(own.x) <= _MANY and not self._hypotheses[0].likeness

    def without_outliers(self, cells: Sequence[Points]) -> list[Points]:
        """The points, those of few samples that the others contradict with the variance that an outlier has."""
        found = list(cells)
        while (place := self.most_doubted(found)) is not None:
            found = widened(found, *place)
        return found

    def most_doubted(self, cells: Sequence[Points]) -> tuple[int, int] | None:
        """Cell and place of the point that is most likely an outlier, given all others; None if none is likely.

        Source for the prediction of each point from all others: Rasmussen and Williams, section 5.4.2.
        """
        spikes = np.concatenate([points.spikes for points in cells])
        if not spikes.any():
            return None
        joined = join(cells)
        shape, likeness, _ = self._hypotheses[0]
        inverse = inverse_of(joined, shape, likeness, self._unit)
        spread = 1 / np.diagonal(inverse)
        away = (inverse @ joined.values) * spread
        inside = -0.5 * (away**2 / spread + np.log(spread))
        wide = spread + OUTLIER_SCALE**2
        outside = -0.5 * (away**2 / wide + np.log(wide))
        trust, room = (np.concatenate(parts) for parts in zip(*((own.trust, own.room) for own in cells), strict=True))
        odds = np.where(spikes, log_odds(outside - inside, trust, room), -np.inf)
        worst = int(np.argmax(odds))
        if odds[worst] <= 0:
            return None
        first = int(np.flatnonzero(joined.cell == joined.cell[worst])[0])
        return int(joined.cell[worst]), worst - first

    def surprised(self) -> CurveModel:
        """The one hypothesis that something unseen lies between the points."""
        return CurveModel([_Hypothesis(SURPRISE, self.likeness * _SURPRISE_LIKENESS, 1.0)], self._unit, may_jump=False)

    @property
    def likeness(self) -> float:
        """The mean degree to which the cells are taken to be alike: 0 alone, 1 the same curve."""
        return math.fsum(item.likeness * item.weight for item in self._hypotheses)

    def posterior(self, cells: Sequence[Points], wanted: Sequence[tuple[int, Array]]) -> list[Posterior]:
        """For each wanted (index of a cell, log2 sizes) what the points of all cells say about its curve there."""
        return self.answer(Question(cells, wanted))

    def answer(self, question: Question) -> list[Posterior]:
        """`posterior`, for a question that several models are asked."""
        cells, wanted, together = question.cells, question.wanted, question.together
        jumps = self.jumps(cells, [cell for cell, _ in wanted])[0] if self._may_jump else ()
        level = (LEVEL * self._unit) ** 2
        parts: list[list[tuple[float, Array, Array]]] = [[] for _ in wanted]
        for shape, likeness, weight in self._hypotheses:
            for place, (cell, x) in enumerate(wanted):
                # Where no cell is like another, the others' points say nothing.
                joined = together if likeness else question.alone[place]
                between = question.from_all[place] if likeness else question.from_own[place]
                cross = between.kernel(shape) * self._unit**2
                if likeness:
                    cross *= np.where(joined.cell == cell, 1.0, likeness)[None, :]
                here = [(jump, jump.inside(x), joined.members(jump)) for jump in jumps if jump.cell in (None, cell)]
                for _, inside, members in here:
                    cross += level * np.outer(inside, members)
                inverse = inverse_of(joined, shape, likeness, self._unit, jumps)
                pulls = inverse @ joined.values
                known = own_kernel(x.tobytes(), shape) * self._unit**2 - cross @ inverse @ cross.T
                for jump, inside, members in here:
                    height = level * float(members @ pulls)
                    known += level * np.outer(inside, inside) + height**2 * jump.spread(x)
                parts[place].append((weight, cross @ pulls, known))
        return [_mixture(part) for part in parts]


def _of_one_shape(shape: Shape, cells: Sequence[Points], cell: int, x: Array) -> Posterior:
    """A cell's curve if that is its shape and no other cell tells of it."""
    model = CurveModel([_Hypothesis(shape, 0.0, 1.0)], unit_of(cells[cell].values), may_jump=False)
    return model.posterior(cells, [(cell, x)])[0]


def _most_suspected(cells: Sequence[Points]) -> tuple[int, int] | None:
    """Cell and place of the point that is most likely an outlier by its own cell's points; None if none is likely."""
    suspects = [
        (suspect.odds, cell, suspect.place) for cell, points in enumerate(cells) if (suspect := most_suspicious(points))
    ]
    odds, cell, place = max(suspects, default=(-math.inf, 0, 0))
    return (cell, place) if odds > _WORTH_TRYING else None


def _mixture(parts: Sequence[tuple[float, Array, Array]]) -> Posterior:
    """The normal with the mean and covariance of a mixture of normals."""
    if len(parts) == 1:
        return Posterior(parts[0][1], parts[0][2])
    mean = sum((weight * part for weight, part, _ in parts), np.zeros_like(parts[0][1]))
    covariance = np.zeros_like(parts[0][2])
    for weight, part, own in parts:
        away = part - mean
        spread = np.outer(away, away)
        spread += own
        spread *= weight
        covariance += spread
    return Posterior(mean, covariance)
