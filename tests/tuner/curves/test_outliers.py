"""Which points are suspected of being outliers, how much, and what the search believes for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.curves import CurveModel, Noise, PointSamples, summarise
from ccl_dispatch.tuner.curves.kernel import JITTER, SHAPES, KernelParts, unit_of
from ccl_dispatch.tuner.curves.noise import OUTLIER_SCALE
from ccl_dispatch.tuner.curves.outliers import most_suspicious, widened
from ccl_dispatch.tuner.curves.points import Points

NOISE = Noise(0.05)


def points_of(curve: dict[int, float], repeats: int = 1) -> Points:
    """Points of `repeats` samples each that lie exactly on the curve."""
    summaries = [summarise(PointSamples((value,) * repeats), NOISE) for value in curve.values()]
    return Points.of(list(curve), summaries)


def evidence(points: Points, unit: float) -> float:
    """Log of the sum over all shapes of the density of the points, by a textbook formula."""
    found = []
    for shape in SHAPES:
        covariance = unit**2 * KernelParts(points.x, points.x).kernel(shape) + np.diag(points.variances + JITTER)
        quadratic = points.values @ np.linalg.solve(covariance, points.values)
        found.append(-0.5 * quadratic - 0.5 * np.linalg.slogdet(covariance)[1])
    return float(np.logaddexp.reduce(found))


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=14), st.integers(0, 13), st.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_odds_are_those_of_all_evidence_with_the_point_as_an_outlier(
    values: list[float], place: int, away: float
) -> None:
    """What is computed from one inverse a shape equals the evidence of the points widened, against that of those as
    they are or of the point with a level of its own, as one octave in two hundred has; sizes are an octave apart here.
    """
    values[place % len(values)] += away
    points = points_of({1024 << step: value for step, value in enumerate(values)})
    suspect = most_suspicious(points)
    assert (suspect is None) == (not points.suspects.any())
    if suspect is not None:
        unit = unit_of(points.values)
        other = widened([points], 0, suspect.place)[0]
        without, whole = evidence(other, unit), evidence(points, unit)
        odds = without - np.logaddexp(whole, without + math.log(0.005)) - float(points.trust[suspect.place])
        assert suspect.odds == pytest.approx(odds, abs=1e-5)
        assert 0 <= suspect.share <= 1
        assert points.suspects[suspect.place]


def steep(outlier: float) -> dict[int, float]:
    """Flat at -0.9 with one sample of its own at 8 KiB, then a rise by 1.7 over three octaves."""
    flat = dict.fromkeys((64, 256, 1024, 4096, 16384, 65536), -0.9)
    return dict(sorted({**flat, 8192: outlier, 131072: -0.5, 262144: 0.0, 524288: 0.4, 1048576: 0.8}.items()))


def test_an_outlier_is_found_in_a_curve_that_is_steep_elsewhere() -> None:
    """The one hypothesis that fits the sample is rough enough for it; all together know better."""
    (curve,) = [points_of(steep(0.8))]
    model = CurveModel.learn([curve])
    (cleaned,) = model.without_outliers([curve])
    (found,) = model.posterior([cleaned], [(0, np.log2([8192.0]))])
    assert found.mean[0] == pytest.approx(-0.9, abs=0.1)


def test_three_samples_are_believed() -> None:
    """What three samples agree on is no outlier."""
    curve = points_of(steep(0.8), repeats=3)
    assert most_suspicious(curve) is None
    model = CurveModel.learn([curve])
    (found,) = model.posterior([curve], [(0, np.log2([8192.0]))])
    assert found.mean[0] == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("repeats", [1, 2])
def test_two_samples_that_agree_are_an_island_rather_than_two_outliers(repeats: int) -> None:
    """However flat the rest is: one sample at +0.6 among fifteen at zero is most likely an outlier, two are true."""
    curve = points_of({64 << step: 0.6 if step == 7 else 0.0 for step in range(16)}, repeats=repeats)
    model = CurveModel.learn([curve])
    (cleaned,) = model.without_outliers([curve])
    (found,) = model.posterior([cleaned], [(0, np.log2([float(64 << 7)]))])
    assert found.mean[0] == pytest.approx(0.0 if repeats == 1 else 0.6, abs=0.1)


def test_what_was_put_down_to_an_outlier_may_be_true() -> None:
    """A sample taken for an outlier keeps a seventh of belief (3 % of pairs are outliers, 0.5 % of octaves islands), by
    which the curve goes through it; calm points and believed ones have no such doubt.
    """
    curve = points_of({64 << step: 0.6 if step == 7 else 0.0 for step in range(16)})
    x = np.log2([float(64 << 7)])
    model = CurveModel.learn([curve])
    cleaned = model.without_outliers([curve])
    acquitted = model.acquitted(cleaned, [curve], 0, x)
    assert acquitted is not None
    assert acquitted.share == pytest.approx(1 / 7, abs=0.03)
    assert acquitted.x == x[0]
    assert acquitted.curve.mean[0] > 0.4
    assert model.acquitted([curve], [curve], 0, x) is None


def far_apart(value: float, amplitude: float = 0.1) -> Points:
    """Up and down around zero, and one sample with five octaves to its neighbours."""
    sizes = (256, 1024, 4096, 16384, 65536, 1 << 26, 1 << 28, 1 << 30)
    calm = {size: amplitude * (-1) ** at for at, size in enumerate(sizes)}
    return points_of(dict(sorted({**calm, 1 << 21: value}.items())))


def test_a_suspicion_is_a_belief_of_its_own() -> None:
    """A lone sample far from others may be true or not: both are believed, and all beliefs add up to one."""
    points = far_apart(-0.7)
    x = np.log2([float(1 << 21)])
    beliefs = CurveModel.learn([points]).beliefs([points], 0, x)
    assert math.fsum(share for share, _ in beliefs) == pytest.approx(1)
    (share, likely), _, (doubt, otherwise) = beliefs
    assert 0.02 < doubt < 0.5 < share
    assert likely.mean[0] == pytest.approx(-0.7, abs=0.1)
    assert abs(otherwise.mean[0]) < 0.2
    assert otherwise.deviation[0] > 3 * likely.deviation[0]


def test_calm_points_are_under_no_suspicion() -> None:
    """Without a point that stands out there is what is likely and the surprise, nothing else."""
    points = far_apart(0.0, 0.01)
    assert len(CurveModel.learn([points]).beliefs([points], 0, points.x)) == 2


def test_a_widened_point_is_as_uncertain_as_an_outlier_and_the_rest_stays() -> None:
    """One variance grows, and the point isn't asked about again."""
    points = far_apart(0.3)
    (other,) = widened([points], 0, 2)
    assert other.variances[2] == points.variances[2] + OUTLIER_SCALE**2
    assert other.trust[2] == math.inf
    assert np.array_equal(np.delete(other.variances, 2), np.delete(points.variances, 2))
    assert np.array_equal(other.values, points.values)
