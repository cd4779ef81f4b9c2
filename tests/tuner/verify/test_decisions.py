"""Choices held against what is measured now, and what keeping them costs."""

from __future__ import annotations

import math
import random

import pytest

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.verify.decisions import cost_of, estimates, judge_choices, spreads, tie_band
from ccl_dispatch.tuner.verify.visits import Estimate, Place, Visit

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
SIZES = [16 * 4**step for step in range(10)]


def _estimates(rng: random.Random, gain_above: float, *, above: int = 65536) -> dict[Place, dict[str, Estimate]]:
    """Eight visits of each size by four sets: the candidate gains 50 % up to `above`, and `gain_above` (log) beyond."""
    visits = {
        Place(CELL, size): [
            Visit(number, {}, {"shm": (0.4 if size <= above else gain_above) + rng.gauss(0, 0.03)})
            for number in range(4)
            for _ in (0, 1)
        ]
        for size in SIZES
    }
    return estimates(visits, ["shm"], spreads(visits, ["shm"]))


def test_a_choice_that_became_slower_is_proven_and_its_bounds_hold_the_truth() -> None:
    """Where a used candidate takes 30 % longer now, each of those sizes is proven; the others are proven right."""
    found = _estimates(random.Random(1), -math.log(1.3))
    choices = judge_choices(found, "gloo", lambda _: "shm", 0.99)
    wrong = [choice for choice in choices if choice.low > tie_band(0.03)]
    assert [choice.place.size for choice in wrong] == [size for size in SIZES if size > 65536]
    assert all(choice.low <= math.log(1.3) <= choice.high for choice in wrong)
    assert all(choice.high < 0 for choice in choices if choice.place.size <= 65536)


def test_a_right_choice_is_proven_wrong_at_most_once_in_a_hundred_runs() -> None:
    """With the backends equal everywhere none of 100 runs of ten sizes proves a choice to be slower."""
    rng = random.Random(2)
    for turn in range(100):
        found = _estimates(rng, 0.0, above=0)
        use = "shm" if turn % 2 else "gloo"
        choices = judge_choices(found, "gloo", lambda _: use, 0.99)  # noqa: B023 - called within this turn
        assert all(choice.low <= 0 for choice in choices)


def test_a_baseline_that_a_candidate_overtook_is_wrong_too() -> None:
    """The rival of a baseline is the candidate: where that gains 50 %, keeping the baseline is proven wrong."""
    (first, *_) = judge_choices(_estimates(random.Random(3), 0.4), "gloo", lambda _: "gloo", 0.99)
    assert (first.use, first.against) == ("gloo", "shm")
    assert first.low > tie_band(0.03)


def test_a_choice_that_was_not_timed_is_left_out() -> None:
    """A backend without samples is no matter of latencies."""
    assert judge_choices(_estimates(random.Random(4), 0.4), "gloo", lambda _: "absent", 0.99) == []


@pytest.mark.parametrize(("use", "loss"), [("shm", 0.3), ("gloo", 0.0)])
def test_the_cost_of_a_cell_is_its_regret(use: str, loss: float) -> None:
    """With the table's choice 30 % slower over the upper part of the range, the cost is 30 % of that part's octaves.

    Where the table has the better one everywhere it costs next to nothing.
    """
    found = _estimates(random.Random(5), -math.log(1 + 0.3))
    # Between 64 and 256 KiB, where nothing was measured, the curve falls from 0.4 to -0.26 and crosses zero here.
    border = 65536 * 4 ** (0.4 / (0.4 + math.log(1.3)))

    def choose(place: Place) -> str:
        return "shm" if place.size <= border else use

    cost = cost_of(CELL, found, ["shm"], choose, 0.99)
    assert cost is not None
    # In full from 256 KiB to 4 MiB, of 18 octaves, and about half of it from the crossing on.
    truth = loss * (4 + math.log2(262144 / border) / 2) / 18
    assert cost.low - 0.003 <= truth <= cost.high + 0.003
    assert cost.mean == pytest.approx(truth, abs=0.01)


def test_a_candidate_that_is_excluded_costs_nothing() -> None:
    """Half as fast again everywhere and never used, it costs by the octaves at which it is not excluded."""
    found = _estimates(random.Random(6), 0.4)

    def cost(excluded_to: int) -> float:
        def excluded(place: Place, _name: str) -> bool:
            return place.size <= excluded_to

        found_cost = cost_of(CELL, found, ["shm"], lambda _: "gloo", 0.99, excluded)
        assert found_cost is not None
        return found_cost.mean

    assert cost(0) == pytest.approx(math.expm1(0.4), abs=0.03)
    assert cost(SIZES[-1]) == 0
    assert cost(16 * 2**9) == pytest.approx(cost(0) / 2, rel=0.1)


def test_a_cell_without_a_timed_candidate_has_no_cost() -> None:
    """Nothing is made up where nothing was measured."""
    assert cost_of(CELL, {}, ["shm"], lambda _: "shm", 0.99) is None
