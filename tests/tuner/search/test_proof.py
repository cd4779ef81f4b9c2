"""Where a candidate's right to be used ends is found, and what samples a proof lacks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.search import Budget, Observation, RegretSampler, SearchSpace, Visit
from ccl_dispatch.tuner.search.family import make_grid
from ccl_dispatch.tuner.search.proof import open_limits
from ccl_dispatch.tuner.sizes import size_grid

SIZES = size_grid(128, 32 << 20, 2)


def _sweep(limit: int, lead: float) -> list[Observation]:
    """Two cells of one curve, in which the candidate can't take more than `limit` bytes."""
    space = SearchSpace({"a": SIZES, "b": SIZES}, families=(("a", "b"),))
    sampler = RegretSampler(space, ["fast"], threshold=math.log(1.03), budget=Budget(seconds=60))
    found: list[Observation] = []
    while (proposal := sampler.judge(found).proposal) is not None and len(found) < 300:
        fits = proposal.size <= limit
        values = lead + np.random.default_rng(len(found)).normal(0, 0.05, proposal.repeats)
        samples = {"fast": PointSamples(tuple(values.tolist()))} if fits else {}
        visit = Visit(1e-3, proposal.repeats, 1e-4, 2, 2 + 2 * proposal.repeats)
        excluded = frozenset() if fits else frozenset({"fast"})
        found = [*found, Observation(proposal.cell, proposal.size, samples, visit, excluded)]
    return found


@settings(max_examples=10, deadline=None)
@given(place=st.integers(1, len(SIZES) - 2))
def test_the_largest_size_that_a_candidate_can_take_is_found_in_every_cell(place: int) -> None:
    """A candidate that is far ahead is used up to its limit: the last size that it takes and the next are measured."""
    found = _sweep(SIZES[place], 1.0)
    for cell in ("a", "b"):
        assert {SIZES[place], SIZES[place + 1]} <= {o.size for o in found if o.cell == cell}


def test_the_limit_of_a_candidate_that_is_slower_is_nobodys_business() -> None:
    """Behind everywhere it is not used on either side of its limit."""
    found = _sweep(SIZES[12], -1.0)
    assert len(found) < 30


@pytest.mark.parametrize("seconds", [18, 20, 22])
def test_a_proof_takes_no_time_that_is_not_left(seconds: float) -> None:
    """Calls of large sizes take seconds, and a lead of 5 % takes many: no visit goes beyond the time that is left."""
    sampler = RegretSampler(
        SearchSpace({"a": SIZES}), ["fast"], threshold=math.log(1.03), budget=Budget(seconds=seconds), warm_up=False
    )
    found: list[Observation] = []
    while (proposal := sampler.judge(found).proposal) is not None:
        values = 0.05 + np.random.default_rng(len(found)).normal(0, 0.05, proposal.repeats)
        runs, each = proposal.repeats + proposal.warm_up, 1e-4 + proposal.size / 3e6
        visit = Visit(runs * each, proposal.repeats, each, 2, 2 * runs)
        samples = PointSamples(tuple(values.tolist()), (0.05,) if proposal.warm_up else ())
        found = [*found, Observation("a", proposal.size, {"fast": samples}, visit)]
    assert sum(o.visit.seconds for o in found if o.visit) <= seconds


def test_what_is_open_is_halved() -> None:
    """Between the last good and the first bad size the middle comes next, worth half of what the candidate leads by."""
    grid = make_grid("a", SIZES, {})
    lead = np.full(len(SIZES), 0.2)
    (proof,) = open_limits(grid, lead, {SIZES[4]}, {SIZES[20]}, {SIZES[4], SIZES[20]})
    assert proof.size == SIZES[12]
    assert math.isclose(proof.worth, 0.1 * float(grid.weights[5:20].sum()))
    assert open_limits(grid, lead, {SIZES[4]}, {SIZES[5]}, {SIZES[4], SIZES[5]}) == []
    assert open_limits(grid, lead, {SIZES[4], SIZES[20]}, set(), {SIZES[4], SIZES[20]}) == []
