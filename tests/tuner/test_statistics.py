from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.statistics import (
    StopRule,
    edge,
    evidence_wanted,
    fewest_samples,
    location_interval,
    log_evidence,
    median,
    median_interval,
    samples_missing,
    shared_confidence,
)

VALUES = st.lists(st.floats(-10, 10), min_size=1, max_size=60)


def heavy(rng: random.Random, centre: float) -> float:
    """A sample around the median `centre`: 5 % normal noise, one in ten with a Cauchy tail."""
    tail = math.tan(math.pi * (rng.random() - 0.5)) if rng.random() < 0.1 else 0.0
    return centre + 0.05 * (rng.gauss(0, 1) + tail)


def test_interval_covers_the_median_at_every_look() -> None:
    """Looked at after each of 200 heavy-tailed samples, at most 5 % of 400 runs ever miss the true median."""
    rng = random.Random(1)
    missed = 0
    for _ in range(400):
        values = []
        for _ in range(200):
            values.append(heavy(rng, 0.3))
            interval = median_interval(values, 0.95)
            if not interval.low <= 0.3 <= interval.high:
                missed += 1
                break
    # 20 are expected at most; three standard deviations (4.4 each) of slack.
    assert 0 < missed <= 33


def test_interval_covers_a_median_that_many_samples_are_equal_to() -> None:
    """Ties with the median are taken conservatively: a clock that steps never excludes the true value."""
    rng = random.Random(2)
    missed = 0
    for _ in range(200):
        values = []
        for _ in range(100):
            values.append(round(rng.gauss(0, 1)))
            interval = median_interval(values, 0.95)
            missed += not interval.low <= 0 <= interval.high
    assert missed == 0


def test_interval_narrows_to_the_median() -> None:
    """Ten times the samples give an interval less than half as wide."""
    rng = random.Random(3)
    values = [heavy(rng, 0.0) for _ in range(1000)]
    few, many = median_interval(values[:100], 0.95), median_interval(values, 0.95)
    assert many.high - many.low < (few.high - few.low) / 2


@given(VALUES, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(max_examples=200, deadline=None)
def test_interval_contains_the_median_and_ignores_order(values: list[float], confidence: float) -> None:
    """The median lies in its interval, and the order of the samples changes nothing."""
    interval = median_interval(values, confidence)
    assert interval.low <= interval.median <= interval.high
    shuffled = list(values)
    random.Random(0).shuffle(shuffled)
    assert median_interval(shuffled, confidence) == interval


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_more_confidence_never_narrows_the_interval(values: list[float]) -> None:
    """The interval at 99 % holds the one at 90 %."""
    wide, narrow = median_interval(values, 0.99), median_interval(values, 0.9)
    assert wide.low <= narrow.low
    assert wide.high >= narrow.high


def test_seven_samples_are_the_fewest_at_95_percent() -> None:
    """C(2n, n) / 2^n first reaches 20 at n = 7; with six samples nothing is known, with seven their range is."""
    assert fewest_samples(0.95) == 7
    assert median_interval([1.0] * 6, 0.95).low == -math.inf
    assert not median_interval([1.0] * 6, 0.95).finite
    interval = median_interval([3.0, 1.0, 2.0, 5.0, 4.0, 7.0, 6.0], 0.95)
    assert (interval.low, interval.median, interval.high) == (1.0, 4.0, 7.0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 2.0])
def test_a_confidence_outside_0_to_1_is_refused(confidence: float) -> None:
    """A confidence that is no probability is an error that says which range is meant."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        median_interval([1.0], confidence)


def test_no_samples_are_refused() -> None:
    """Nothing has no median."""
    with pytest.raises(ValueError, match="at least one"):
        median([])


def rule(min_gain: float = 0.03, candidates: int = 1) -> StopRule:
    return StopRule(math.log1p(min_gain), 0.95, candidates, min_samples=7, max_samples=100)


def test_a_clear_winner_a_clear_loser_and_a_tie_settle() -> None:
    """A candidate is settled when its interval is above the threshold, below it, or in the tie band."""
    for value in (0.3, -0.3, 0.01):
        assert rule().settled({"a": [value] * 7}) == "settled"


def test_an_open_question_goes_on_until_the_samples_are_spent() -> None:
    """An interval around the threshold settles nothing; max_samples ends the point."""
    open_question = [0.0, 0.06] * 50
    assert rule().settled({"a": open_question[:99]}) is None
    assert rule().settled({"a": open_question}) == "samples"


def test_too_few_samples_never_settle() -> None:
    """Below min_samples there is no verdict, however clear the samples look."""
    assert rule().settled({"a": [0.3] * 6}) is None


def test_every_candidate_has_to_be_settled() -> None:
    """One open candidate keeps the point going, and more candidates need more proof."""
    assert rule(candidates=2).settled({"a": [0.3] * 20, "b": [0.0, 0.06] * 10}) is None
    assert rule(candidates=8).settled({"a": [0.3] * 7}) is None
    assert rule(candidates=8).settled({"a": [0.3] * 10}) == "settled"


def test_a_point_without_candidates_is_settled() -> None:
    """Where every candidate is excluded there is nothing to wait for."""
    assert rule().settled({}) == "settled"


def test_with_no_minimum_gain_a_narrow_interval_settles() -> None:
    """Two equal backends end at min_gain 0 too: half a percent is as fine as anybody looks."""
    assert rule(0.0).settled({"a": [-0.002, 0.002] * 10}) == "settled"
    assert rule(0.0).settled({"a": [-0.02, 0.02] * 10}) is None


def test_null_candidate_is_hardly_ever_settled_as_a_gain() -> None:
    """Baseline against itself, looked at after every sample, is called a gain in at most 5 % of 300 points."""
    rng = random.Random(4)
    wrong = 0
    for _ in range(300):
        values: list[float] = []
        while rule(0.0).settled({"a": values}) is None:
            values.append(heavy(rng, 0.0))
        wrong += median_interval(values, 0.95).low > 0
    assert wrong <= 15


def test_confidence_is_shared_by_the_number_of_claims() -> None:
    """Five claims at 99 % hold together at 95 %."""
    assert shared_confidence(0.95, 5) == pytest.approx(0.99)
    assert shared_confidence(0.95, 0) == pytest.approx(0.95)


SCALES = st.floats(1e-3, 1.0)


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
        if (missing := samples_missing(values, 0.0, 0.07, 0.95)) is None or _proven(values, 0.0, 0.07):
            continue
        more = 0
        while not _proven(values, 0.0, 0.07):
            values.append(rng.gauss(0.05, 0.07))
            more += 1
        parts.append(missing / more)
    assert 1 / 3 < median(parts) < 3
    assert samples_missing([-0.1] * 10, 0.0, 0.07, 0.95) is None


def test_a_band_reaches_to_half_of_what_opens_it() -> None:
    """An edge lies at half of the threshold, and with nothing to prove where the two are level."""
    assert edge(0.03) == pytest.approx(0.015)
    assert edge(0.0) == 0.0
