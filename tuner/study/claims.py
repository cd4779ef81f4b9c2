"""Who measures what: running trials as claims, their numbers as tickets, and how a sweep of several nodes ends.

Optuna numbers trials atomically, whatever the storage. A process takes a number first and decides afterwards, once
every trial with a lower number has its point or is finished (Lamport's bakery). So decisions follow each other in the
order of numbers, each knows all that were made before it, and no point is taken twice by accident.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ccl_dispatch.tuner.search.base import CELL, OBSERVED, REPEATS, SIZE_INDEX, VISIT, Outlook

OWNER = "owner"
NODE = "node"
RANKS = "ranks"
COMMON = "common"
ENDED = "ended"
WHY = "why"
# Of a visit whose trial was taken back while it was measured: the number of that trial.
LATE = "late"

_PARAMETERS = (CELL, SIZE_INDEX, REPEATS)


@dataclass(frozen=True)
class Claim:
    """A point that this process measures now.

    Attributes:
        trial_id: of the storage.
        number: of the trial.
        visit: of the point; no other visit of it that counts has the same.
    """

    trial_id: int
    number: int
    cell: str
    size: int
    repeats: int
    visit: int


@dataclass(frozen=True)
class Asked:
    """What came of asking for a point: a claim, or the word for what ended the search."""

    outlook: Outlook
    claim: Claim | None = None
    ended: str = ""


def is_decided(trial: FrozenTrial) -> bool:
    """Whether a running trial has its point."""
    return all(name in trial.params for name in _PARAMETERS)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial's point is measured or being measured: also one given up counts when its samples were stored."""
    return is_decided(trial) and (trial.state != TrialState.FAIL or OBSERVED in trial.user_attrs)


class FinishedTrials:
    """The trials at the head of a study that are finished, by their point: they never change, and are read once."""

    def __init__(self) -> None:
        self._count = 0
        self._by_point: dict[tuple[str | None, int | None], list[FrozenTrial]] = {}

    def behind(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """The rest of all `trials` of the study; every trial that is not finished is among them."""
        while self._count < len(trials) and trials[self._count].state.is_finished():
            trial = trials[self._count]
            self._by_point.setdefault((trial.params.get(CELL), trial.params.get(SIZE_INDEX)), []).append(trial)
            self._count += 1
        return trials[self._count :]

    def of_point(self, trials: Sequence[FrozenTrial], cell: str, size_index: int) -> list[FrozenTrial]:
        """Those of all `trials` of the study that may be of this point, in their order."""
        rest = self.behind(trials)
        return [*self._by_point.get((cell, size_index), ()), *rest]


def next_visit(trials: Sequence[FrozenTrial], cell: str, size_index: int, before: int) -> int:
    """The lowest number of a visit to this point that no trial before `before` has which counts."""
    there = [
        trial
        for trial in trials
        if trial.params.get(SIZE_INDEX) == size_index
        and trial.params.get(CELL) == cell
        and trial.number < before
        and counts(trial)
    ]
    # Imported points have no number of their own: they count as the first ones.
    unnumbered = sum(VISIT not in trial.user_attrs for trial in there)
    taken = {trial.user_attrs.get(VISIT) for trial in there}
    return next(visit for visit in range(unnumbered, unnumbered + len(there) + 1) if visit not in taken)


def table_before(trials: Sequence[FrozenTrial], until: float = math.inf) -> float:
    """The number below which trials belong into the table of a study; infinite for all of them.

    It is that of the first end of the search after the last point that was asked for. What comes behind such an end are
    samples of processes that were stopped: they are kept, and would make each later table another one than those that
    the nodes have written. Once the search goes on, whoever it is that goes on, they count like all others.

    Args:
        until: trials above are as if they were not there.
    """
    end = math.inf
    for trial in trials:
        if trial.number > until:
            break
        if ENDED in trial.user_attrs:
            end = min(end, trial.number)
        elif counts(trial) and LATE not in trial.user_attrs:
            end = math.inf
    return min(end, until)


def ending(trials: Sequence[FrozenTrial], since: int, before: float, budget: Mapping[str, Any]) -> FrozenTrial | None:
    """The first trial from `since` to below `before` whose process found that the search has ended within `budget`."""
    for trial in trials:
        found = trial.user_attrs.get(ENDED)
        if found is not None and since <= trial.number < before and found["budget"] == dict(budget):
            return trial
    return None
