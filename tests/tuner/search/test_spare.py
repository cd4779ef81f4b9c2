"""What a budget is spent on when by every belief nothing is left to win."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np

from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.curves.visits import SIZES_AGAIN
from ccl_dispatch.tuner.search import Budget, Observation, RegretSampler, SearchSpace, Visit
from ccl_dispatch.tuner.sizes import size_grid

SIZES = size_grid(16, 4 << 20, 4)


def _sweep(wrong: int = -1) -> tuple[list[Observation], str]:
    """A candidate that is ten times faster everywhere; of visit `wrong` the first sample is an outlier."""
    sampler = RegretSampler(SearchSpace({"a": SIZES}), ["fast"], budget=Budget(executions=400), warm_up=False)
    found: list[Observation] = []
    while (proposal := sampler.judge(found).proposal) is not None and len(found) < 300:
        values = 2.3 + np.random.default_rng(len(found)).normal(0, 0.05, proposal.repeats + 1)
        if len(found) == wrong:
            values[1] -= 1.5
        samples = PointSamples(tuple(values[1:].tolist()), (float(values[0]),) if proposal.warm_up else ())
        runs = proposal.repeats + proposal.warm_up
        found = [
            *found,
            Observation("a", proposal.size, {"fast": samples}, Visit(1e-3, proposal.repeats, 1e-4, 2, 2 * runs)),
        ]
    return found, sampler.judge(found).exhausted


def test_no_octave_is_left_unseen_while_there_is_a_budget() -> None:
    """Where one backend is far ahead every size is certain after nine; the budget has room for a look everywhere."""
    found, exhausted = _sweep()
    seen = sorted({o.size for o in found})
    # Sizes of the grid are a quarter of an octave apart: half of a gap may be that much more.
    assert max(math.log2(high / low) for low, high in pairwise(seen)) <= 1.3
    assert not exhausted


def test_no_size_rests_on_a_lone_sample_in_the_end() -> None:
    """What a single sample said is asked again: any of them may have been an outlier. And then it ends."""
    found, exhausted = _sweep(wrong=12)
    counts: dict[int, int] = {}
    for one in found:
        samples = one.samples["fast"]
        counts[one.size] = counts.get(one.size, 0) + len(samples.repeats) + len(samples.firsts)
    assert min(counts.values()) >= 2
    assert not exhausted


def test_a_size_where_the_candidate_is_wrong_is_asked_for_once() -> None:
    """An excluded size in a wide gap has no samples, but it was looked at: a slower candidate is left alone there."""
    sampler = RegretSampler(SearchSpace({"a": SIZES}), ["fast"], budget=Budget(executions=600))
    found: list[Observation] = []
    while (proposal := sampler.judge(found).proposal) is not None and len(found) < 300:
        wrong = abs(math.log2(proposal.size) - 8) < 1.2
        values = -2.3 + np.random.default_rng(len(found)).normal(0, 0.05, proposal.repeats)
        samples = {} if wrong else {"fast": PointSamples(tuple(values.tolist()))}
        visit = Visit(1e-3, 0 if wrong else proposal.repeats, 1e-4, 2, 2 + 2 * proposal.repeats)
        excluded = frozenset({"fast"}) if wrong else frozenset()
        found = [*found, Observation("a", proposal.size, samples, visit, excluded)]
    wrongs = [o.size for o in found if o.excluded]
    assert wrongs
    assert len(wrongs) == len(set(wrongs))


def _real(scatter: float, **budget: float) -> list[Observation]:
    """A sweep on a machine: visits of at least thirty repetitions whose values are off by `scatter` of their own."""
    limits = Budget(**budget)  # type: ignore[arg-type]
    sampler = RegretSampler(SearchSpace({"a": SIZES}), ["fast"], threshold=0.03, budget=limits, visits_again=True)
    found: list[Observation] = []
    while (proposal := sampler.judge(found).proposal) is not None and len(found) < 120:
        rng = np.random.default_rng(len(found))
        repeats = max(30, proposal.repeats)
        lead = 0.1 if proposal.size > 1 << 14 else -0.3
        values = rng.normal(lead + rng.normal(0, scatter), 0.02, repeats)
        samples = PointSamples(tuple(values.tolist()), (lead,))
        found = [
            *found,
            Observation("a", proposal.size, {"fast": samples}, Visit(1e-3, repeats, 1e-4, 2, 2 * repeats + 6)),
        ]
    return found


def test_some_sizes_are_visited_again_to_see_what_visits_differ_by() -> None:
    """Three of a cell, once it was looked at: no number of repetitions tells. Where visits differ more are needed."""
    counts = Counter(o.size for o in _real(0.0, regret=0.01))
    assert sum(count > 1 for count in counts.values()) >= SIZES_AGAIN
    assert len(counts) + SIZES_AGAIN + 3 >= counts.total()
    assert Counter(o.size for o in _real(0.1, regret=0.01)).total() > counts.total()


def test_a_small_budget_is_not_spent_on_what_visits_differ_by() -> None:
    """A second visit that takes more than a tenth of what is left is not worth it."""
    counts = Counter(o.size for o in _real(0.0, executions=500))
    assert max(counts.values()) == 1 or sum(count > 1 for count in counts.values()) < SIZES_AGAIN
