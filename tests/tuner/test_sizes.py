"""Grids of sizes, and the size of a shape."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.sizes import shape_size, size_grid


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 2**30),
    st.integers(1, 2**30),
    st.integers(1, 16),
    st.sampled_from((1, 2, 16, 64)),
)
def test_grid_is_aligned_rising_within_its_ends_and_without_gaps(
    low: int, high: int, per_octave: int, align: int
) -> None:
    """A grid holds rising multiples of the alignment, both ends moved inwards, and no step above the nominal one."""
    low, high = min(low, high), max(low, high)
    first, last = -(-low // align) * align, high // align * align
    if first > last:
        with pytest.raises(ValueError, match="no multiple"):
            size_grid(low, high, per_octave, align)
        return
    grid = size_grid(low, high, per_octave, align)
    assert (grid[0], grid[-1]) == (first, last)
    assert all(size % align == 0 for size in grid)
    ratio = 2 ** (1 / per_octave)
    for small, large in itertools.pairwise(grid):
        # Each of the two was moved by at most half the alignment.
        assert small < large <= ratio * small + align * (1 + ratio) / 2 + 1e-6 * large


@pytest.mark.parametrize("per_octave", [1, 2, 4, 8])
def test_grid_has_every_power_of_two_between_two_of_them(per_octave: int) -> None:
    """From one power of two to another, whole octaves are in the grid exactly: where libraries change protocol."""
    assert {2**power for power in range(10, 27)} <= set(size_grid(2**10, 2**26, per_octave))


@pytest.mark.parametrize("arguments", [(0, 16, 4), (16, 0, 4), (16, 64, 0), (16, 64, 4, 0), (-16, 64, 4)])
def test_grid_refuses_what_is_below_one(arguments: tuple[int, ...]) -> None:
    """A bound, a density or an alignment below 1 is an error, not an empty grid."""
    with pytest.raises(ValueError, match="at least 1"):
        size_grid(*arguments)


def test_shape_size_counts_bytes() -> None:
    """The logits of the issue are 4 x 32320 elements of two bytes."""
    assert shape_size((4, 32320), "bfloat16") == 258560


def test_shape_size_refuses_nonsense() -> None:
    """An unknown dtype is met with the nearest one, and an empty dimension is refused."""
    with pytest.raises(ValueError, match="'bfloat16'"):
        shape_size((4,), "bfloat")
    with pytest.raises(ValueError, match="below 1"):
        shape_size((4, 0), "float32")
