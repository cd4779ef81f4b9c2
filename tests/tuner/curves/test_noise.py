"""Noise of a study and the location of a point: robust, and honest about how little a few samples say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves import Noise, PointSamples, learn_noise, summarise
from ccl_dispatch.tuner.curves.noise import FirstCalls


def _points(
    rng: np.random.Generator, count: int, repeats: int, scale: float, *, shift: float = 0.0, wider: float = 1.0
) -> list[dict[int, PointSamples]]:
    points = {}
    for place in range(count):
        middle = rng.normal(0, 0.3)
        first = middle + shift + rng.normal(0, scale * wider)
        points[16 << place] = PointSamples(tuple(middle + rng.normal(0, scale, repeats)), (float(first),))
    return [points]


@pytest.mark.parametrize("scale", [0.02, 0.07, 0.2])
@pytest.mark.parametrize("repeats", [1, 4])
def test_the_scale_is_found_also_from_single_repetitions(scale: float, repeats: int) -> None:
    """Forty visits tell the scale of a pair to 30 %, with one repetition each by comparing with first calls."""
    noise = learn_noise(_points(np.random.default_rng(1), 40, repeats, scale))
    assert noise.scale == pytest.approx(scale, rel=0.3)
    assert noise.first.usable


def test_first_calls_that_are_slower_are_left_out() -> None:
    """First calls that are shifted by a scale and a half, or scatter four times as much, are no samples."""
    rng = np.random.default_rng(2)
    assert not learn_noise(_points(rng, 40, 8, 0.05, shift=0.08)).first.usable
    assert not learn_noise(_points(rng, 40, 8, 0.05, wider=4.0)).first.usable
    assert learn_noise(_points(rng, 40, 8, 0.05)).first.usable


def test_without_samples_there_is_a_belief() -> None:
    """Nothing measured: a scale all the same, and first calls are not trusted."""
    noise = learn_noise([])
    assert 0.01 < noise.scale < 0.3
    assert not noise.first.usable


def test_one_outlier_hardly_moves_a_point() -> None:
    """A sample that is slower by a factor of e among four others moves the location by less than half a scale."""
    noise = Noise(0.05)
    calm, _, _ = summarise(PointSamples((0.1, 0.12, 0.08, 0.1)), noise)
    hit, _, _ = summarise(PointSamples((0.1, 0.12, 0.08, 0.1, 1.1)), noise)
    assert abs(hit - calm) < 0.025


def test_two_samples_that_contradict_each_other_leave_it_open() -> None:
    """Which of the two is the outlier is not known: the deviation covers both readings."""
    value, variance, _ = summarise(PointSamples((0.1, 1.1)), Noise(0.05))
    assert variance**0.5 > 0.2
    assert 0.1 <= value <= 1.1


def test_two_samples_that_agree_are_hardly_both_outliers() -> None:
    """One sample is trusted by the odds of an outlier, two that agree by more than twice that, others by less."""
    noise = Noise(0.07)
    one, agreeing, apart = (
        summarise(PointSamples(values), noise).trust for values in ((0.1,), (0.1, 0.12), (-0.1, 0.4))
    )
    assert 0 < one < agreeing / 2
    assert apart < agreeing / 2
    assert summarise(PointSamples((0.1, 0.2, 0.9)), noise).trust == math.inf


def test_bursts_count_for_fewer_samples() -> None:
    """Sixty-four samples in four runs of one mode each say less than the same ones in turn."""
    series = ([0.1] * 16 + [0.3] * 16) * 2
    _, runs, _ = summarise(PointSamples(tuple(series)), Noise(0.1))
    _, turns, _ = summarise(PointSamples(tuple(sorted(series)[i // 2 + 32 * (i % 2)] for i in range(64))), Noise(0.1))
    assert runs > 4 * turns


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_few_samples_does_not_count(values: list[float], shuffler: object) -> None:
    """The same samples in any order give the same two numbers, to the last bit; the location lies among them."""
    shuffled = sorted(values, key=lambda _: shuffler.random())  # type: ignore[attr-defined]
    noise = Noise(0.07, FirstCalls(usable=True))
    one = summarise(PointSamples(tuple(values)), noise)
    assert summarise(PointSamples(tuple(shuffled)), noise) == one
    assert min(values) - 1e-9 <= one[0] <= max(values) + 1e-9
    assert one[1] > 0


def test_repeats_of_what_looked_odd_do_not_make_everything_noisy() -> None:
    """A search repeats outliers; a straight line of eighty samples says what noise is.

    Four of them are repeated outliers; from the repeats alone it would be four times as much.
    """
    rng = np.random.default_rng(3)
    cell = {16 * 2**place: PointSamples((float(rng.normal(0.1, 0.07)),)) for place in range(80)}
    for place in range(3, 80, 20):
        cell[16 * 2**place] = PointSamples((float(rng.normal(0.1, 0.07)) - 0.5, float(rng.normal(0.1, 0.07))))
    assert 0.06 < learn_noise([cell]).scale < 0.14
