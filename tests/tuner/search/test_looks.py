"""The first look under a limit of time, and what visits are taken to cost beyond what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.search import Budget, Observation, RegretSampler, SearchSpace, Visit
from ccl_dispatch.tuner.search.costs import CostModel
from ccl_dispatch.tuner.sizes import size_grid

SIZES = size_grid(16, 64 << 20, 4)
Latency = Callable[[int], float]


def _visit(size: int, lead: float, seconds: float, *, warm_up: bool, repeats: int = 1) -> Observation:
    """Both backends take `seconds` together; a warm-up as long as a repetition."""
    runs = repeats + warm_up
    samples = PointSamples((lead,) * repeats, (lead,) if warm_up else ())
    return Observation("a", size, {"fast": samples}, Visit(runs * seconds, repeats, seconds, 2, 2 * runs))


def _sweep(latency: Latency, lead: Latency, seconds: float) -> list[Observation]:
    """All visits until the sampler has enough."""
    sampler = RegretSampler(SearchSpace({"a": SIZES}), ["fast"], budget=Budget(seconds=seconds), warm_up=False)
    found: list[Observation] = []
    while (proposal := sampler.judge(found).proposal) is not None and len(found) < 400:
        noise = np.random.default_rng(len(found)).normal(0, 0.02)
        one = _visit(proposal.size, lead(proposal.size) + noise, latency(proposal.size), warm_up=proposal.warm_up)
        found = [*found, one]
    return found


def _affine(latency: float, bandwidth: float) -> Latency:
    return lambda size: latency + size / bandwidth


@pytest.mark.parametrize("bandwidth", [1e9, 1e11, 1e13], ids=["steep", "usual", "flat"])
@pytest.mark.parametrize("share", [1.3, 2.0, 10.0])
def test_the_largest_size_is_reached_when_there_is_time_for_it(bandwidth: float, share: float) -> None:
    """With time for it, and a few small visits, a candidate that leads is measured at the largest size."""
    latency = _affine(2e-5, bandwidth)
    seconds = share * (latency(SIZES[-1]) + 12 * latency(SIZES[0]))
    found = _sweep(latency, lambda _: 0.2, seconds)
    assert max(o.size for o in found) == SIZES[-1]
    assert sum(o.visit.seconds for o in found if o.visit) <= 1.1 * seconds


@pytest.mark.parametrize("lead", [0.2, -0.2], ids=["ahead", "behind"])
def test_a_candidate_that_is_behind_does_not_take_the_time_of_the_rest(lead: float) -> None:
    """One visit of the largest size takes four fifths of the time: worth it where a table would use the candidate."""
    latency = _affine(2e-5, 1e10)
    found = _sweep(latency, lambda _: lead, latency(SIZES[-1]) / 0.8)
    assert (max(o.size for o in found) == SIZES[-1]) == (lead > 0)


def test_a_search_that_would_end_takes_the_looks_that_there_is_time_for() -> None:
    """Each look takes more than its part of the time, and what is left to win is within the budget of regret after the
    first few: all sizes of the first look are measured that there is time for all the same.
    """
    cells = ("a", "b", "c")
    budget = Budget(seconds=36.5, regret=0.5)
    sampler = RegretSampler(SearchSpace(dict.fromkeys(cells, SIZES)), ["fast"], budget=budget, warm_up=False)
    found: list[Observation] = []
    while (proposal := sampler.judge(found).proposal) is not None:
        one = _visit(proposal.size, -0.5, 1.0, warm_up=proposal.warm_up)
        found = [*found, replace(one, cell=proposal.cell)]
    assert all({16, SIZES[-1]} <= {o.size for o in found if o.cell == cell} for cell in cells)
    assert len({(o.cell, o.size) for o in found}) == 9 * len(cells)
    assert sum(o.visit.seconds for o in found if o.visit) <= 36.5


@given(
    start=st.floats(1e-6, 1e-3),
    bandwidth=st.floats(1e8, 1e13),
    places=st.lists(st.integers(0, len(SIZES) - 1), min_size=2, max_size=6, unique=True),
)
def test_time_beyond_the_largest_size_is_not_underrated(start: float, bandwidth: float, places: list[int]) -> None:
    """Where time is latency + bytes / bandwidth, what larger sizes take is never told as less, nor as more than in
    proportion to the bytes.
    """
    latency = _affine(start, bandwidth)
    seen = [_visit(SIZES[place], 0.0, latency(SIZES[place]), warm_up=False) for place in sorted(places)]
    costs = CostModel(Budget(seconds=1.0), seen, seen, warm_up=False)
    above = np.array(SIZES[max(places) :], dtype=float)
    told = costs.seconds(np.log2(above), np.array([1.0]))[0]
    largest = latency(SIZES[max(places)])
    assert (told >= 0.999 * np.array([latency(int(size)) for size in above])).all()
    assert (told <= 1.001 * largest * above / above[0]).all()


@given(
    repeats=st.lists(st.sampled_from([1, 2, 8, 40]), min_size=1, max_size=5),
    each=st.floats(1e-5, 1e-2),
    warm_up=st.booleans(),
    budget=st.sampled_from([Budget(executions=500), Budget(seconds=3.0), Budget(500, 3.0), Budget(regret=0.1)]),
)
def test_visits_cost_what_visits_like_them_cost(repeats: list[int], each: float, warm_up: bool, budget: Budget) -> None:
    """Where every visit costs checks, a warm-up and its repetitions, so much is told of the next, whatever its length;
    one that goes without the warm-up is told as less by that, and those that went without tell nothing of it. Both are
    parts of the budget that has a limit, added up.
    """

    def checked(one: Observation) -> Observation:
        assert one.visit is not None
        more = one.visit._replace(executions=one.visit.executions + 6, seconds=one.visit.seconds + 3 * each)
        return replace(one, visit=more)

    seen = [checked(_visit(1024, 0.0, each, warm_up=True, repeats=count)) for count in repeats]
    seen += [checked(_visit(1024, 0.0, each, warm_up=False, repeats=2)) for _ in range(2 * len(repeats))]
    seen += [Observation("a", 1024, visit=Visit(1.0, 0, 0.0, 2, 99)), Observation("a", 1024, pending=True)]
    others = [_visit(1024, 0.0, 7 * each, warm_up=True, repeats=3)] * 40
    costs = CostModel(budget, seen, [*seen, *others], warm_up=warm_up)
    asked = np.array([1.0, 7.0, 8.0, 100.0])
    runs = asked + 3 + np.array([warm_up, warm_up, True, True])
    assert costs.executions(asked).tolist() == (2 * runs).tolist()
    seconds = costs.seconds(np.array([10.0]), asked)
    assert seconds == pytest.approx((each * runs)[:, None])
    share = np.zeros(4)
    if budget.executions:
        share = share + 2 * runs / 500
    if budget.seconds or not budget.executions:
        share = share + each * runs / (budget.seconds or 1.0)
    assert costs.shares(np.array([10.0]), asked) == pytest.approx(share[:, None])
    # A cell without a visit of its own goes by the others'.
    elsewhere = CostModel(budget, [], seen, warm_up=warm_up)
    assert elsewhere.seconds(np.array([10.0]), asked) == pytest.approx(seconds)
    assert elsewhere.executions(asked).tolist() == costs.executions(asked).tolist()


@pytest.mark.parametrize("warm_up", [False, True])
def test_before_the_first_visit_costs_are_what_the_budget_says(warm_up: bool) -> None:
    """Executions as the plan counts them; seconds that rise with the repetitions and say nothing of sizes."""
    budget = Budget(100, 1.0, fixed_executions=10, warm_up_executions=4, repeat_executions=3)
    costs = CostModel(budget, [], [], warm_up=warm_up)
    spared = 0 if warm_up else 4
    assert costs.executions(np.array([1.0, 7.0, 8.0])).tolist() == [13 - spared, 31 - spared, 34]
    first, second = costs.seconds(np.array([4.0, 26.0]), np.array([1.0, 100.0]))
    assert first[0] == first[1] > 0
    assert second[0] == second[1] > 5 * first[0]
