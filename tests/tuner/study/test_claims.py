"""Claims as functions of a study's trials: numbers of visits, what is in a table, what is read once."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccl_dispatch.tuner.search.base import CELL, OBSERVED, REPEATS, SIZE_INDEX, VISIT
from ccl_dispatch.tuner.study.claims import (
    ENDED,
    LATE,
    FinishedTrials,
    counts,
    ending,
    is_decided,
    next_visit,
    table_before,
)

_CHOICES: dict[str, tuple[Any, ...]] = {CELL: ("a", "b"), SIZE_INDEX: (0, 1), REPEATS: (1,)}
_BUDGETS: tuple[dict[str, float], ...] = ({}, {"regret": 0.1})
_STATES = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)


def _made(seed: int) -> list[FrozenTrial]:
    """Trials that a study may have: undecided, running, finished, given up; imported, late, or an end."""
    rng = random.Random(seed)
    found = []
    for number in range(rng.randint(0, 10)):
        may_have: dict[str, Any] = {OBSERVED: "samples", VISIT: rng.randint(0, 3), LATE: 0}
        attributes = {key: value for key, value in may_have.items() if rng.random() < 0.5}
        if rng.random() < 0.3:
            attributes[ENDED] = {"word": "regret", "budget": rng.choice(_BUDGETS)}
        params = {name: rng.choice(choices) for name, choices in _CHOICES.items()} if rng.random() < 0.7 else {}
        trial = create_trial(
            state=TrialState.RUNNING,
            user_attrs=attributes,
            params=params,
            distributions={name: CategoricalDistribution(_CHOICES[name]) for name in params},
        )
        trial.number, trial.state = number, rng.choice(_STATES)
        found.append(trial)
    return found


_TRIALS = st.integers(0, 2**32).map(_made)


def _of_point(trials: Iterable[FrozenTrial], cell: str, index: int) -> list[FrozenTrial]:
    return [trial for trial in trials if (trial.params.get(CELL), trial.params.get(SIZE_INDEX)) == (cell, index)]


@settings(deadline=None)
@given(_TRIALS)
def test_a_trial_counts_unless_it_was_given_up_without_samples(trials: list[FrozenTrial]) -> None:
    """From when it has its point."""
    for trial in trials:
        assert is_decided(trial) == (len(trial.params) == len(_CHOICES))
        lost = trial.state == TrialState.FAIL and OBSERVED not in trial.user_attrs
        assert counts(trial) == (is_decided(trial) and not lost)


@settings(deadline=None)
@given(_TRIALS, st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 11))
def test_a_visit_has_a_number_that_no_other_one_has(
    trials: list[FrozenTrial], cell: str, index: int, before: int
) -> None:
    """The lowest one behind those of imports, whatever trials of other points, later ones and lost ones there are."""
    visit = next_visit(trials, cell, index, before)
    there = [trial for trial in _of_point(trials[:before], cell, index) if counts(trial)]
    imported = [trial for trial in there if VISIT not in trial.user_attrs]
    numbers = {trial.user_attrs.get(VISIT) for trial in there}
    assert visit >= len(imported)
    assert visit not in numbers
    assert all(lower in numbers for lower in range(len(imported), visit))


@settings(deadline=None)
@given(_TRIALS, st.integers(0, 11))
def test_finished_trials_are_read_once_and_none_is_lost(trials: list[FrozenTrial], first: int) -> None:
    """However often a study is looked at while it grows, and also once all of its trials are finished."""
    finished = FinishedTrials()
    for seen in (trials[:first], trials, trials):
        behind = finished.behind(seen)
        assert [t.number for t in behind] == [t.number for t in seen[len(seen) - len(behind) :]]
        assert all(trial.state.is_finished() for trial in seen[: len(seen) - len(behind)])
        assert not behind or not behind[0].state.is_finished()
        for cell, index in (("a", 0), ("a", 1), ("b", 0)):
            found = finished.of_point(seen, cell, index)
            assert _of_point(found, cell, index) == _of_point(seen, cell, index)
            assert [trial.number for trial in found] == sorted({trial.number for trial in found})


@settings(deadline=None)
@given(_TRIALS, st.one_of(st.integers(0, 11), st.just(math.inf)))
def test_a_table_has_all_up_to_the_first_end_that_nothing_was_asked_for_since(
    trials: list[FrozenTrial], until: float
) -> None:
    """What was kept late, of a process that had been stopped, does not make the search go on; a new point does."""
    there = [trial for trial in trials if trial.number <= until]
    asked = [t.number for t in there if counts(t) and LATE not in t.user_attrs and ENDED not in t.user_attrs]
    ends = [t.number for t in there if ENDED in t.user_attrs and t.number > max(asked, default=-1)]
    assert table_before(trials, until) == min([*ends, until])


@settings(deadline=None)
@given(_TRIALS, st.integers(0, 5), st.integers(0, 11), st.sampled_from(_BUDGETS))
def test_a_search_ends_with_the_first_that_ended_with_its_budget(
    trials: list[FrozenTrial], since: int, before: int, budget: dict[str, float]
) -> None:
    """Not with one before this process began, nor with one behind its own ticket."""
    ends = [t for t in trials[since:before] if ENDED in t.user_attrs and t.user_attrs[ENDED]["budget"] == budget]
    assert ending(trials, since, before, budget) is (ends[0] if ends else None)
