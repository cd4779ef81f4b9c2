"""Bets on a location: what they prove holds as often as they say, and takes fewer samples than signs do."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves.betting import (
    evidence_wanted,
    location_interval,
    log_evidence,
    pooled_confidence,
    samples_missing,
)
from ccl_dispatch.tuner.statistics import fewest_samples, median, median_interval

VALUES = st.lists(st.floats(-10, 10), min_size=1, max_size=60)
SCALES = st.floats(1e-3, 1.0)


def heavy(rng: random.Random, centre: float) -> float:
    """A sample around the median `centre`: 5 % normal noise, one in ten with a Cauchy tail."""
    tail = math.tan(math.pi * (rng.random() - 0.5)) if rng.random() < 0.1 else 0.0
    return centre + 0.05 * (rng.gauss(0, 1) + tail)


def _proven(values: list[float], threshold: float, scale: float) -> bool:
    return log_evidence(values, threshold, scale) >= evidence_wanted(0.95)


def test_a_false_gain_is_proven_in_at_most_one_of_twenty_runs_whenever_one_looks() -> None:
    """Looked at after each of 200 heavy-tailed samples whose location is the threshold, 400 runs: 5 % and chance."""
    rng = random.Random(5)
    wrong = 0
    for _ in range(400):
        values: list[float] = []
        for _ in range(200):
            values.append(heavy(rng, 0.03))
            if _proven(values, 0.03, 0.05):
                wrong += 1
                break
    # 20 are expected at most; three standard deviations (4.4 each) of slack.
    assert 0 < wrong <= 33


def test_skewed_samples_prove_no_more_than_their_location() -> None:
    """Two modes, 30 % of the samples 0.1 above the rest: their location at the threshold is proven to exceed it seldom.

    No symmetry is asked: the median of these samples is 0, their location 0.03.
    """
    rng = random.Random(6)
    wrong = 0
    for _ in range(400):
        values: list[float] = []
        for _ in range(150):
            values.append(0.1 if rng.random() < 0.3 else 0.0)
            if _proven(values, 0.03, 0.05):
                wrong += 1
                break
    assert wrong <= 33


def test_a_proof_takes_fewer_samples_than_by_their_signs() -> None:
    """Half a deviation above the threshold it takes less than two thirds of what the median's interval takes."""
    rng = random.Random(7)
    taken = {"bets": 0, "signs": 0}
    for _ in range(100):
        values: list[float] = []
        left = dict.fromkeys(taken)
        while left:
            values.append(rng.gauss(0.035, 0.07))
            for name in list(left):
                done = _proven(values, 0.0, 0.07) if name == "bets" else median_interval(values, 0.95).low > 0
                if done:
                    taken[name] += len(values)
                    del left[name]
    assert taken["bets"] < 2 / 3 * taken["signs"]


@given(VALUES, SCALES)
@settings(max_examples=200, deadline=None)
def test_bounds_are_what_is_proven(values: list[float], scale: float) -> None:
    """Below the lower bound a threshold is proven to be exceeded, above it not, and the same the other way up."""
    interval = location_interval(values, 0.95, scale)
    negated = location_interval([-value for value in values], 0.95, scale)
    assert (negated.low, negated.high) == (-interval.high, -interval.low)
    assert interval.low <= interval.median <= interval.high
    if math.isfinite(interval.low):
        assert _proven(values, interval.low - 1e-9, scale)
        assert interval.low == interval.median or not _proven(values, interval.low + 1e-6, scale)
    else:
        assert not _proven(values, min(values) - 100 * scale, scale)


@given(VALUES, SCALES, st.floats(-5, 5), st.floats(0, 5))
@settings(max_examples=200, deadline=None)
def test_more_is_never_proven_by_less(values: list[float], scale: float, threshold: float, more: float) -> None:
    """Evidence for a gain falls as the threshold rises, and does not depend on the order of the samples."""
    found = log_evidence(values, threshold, scale)
    assert log_evidence(values, threshold + more, scale) <= found + 1e-9
    shuffled = list(values)
    random.Random(0).shuffle(shuffled)
    assert log_evidence(shuffled, threshold, scale) == pytest.approx(found, abs=1e-9)


def test_an_outlier_says_no_more_than_any_other_sample() -> None:
    """One sample at thousands of deviations moves a bound no further than one at five."""
    values = [0.05 + 0.01 * step for step in range(-5, 6)]
    near, far = (location_interval([*values, outlier], 0.95, 0.05) for outlier in (0.3, 200.0))
    assert far.low == pytest.approx(near.low, abs=1e-6)
    assert far.high == pytest.approx(near.high, abs=1e-6)


def test_samples_that_resemble_their_neighbours_count_for_fewer() -> None:
    """A correlation widens the interval, as fewer samples would."""
    values = [random.Random(8).gauss(0.1, 0.05) for _ in range(40)]
    alone, alike = location_interval(values, 0.95, 0.05), location_interval(values, 0.95, 0.05, correlation=2.0)
    assert alike.low < alone.low
    assert alike.high > alone.high


def test_what_a_proof_lacks_is_about_what_it_takes() -> None:
    """Told after ten samples, the number that is missing is right to a factor of three in the median of 100 runs."""
    rng = random.Random(9)
    parts: list[float] = []
    while len(parts) < 100:
        values = [rng.gauss(0.05, 0.07) for _ in range(10)]
        if (missing := samples_missing(values, 0.0, 0.07, evidence_wanted(0.95))) is None or _proven(values, 0.0, 0.07):
            continue
        more = 0
        while not _proven(values, 0.0, 0.07):
            values.append(rng.gauss(0.05, 0.07))
            more += 1
        parts.append(missing / more)
    assert 1 / 3 < median(parts) < 3
    assert samples_missing([-0.1] * 10, 0.0, 0.07, evidence_wanted(0.95)) is None


@given(VALUES, SCALES, st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_samples_that_are_each_there_several_times_prove_no_more(values: list[float], scale: float, times: int) -> None:
    """With that as their correlation they say what each taken once says."""
    repeated = [value for value in values for _ in range(times)]
    once = log_evidence(values, 0.0, scale)
    assert log_evidence(repeated, 0.0, scale, times) == pytest.approx(once, abs=1e-9)
    one, other = location_interval(values, 0.95, scale), location_interval(repeated, 0.95, scale, times)
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "confidence"),
    [((60,), 0.95), ((60, 60), 0.975), ((60, 8), 0.95), ((60, 9), 0.975), ((9, 9, 9), 0.95), ((10, 10, 10), 0.975)],
)
def test_alpha_is_shared_where_counts_allow_two_readings(counts: tuple[int, ...], confidence: float) -> None:
    """Several points, each with as many samples as an interval at its share of half of alpha takes."""
    assert pooled_confidence(counts, 0.95) == pytest.approx(confidence)
    enough = fewest_samples(1 - 0.05 / 2 / len(counts))
    assert (len(counts) > 1 and min(counts) >= enough) == (confidence > 0.95)
