"""What ends a sweep, counted from all that was spent, and what a budget is said to have room for."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_configs import full, replayed

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.budgeting import Spent, make_sampler, most_visits, no_room
from ccl_dispatch.tuner.config.parsing import SweepConfig
from ccl_dispatch.tuner.measure.loop import FIRST_LEAD_IN
from ccl_dispatch.tuner.plan import Plan, make_plan
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import Observation, Outlook, Visit
from ccl_dispatch.tuner.search.base import Proposal

GOES_ON = Outlook(Proposal("cell", 16, 1), 0.5)


def _replay(**budget: float) -> Plan:
    return make_plan(replayed(budget=budget))


def _measured(**changes: Any) -> Plan:
    return make_plan(full(modes=["eager"], timing="isolated", environment={}, workload=[], **changes))


def _result(executions: int, seconds: float) -> PointResult:
    cell = Cell("all_gather", "eager", "first", "bfloat16", 2)
    return PointResult(cell, 16, {}, executions={"a": executions, "b": 1}, wall_seconds=seconds)


def _observed(results: Sequence[PointResult]) -> list[Observation]:
    """The same as other nodes know it; and one that is being measured, whose cost nobody knows yet."""
    visits = [Visit(each.wall_seconds, 1, 0.0, 1, sum(each.executions.values())) for each in results]
    return [*(Observation("cell", 16, visit=visit) for visit in visits), Observation("cell", 32, pending=True)]


_SPENT = st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0.25, 0.5, 2.0])), max_size=4)


@settings(max_examples=40, deadline=None)
@given(_SPENT, _SPENT, st.booleans())
def test_all_that_was_spent_counts_to_the_last_execution(
    before: list[tuple[int, float]], since: list[tuple[int, float]], alone: bool
) -> None:
    """Of a replay, executions and seconds of earlier runs and of this one count, every backend's; a budget that is
    just reached ends the sweep, and one that is not does not. So it is where nodes share a study, by what all of them
    know of it.
    """
    earlier, later = ([_result(*each) for each in part] for part in (before, since))
    executions = sum(count + 1 for count, _ in before + since)
    seconds = math.fsum(seconds for _, seconds in before + since)
    observed = _observed([*earlier, *later])
    for budget, word in (
        ({"executions": executions}, "executions"),
        ({"executions": executions + 1}, None),
        ({"seconds": seconds}, "seconds"),
        ({"seconds": seconds + 0.125}, None),
    ):
        if 0 in budget.values():
            continue
        spent = Spent(_replay(**budget), earlier, alone=alone)
        # What another node measured is known, and was not added here.
        for result in later if alone else later[:1]:
            spent.add(result)
        assert spent.budget(GOES_ON, observed) == word


def test_a_measured_sweep_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are those of earlier runs' points and of this run as a whole: a point of this run counts once."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    spent = Spent(_measured(budget={"seconds": 60}), [_result(1, 20.0)], alone=True)
    spent.add(_result(1, 30.0))
    now[0] += 39.75
    assert spent.budget(GOES_ON, []) is None
    now[0] += 0.25
    assert spent.budget(GOES_ON, []) == "seconds"


@pytest.mark.parametrize(
    ("budget", "outlook", "word"),
    [
        ({"seconds": 1, "regret": 0.5, "executions": 1}, GOES_ON, "seconds"),
        ({"seconds": 99, "regret": 0.5, "executions": 1}, GOES_ON, "regret"),
        ({"seconds": 99, "regret": 0.49, "executions": 1}, GOES_ON, "executions"),
        ({"seconds": 99, "regret": 0.49, "executions": 99}, GOES_ON, None),
        ({}, GOES_ON, None),
        ({}, GOES_ON._replace(proposal=None), "searched"),
        ({}, GOES_ON._replace(proposal=None, exhausted="seconds"), "seconds"),
        ({"regret": 0.5}, GOES_ON._replace(proposal=None, regret=0.1), "regret"),
    ],
)
def test_the_word_for_the_end_is_the_first_that_holds(
    budget: dict[str, float], outlook: Outlook, word: str | None
) -> None:
    """Of several budgets that are reached the one that leaves least to choose names the end."""
    assert Spent(_replay(**budget), [_result(5, 1.0)], alone=True).budget(outlook, []) == word


_PLANS: dict[str, Callable[..., SweepConfig]] = {
    "a replay": replayed,
    "a replay with two calls to warm up": lambda **changes: replayed(measure={"warmup": 2}, **changes),
    "on this machine": lambda **changes: full(modes=["eager"], timing="isolated", environment={}, **changes),
    "with three calls to warm up": lambda **changes: full(
        modes=["eager"], environment={}, measure={"warmup": 3, "min_samples": 4}, **changes
    ),
}


@pytest.mark.parametrize("kind", _PLANS)
def test_a_first_visit_takes_what_is_told_where_there_is_no_room_for_it(kind: str) -> None:
    """One execution less than the message asks for leaves no room for a visit; with so many there is one."""

    def plan(executions: int) -> Plan:
        return make_plan(_PLANS[kind](workload=[], budget={"executions": executions}))

    told = re.search(
        r"takes at least (\d+): (\d+) to warm up, (?:(\d+) to check outputs, )?and (\d+) in each repetition "
        r"\(`measure.min_samples`: (\d+)\)",
        no_room(plan(1), "executions"),
    )
    assert told is not None
    needed, warm_up, checks, each, repeats = (int(number or 0) for number in told.groups())
    assert needed == warm_up + checks + each * repeats
    assert make_sampler(plan(needed - 1)).judge([]).exhausted == "executions"
    enough = make_sampler(plan(needed)).judge([])
    assert (enough.exhausted, enough.proposal and enough.proposal.repeats) == ("", repeats)
    # A replay may leave the warm-up of later visits out.
    least = needed - warm_up if kind == "a replay" else needed
    for visits in (1, 3):
        assert most_visits(plan(visits * least)) == visits
        assert most_visits(plan(visits * least + least - 1)) == visits


def test_without_a_budget_of_executions_there_is_no_most() -> None:
    """Time alone does not say how many visits it has room for."""
    assert most_visits(_replay(seconds=5)) is None
    assert "`budget.seconds` is 5 and was over" in no_room(_replay(seconds=5), "seconds")


@pytest.mark.parametrize(
    ("changes", "device", "calls"),
    [
        ({"modes": ["eager"]}, "cpu", 3),
        ({"modes": ["eager"]}, "cuda", 3 + FIRST_LEAD_IN),
        ({"modes": ["eager", "graph"]}, "cuda", 3),
        ({"modes": ["eager"], "measure": {"warmup": 0}}, "cpu", 1),
    ],
)
def test_a_visit_warms_up_as_often_as_is_said_of_it(changes: dict[str, Any], device: str, calls: int) -> None:
    """Each backend `measure.warmup` times, once at least, and where all calls are launched as often as these settle."""
    plan = make_plan(
        full(**{"workload": [], "environment": {}, "measure": {"warmup": 3, "host_graphs": True}, **changes})
    )
    settings = dataclasses.replace(plan.settings, placement=dataclasses.replace(plan.settings.placement, type=device))
    told = no_room(dataclasses.replace(plan, settings=settings), "executions")
    assert f": {2 * calls} to warm up, 4 to check outputs, and 2 in each repetition" in told


@pytest.mark.parametrize(("plan", "alone"), [(_replay(), True), (_replay(), False), (_measured(), True)])
def test_what_a_visit_is_hangs_on_nobody_who_ends_first(plan: Plan, alone: bool) -> None:
    """Only a replay whose search is alone leaves warm-ups out; what visits differ by is asked where they can differ,
    of points that are not visited twice anyway.
    """
    sampler = make_sampler(plan, alone=alone)
    replay = plan.config.replay is not None
    assert sampler._always_warm_up == (not alone or not replay)
    assert sampler._visits_again == (alone and not replay)
