from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.statistics import (
    SERIES,
    StopRule,
    _log_ratio,
    _outer_rank,
    correlation_time,
    edge,
    fewest_samples,
    mean_correlation_time,
    median,
    median_interval,
    rounded_up,
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


@given(st.integers(1, 300), st.floats(0.1, 30.0))
@settings(max_examples=200, deadline=None)
def test_bounds_are_the_outermost_samples_that_are_not_excluded(count: int, limit: float) -> None:
    """With so many samples below it a value is excluded, or not, as with fewer: the rank counts those up to the middle
    that are.
    """
    excluded = [_log_ratio(count, below) >= limit for below in range(count // 2 + 1)]
    assert _outer_rank(count, limit) == sum(excluded) - 1
    assert excluded == sorted(excluded, reverse=True)


def _runs(rng: random.Random, count: int, length: int) -> list[float]:
    """Samples of a machine with two modes, as likely as each other, that stays in each for so many."""
    values: list[float] = []
    while len(values) < count:
        mode = rng.choice((-1.0, 1.0))
        values += [0.3 + mode * abs(rng.gauss(1, 0.2)) for _ in range(length)]
    return values


def test_samples_that_come_in_runs_count_for_so_many_fewer() -> None:
    """Independent ones count in full, each repeated k times in a row for a k-th; by their sides of the median alone, so
    that neither scale nor tails nor the direction of time matter.
    """
    rng = random.Random(11)
    alone = [rng.gauss(0, 1) for _ in range(1600)]
    assert 1 <= correlation_time(alone) < 1.1
    for times in (2, 4, 8):
        repeated = [value for value in alone for _ in range(times)]
        found = correlation_time(repeated)
        assert 0.9 * times < found < 1.1 * times
        assert correlation_time([math.exp(9 * value) for value in repeated]) == found
        assert correlation_time(repeated[::-1]) == pytest.approx(found)
        assert correlation_time([-value for value in repeated]) == pytest.approx(found)


def test_nothing_is_concluded_from_a_short_or_a_level_series() -> None:
    """Fewer than so many samples, or all alike, count in full; and so do neighbours that take turns, not for more."""
    assert correlation_time([0.0] * (SERIES // 2 - 1) + [1.0] * (SERIES // 2)) == 1
    assert correlation_time([0.0] * (SERIES // 2) + [1.0] * (SERIES // 2)) > 2
    assert correlation_time([5.0] * 100) == 1
    assert correlation_time([0.0, 1.0] * 50) == 1


def test_between_visits_there_is_nothing_to_resemble() -> None:
    """Several visits count by the mean of theirs, each by its samples."""
    rng = random.Random(12)
    long, short = _runs(rng, 300, 10), _runs(rng, 60, 2)
    one, other = correlation_time(long), correlation_time(short)
    assert one > 2 * other
    assert mean_correlation_time([long, short, []]) == pytest.approx((300 * one + 60 * other) / 360)
    assert mean_correlation_time([]) == 0
    assert [rounded_up(value) for value in (0.0, 1.0, 1.01, 1.25, 2.6)] == [1.0, 1.0, 1.25, 1.25, 2.75]


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40), st.integers(1, 9), st.floats(0.5, 0.999))
@settings(max_examples=100, deadline=None)
def test_samples_that_are_each_there_several_times_prove_no_more(
    values: list[float], times: int, confidence: float
) -> None:
    """With that as their correlation the interval is that of each taken once."""
    repeated = [value for value in values for _ in range(times)]
    assert median_interval(repeated, confidence, times) == median_interval(values, confidence)


@pytest.mark.parametrize("length", [2, 4, 8])
def test_interval_misses_the_median_of_samples_that_come_in_runs_seldom(length: int) -> None:
    """Runs of known length, looked at after each of 50: 200 such series miss the true median about as often as they
    may; taken for independent samples far more of them do.
    """
    rng = random.Random(13)
    missed = {float(length): 0, 1.0: 0}
    for _ in range(200):
        values = _runs(rng, 50 * length, length)
        for correlation in missed:
            looks = (
                median_interval(values[:count], 0.95, correlation) for count in range(length, len(values) + 1, length)
            )
            missed[correlation] += any(not interval.low <= 0.3 <= interval.high for interval in looks)
    # One in twenty is 10; three standard deviations (3.1 each) of slack.
    assert missed[length] <= 19
    assert missed[1.0] > 43


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


def test_no_fewer_than_asked_for_settle() -> None:
    """Where the proof would take fewer, as many as the config asks for are taken; without any there is no proof."""
    rule = StopRule(math.log1p(0.03), 0.95, 1, min_samples=20, max_samples=100)
    assert [rule.settled({"a": [0.3] * count}) for count in (19, 20)] == [None, "settled"]
    assert StopRule(0.03, 0.95, 1, min_samples=0, max_samples=9).settled({"a": [], "b": [0.3] * 8}) is None
    assert StopRule(0.0, 0.5, 1, min_samples=1, max_samples=9).settled({"a": [0.3] * 3}) == "settled"


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


def test_a_band_reaches_to_half_of_what_opens_it() -> None:
    """An edge lies at half of the threshold, and with nothing to prove where the two are level."""
    assert edge(0.03) == pytest.approx(0.015)
    assert edge(0.0) == 0.0
