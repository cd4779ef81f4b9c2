"""What is counted of a study's points for every proposal, kept between proposals: a study only grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ccl_dispatch.tuner.search.base import Observation, SearchSpace


class FamilyPoints(NamedTuple):
    """A family's points in the order of their trials: those that are done, and those being measured now."""

    done: list[Observation]
    waiting: list[Observation]


class Known(NamedTuple):
    """A study's points, counted; not to be changed.

    Attributes:
        families: in the order of `SearchSpace.all_families`.
        seen: per cell the sizes that were measured, or are being measured.
        executions, seconds: what all visits took.
        pending: points that are being measured now.
    """

    families: list[FamilyPoints]
    seen: dict[str, set[int]]
    executions: int
    seconds: float
    pending: int


class Index:
    """Counts the points that every proposal asks about. It remembers those that are done, which never change.

    Attributes:
        began_anew: whether the points of last time are not the first of those of this time.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._family_of = {name: place for place, family in enumerate(space.all_families) for name in family}
        self._counted: list[Observation] = []
        self._known = self._nothing()
        self.began_anew = False

    def take(self, observations: Sequence[Observation]) -> Known:
        """The counts of `observations`, in the order of their trials; cells that the space has not are left out."""
        count = len(self._counted)
        # Most are the very objects of last time, which Python sees at once.
        self.began_anew = list(observations[:count]) != self._counted
        if self.began_anew:
            self._counted, self._known, count = [], self._nothing(), 0
        rest = list(observations[count:])
        whole = next((at for at, one in enumerate(rest) if one.pending), len(rest))
        self._known = _added(self._known, rest[:whole], self._family_of)
        self._counted += rest[:whole]
        if whole == len(rest):
            return self._known
        families = [FamilyPoints(list(done), list(waiting)) for done, waiting in self._known.families]
        seen = {name: set(sizes) for name, sizes in self._known.seen.items()}
        return _added(self._known._replace(families=families, seen=seen), rest[whole:], self._family_of)

    def _nothing(self) -> Known:
        families = [FamilyPoints([], []) for _ in self._space.all_families]
        return Known(families, {name: set() for name in self._space.cells}, 0, 0.0, 0)


def _added(known: Known, observations: Sequence[Observation], family_of: dict[str, int]) -> Known:
    """`known` with more points; its lists and sets grow."""
    executions, seconds, pending = known.executions, known.seconds, known.pending
    for one in observations:
        pending += one.pending
        if one.visit is not None:
            executions += one.visit.executions
            seconds += one.visit.seconds
        if one.cell in family_of:
            known.seen[one.cell].add(one.size)
            family = known.families[family_of[one.cell]]
            (family.waiting if one.pending else family.done).append(one)
    return known._replace(executions=executions, seconds=seconds, pending=pending)
