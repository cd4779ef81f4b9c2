"""What is known of a few cells' curves, and what is asked about them: the parts that every hypothesis shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.curves.jumps import Jump, best_run
from ccl_dispatch.tuner.curves.kernel import KernelParts
from ccl_dispatch.tuner.curves.noise import Summary

Array = NDArray[np.float64]
_Further = ParamSpec("_Further")
_Found = TypeVar("_Found")

# Points whose one or two samples all others contradict are taken for outliers when that explains them better by the
# odds of it. By so many deviations of their difference they have to stand out from their neighbours, of which there
# must be some, to be suspected at all, and by so many more to be asked about each time.
_SUSPECT = 2.0
_SPIKE = 3.0
FEWEST_AROUND = 6


@dataclass(frozen=True, eq=False)
class Points:
    """What is known of one cell's curve, at distinct sizes. Two are the same only if they are one.

    Attributes:
        x: log2 sizes.
        values, variances: of the curve there.
        trust: log odds of its samples against being outliers, see `Summary`.
    """

    x: Array
    values: Array
    variances: Array
    trust: Array

    @classmethod
    def of(cls, sizes: Sequence[int], summaries: Sequence[Summary]) -> Points:
        """From sizes in bytes, and what the samples of each say."""
        return cls(
            np.log2(np.asarray(sizes, dtype=float)),
            np.array([one.value for one in summaries]),
            np.array([one.variance for one in summaries]),
            np.array([one.trust for one in summaries]),
        )

    @cached_property
    def parts(self) -> KernelParts:
        """Of the kernels of the points with each other: asked for by every hypothesis."""
        return KernelParts(self.x, self.x)

    @cached_property
    def room(self) -> Array:
        """Octaves that each point stands for: half-way to its neighbours, at the ends as far out as in."""
        return np.gradient(self.x) if len(self.x) > 1 else np.ones(len(self.x))

    @property
    def suspects(self) -> NDArray[np.bool_]:
        """Points of few samples that stand out from both neighbours to one side; two in a row are an island."""
        return self._apart > _SUSPECT

    @property
    def spikes(self) -> NDArray[np.bool_]:
        """Those that stand out far."""
        return self._apart > _SPIKE

    @cached_property
    def _apart(self) -> Array:
        """By how many deviations points of few samples stand out from the nearer neighbour, 0 if not to one side."""
        few = np.isfinite(self.trust)
        if len(self.x) < FEWEST_AROUND or not few.any():
            return np.zeros(len(self.x))
        steps = np.diff(self.values) / np.sqrt(self.variances[1:] + self.variances[:-1])
        # How far it lies above its left and its right neighbour; an end has one neighbour, which counts twice.
        left = np.concatenate([[-steps[0]], steps])
        right = np.concatenate([-steps, [steps[-1]]])
        apart = np.minimum(np.abs(left), np.abs(right))
        return np.where(few & (np.sign(left) == np.sign(right)), apart, 0.0)


def once_for_each(
    function: Callable[Concatenate[Points, _Further], _Found],
) -> Callable[Concatenate[Points, _Further], _Found]:
    """A function of points, and of what can be looked up, that is computed once as long as the points are kept.

    Of a family's cells one has a new sample at a time; what it finds must not refer to the points.
    """
    known: WeakKeyDictionary[Points, dict[Hashable, _Found]] = WeakKeyDictionary()

    @wraps(function)
    def remembered(points: Points, /, *further: _Further.args, **named: _Further.kwargs) -> _Found:
        found = known.setdefault(points, {})
        key = (further, *named.items())
        if key not in found:
            found[key] = function(points, *further, **named)
        return found[key]

    return remembered


@dataclass(frozen=True, eq=False)
class Joined:
    """The points of several cells in one row; `only` where it is those of one."""

    x: Array
    values: Array
    variances: Array
    cell: NDArray[np.intp]
    only: Points | None = None

    def members(self, jump: Jump) -> Array:
        """1 for the points in the run of a jump."""
        return np.where((self.cell == jump.cell) | (jump.cell is None), jump.inside(self.x), 0.0)

    @cached_property
    def parts(self) -> KernelParts:
        """Of the kernels of the points with each other."""
        return KernelParts(self.x, self.x) if self.only is None else self.only.parts

    @cached_property
    def elsewhere(self) -> NDArray[np.bool_]:
        """Whether two points are of different cells."""
        return np.asarray(self.cell[:, None] != self.cell[None, :])


def join(cells: Sequence[Points], first: int = 0) -> Joined:
    """The points of cells that are numbered from `first`; one for all who ask about the same points in a row."""
    return _joined(tuple(cells), first)


@lru_cache(maxsize=16)
def _joined(cells: tuple[Points, ...], first: int) -> Joined:
    if len(cells) == 1:
        (points,) = cells
        return Joined(points.x, points.values, points.variances, np.full(len(points.x), first), points)
    return Joined(
        np.concatenate([points.x for points in cells]),
        np.concatenate([points.values for points in cells]),
        np.concatenate([points.variances for points in cells]),
        np.repeat(np.arange(first, first + len(cells)), [len(points.x) for points in cells]),
    )


def likely_jump(
    joined: Joined, groups: Sequence[int | None], inverse: Array, level: float
) -> tuple[float, Jump | None]:
    """The jump more that raises the log evidence of the points most, and by how much beyond the odds of finding it.

    Args:
        joined: the points.
        groups: whose jump it may be: that of one cell, or (None) of all.
        inverse: of the points' covariance.
        level: standard deviation of a jump's level, in log units.
    """
    order = np.argsort(joined.x, kind="stable")
    pulls = inverse @ joined.values
    found: tuple[float, Jump | None] = (-math.inf, None)
    for cell in groups:
        part = order if cell is None else order[joined.cell[order] == cell]
        if len(part) < FEWEST_AROUND:
            continue
        x = joined.x[part]
        gain, start, end = best_run(x, pulls[part], inverse[np.ix_(part, part)], level)
        if cell is not None:
            gain -= math.log(max(len(groups) - 1, 1))
        if gain > found[0]:
            below = float(x[start - 1]) if start else -math.inf
            above = float(x[end + 1]) if end + 1 < len(x) else math.inf
            found = (gain, Jump(cell, below, float(x[start]), float(x[end]), above))
    return found


@dataclass(frozen=True)
class Question:
    """What do the points of `cells` say about some of the curves: for each wanted one its cell and log2 sizes."""

    cells: Sequence[Points]
    wanted: Sequence[tuple[int, Array]]

    @cached_property
    def together(self) -> Joined:
        """The points of all cells."""
        return join(self.cells)

    @cached_property
    def alone(self) -> list[Joined]:
        """For each wanted curve the points of its own cell."""
        return [join([self.cells[cell]], cell) for cell, _ in self.wanted]

    @cached_property
    def from_all(self) -> list[KernelParts]:
        """For each wanted curve its sizes against the points of all cells."""
        return [KernelParts(x, self.together.x) for _, x in self.wanted]

    @cached_property
    def from_own(self) -> list[KernelParts]:
        """For each wanted curve its sizes against the points of its own cell."""
        return [KernelParts(x, own.x) for (_, x), own in zip(self.wanted, self.alone, strict=True)]
