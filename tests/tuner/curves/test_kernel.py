"""Kernels of many shapes at once are those of each."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves.kernel import SHAPES, KernelParts


@given(st.lists(st.floats(0, 50), min_size=1, max_size=20), st.lists(st.floats(0, 50), min_size=1, max_size=20))
def test_many_shapes_at_once_give_the_same_bits(first: list[float], second: list[float]) -> None:
    """All shapes, whose parts are computed once each, and some of them."""
    parts = KernelParts(np.array(first), np.array(second))
    expected = [parts.kernel(shape) for shape in SHAPES]
    assert np.array_equal(parts.kernels(SHAPES), expected)
    assert np.array_equal(parts.kernels(SHAPES[3:9]), expected[3:9])
