from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.fit.segment import best_labels, runs


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=6), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_no_labelling_is_cheaper_than_the_one_found(values: list[tuple[float, float]], switch: float) -> None:
    """The dynamic programme reaches the cost of the best of all labellings, tried one by one."""
    options = [{"base": 0.0, "a": a, "b": b} for a, b in values]
    weights = [0.5 + i % 3 for i in range(len(values))]

    def cost(labels: tuple[str, ...]) -> float:
        loss = sum(w * (max(o.values()) - o[name]) for o, w, name in zip(options, weights, labels, strict=True))
        return loss + switch * sum(x != y for x, y in itertools.pairwise(labels))

    best = min(cost(labels) for labels in itertools.product(("base", "a", "b"), repeat=len(values)))
    assert abs(cost(tuple(best_labels(options, weights, switch))) - best) < 1e-9


def test_an_island_has_to_pay_for_its_two_crossings() -> None:
    """A gain of 0.05 over one octave is worth two crossings at 0.02 each and not at 0.03."""
    options = [{"base": 0.0, "a": value} for value in (-0.1, 0.05, -0.1)]
    assert best_labels(options, [1.0] * 3, 0.02) == ["base", "a", "base"]
    assert best_labels(options, [1.0] * 3, 0.03) == ["base"] * 3


def test_what_is_not_allowed_is_never_chosen() -> None:
    """A label that is absent at a point is left there, whatever switching costs."""
    options = [{"base": 0.0, "a": 0.5}, {"base": 0.0}, {"base": 0.0, "a": 0.5}]
    assert best_labels(options, [1.0] * 3, 10.0) == ["base"] * 3
    assert best_labels(options, [1.0] * 3, 0.1) == ["a", "base", "a"]


def test_equals_go_to_the_first_label() -> None:
    """Where nothing is gained the baseline, which stands first, is kept."""
    assert best_labels([{"base": 0.0, "a": 0.0}] * 4, [1.0] * 4, 0.0) == ["base"] * 4


def test_runs_are_first_and_last_index() -> None:
    """Neighbours that are equal form one run; nothing has none."""
    assert runs("aabaa") == [(0, 1), (2, 2), (3, 4)]
    assert runs("") == []
