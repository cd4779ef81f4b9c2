"""What is asked of the same points again is not computed again."""

from __future__ import annotations

import gc
import weakref

import numpy as np

from ccl_dispatch.tuner.curves.points import Points, join, once_for_each


def _points(count: int = 8) -> Points:
    x = np.arange(float(count))
    return Points(x, np.sin(x), np.full(count, 0.01), np.full(count, np.inf))


def test_a_function_is_computed_once_for_each_points_and_arguments() -> None:
    """Points that look alike are others; what was remembered goes with them, and so do they."""
    asked: list[tuple[int, int]] = []

    @once_for_each
    def total(points: Points, power: int) -> float:
        asked.append((id(points), power))
        return float((points.values**power).sum())

    one, other = _points(), _points()
    for _ in range(2):
        assert total(one, 1) == total(other, 1)
        assert total(one, 2) == float((one.values**2).sum())
    assert asked == [(id(one), 1), (id(other), 1), (id(one), 2)]
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None


def test_the_same_points_are_joined_once() -> None:
    """Whoever asks about them in a row shares the matrices; in another order, or numbered otherwise they are others."""
    one, two = _points(), _points(5)
    joined = join([one, two])
    assert join((one, two)) is joined
    assert join([two, one]) is not joined
    assert join([one], 1) is not join([one])
    assert joined.cell.tolist() == [0] * 8 + [1] * 5
    assert join([one], 1).cell.tolist() == [1] * 8
