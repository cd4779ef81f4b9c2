"""The worth of a measurement, against what simulating it gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves import Doubt, Measuring, expected_loss, value_of_telling
from ccl_dispatch.tuner.curves.value import loss_of, scalar_loss


@given(st.floats(-1, 1), st.floats(0.001, 1))
def test_expected_loss_is_the_mean_of_the_wrong_side(mean: float, deviation: float) -> None:
    """The looked-up loss is that of the formula to a thousandth of the deviation, never negative, falling in |mean|."""
    found = float(expected_loss(np.array([mean]), np.array([deviation]))[0])
    assert found == pytest.approx(scalar_loss(mean, deviation), abs=1e-3 * deviation)
    assert 0 <= found <= deviation / math.sqrt(2 * math.pi) + 1e-9


def test_the_formula_is_what_simulation_gives() -> None:
    """E[max(-X, 0)] of a normal with mean 0.1 and deviation 0.2, from a million draws."""
    draws = np.random.default_rng(0).normal(0.1, 0.2, 1_000_000)
    assert scalar_loss(0.1, 0.2) == pytest.approx(float(np.maximum(-draws, 0).mean()), rel=0.01)


@given(st.floats(-1, 1), st.floats(0.001, 1), st.floats(-1, 1))
def test_the_choice_on_the_wrong_side_loses_the_mean_as_well(mean: float, deviation: float, chosen: float) -> None:
    """Of the two choices one loses the mean more than the other, and the better one is that of the mean's sign."""
    one, two = (float(loss_of(np.array([by]), np.array([mean]), np.array([deviation]))[0]) for by in (chosen, -chosen))
    least = float(expected_loss(np.array([mean]), np.array([deviation]))[0])
    if chosen and abs(mean) > 1e-9:
        assert sorted((one, two)) == pytest.approx([least, least + abs(mean)])
        assert (one <= two) == ((mean > 0) == (chosen > 0))


def test_the_worth_is_what_choosing_again_gains() -> None:
    """One size: measuring it lowers the expected loss by the simulated difference between choosing now and after."""
    mean, deviation, noise = 0.05, 0.1, 0.08
    worth = float(
        Measuring(np.array([mean]), np.array([[deviation**2]]), np.ones(1)).value(np.array([[noise**2]]))[0, 0]
    )
    rng = np.random.default_rng(1)
    truth = rng.normal(mean, deviation, 400_000)
    seen = truth + rng.normal(0, noise, len(truth))
    after = (mean / deviation**2 + seen / noise**2) / (1 / deviation**2 + 1 / noise**2)
    gain = np.where(after > 0, truth, 0).mean() - max(mean, 0.0)
    assert worth == pytest.approx(float(gain), rel=0.05)


def test_nothing_is_gained_where_nothing_is_open() -> None:
    """Far from zero, or without doubt, a measurement is worth nothing; more repetitions are worth more."""
    covariance = np.array([[0.01, 0.0], [0.0, 1e-8]])
    noise = np.array([[0.01, 0.01], [0.001, 0.001]])
    worth = Measuring(np.array([0.02, 0.02]), covariance, np.array([0.5, 0.5])).value(noise)
    assert worth[0, 1] < 1e-6 < worth[0, 0] < worth[1, 0]
    assert Measuring(np.array([3.0, 3.0]), covariance, np.array([0.5, 0.5])).value(noise).max() == 0


def test_a_doubt_settles_when_little_is_left_to_lose() -> None:
    """Repetitions clearly on a side settle it, those near zero do not; with a limit below zero nothing ever does."""
    doubt = Doubt(offset=0.0, mean=0.1, variance=0.01, scale=0.05, least=1e-4, firsts=True)
    assert doubt.settled([0.1] * 10)
    assert doubt.settled([-0.1] * 10)
    assert not doubt.settled([0.0] * 4)
    assert not doubt._replace(least=-1.0).settled([0.1] * 1000)


def test_two_samples_contradict_each_other_only_beyond_noise() -> None:
    """One outlier of two is a contradiction; two close ones, three, or a first call that does not count are not."""
    doubt = Doubt(offset=0.0, mean=0.0, variance=1.0, scale=0.05, least=-1.0, firsts=True)
    assert doubt.contradicted(1.0, [0.1])
    assert not doubt.contradicted(0.15, [0.1])
    assert not doubt.contradicted(1.0, [0.1, 0.1])
    assert not doubt._replace(firsts=False).contradicted(1.0, [0.1])


@given(st.integers(0, 2**32 - 1))
def test_every_size_counts(seed: int) -> None:
    """The worth is the sum over all sizes, however many there are: at small sizes neighbours lie an octave apart."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 60))
    root = rng.normal(size=(count, count))
    covariance, lead = root @ root.T / count, rng.normal(size=count)
    weights, noise = rng.dirichlet(np.ones(count)), rng.uniform(0.1, 1, (3, count))
    reach = np.abs(covariance)[None] / np.sqrt(np.diagonal(covariance) + noise)[:, None, :]
    expected = np.einsum("i,kij->kj", weights, expected_loss(lead[None, :, None], reach))
    assert Measuring(lead, covariance, weights).value(noise) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_telling_two_curves_apart_is_worth_what_choosing_after_it_gains() -> None:
    """As simulated: a curve of the two is true, one size is measured, and the choices of the likelier to lose go."""
    share, noise = 0.2, 0.15
    lead, otherwise, weights = np.array([0.3, -0.1]), np.array([-0.2, -0.4]), np.array([0.7, 0.3])
    worth = value_of_telling(share, lead, otherwise, weights, np.full((1, 2), noise**2))[0]
    rng = np.random.default_rng(2)
    second = rng.random(400_000) < share
    # At the second size the two choose alike, so that only the first one's loss is at stake.
    lost_by_keeping, lost_by_changing = 0.7 * 0.2 * second, 0.7 * 0.3 * ~second
    for place in range(2):
        seen = np.where(second, otherwise[place], lead[place]) + rng.normal(0, noise, len(second))
        likelier = np.exp(((seen - lead[place]) ** 2 - (seen - otherwise[place]) ** 2) / (2 * noise**2))
        odds = share / (1 - share) * likelier
        changed = odds * 0.2 > 0.3
        gain = lost_by_keeping.mean() - np.where(changed, lost_by_changing, lost_by_keeping).mean()
        assert worth[place] == pytest.approx(float(gain), rel=0.05)


@given(st.integers(0, 2**32 - 1))
def test_telling_is_worth_no_more_than_what_is_at_stake(seed: int) -> None:
    """Never below nothing, nor above what keeping the first choices is expected to lose; more with less noise."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 30))
    lead, otherwise = rng.normal(size=(2, count))
    weights, share = rng.dirichlet(np.ones(count)), float(rng.uniform(0.02, 0.5))
    noise = np.sort(rng.uniform(0.01, 1, (3, 1)), axis=0)[::-1] * np.ones(count)
    worth = value_of_telling(share, lead, otherwise, weights, noise)
    stake = share * float(weights @ np.where((lead > 0) != (otherwise > 0), np.abs(otherwise), 0.0))
    assert (worth >= 0).all()
    assert (worth <= stake + 1e-9).all()
    assert (np.diff(worth, axis=0) >= -1e-5).all()


def test_curves_that_choose_alike_need_no_telling() -> None:
    """However far apart they are."""
    noise = np.full((1, 2), 0.01)
    assert value_of_telling(0.5, np.array([0.1, 0.2]), np.array([3.0, 4.0]), np.ones(2), noise).max() == 0


def test_a_visit_where_two_curves_meet_tells_nothing() -> None:
    """Not even where far more is lost if the second is true than by a change if it is not."""
    noise = np.full((1, 2), 0.01)
    worth = value_of_telling(0.3, np.array([0.02, 0.2]), np.array([-2.0, 0.2]), np.array([0.5, 0.5]), noise)[0]
    assert worth[1] == pytest.approx(0, abs=1e-5)
    assert worth[0] == pytest.approx(0.3 * 0.5 * 2.0, rel=1e-3)
