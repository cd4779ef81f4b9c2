"""The regret that a table says may be left."""

from __future__ import annotations

import math

import pytest
from curve_bench import Bench
from made_grids import made_grid, made_point, posterior

from ccl_dispatch.tuner.curves import Acquittal
from ccl_dispatch.tuner.fit.regret import regret_estimate


def test_what_lies_between_sizes_far_apart_counts(bench: Bench) -> None:
    """A candidate that leads by a tenth wherever it was measured, beyond all noise: with sizes more than three octaves
    apart something else may lie between them, with half an octave hardly.
    """
    few, many = (
        bench.fit(bench.points(bench.grid(count), {"fast": lambda _: 0.1}, noise=0.01, outliers=0.0)).regret_estimate
        for count in (6, 40)
    )
    assert few is not None
    assert many is not None
    assert few > 3 * many
    assert 1e-3 < few < 0.1


def test_the_same_samples_have_the_same_estimate(bench: Bench) -> None:
    """In whatever order they come."""
    results = bench.points(bench.grid(9), {"fast": lambda x: 0.05 * (13 - x)})
    assert bench.fit(results).regret_estimate == bench.fit(results[::-1]).regret_estimate


@pytest.mark.parametrize("lead", [0.015, 0.028])
def test_what_min_gain_leaves_on_purpose_is_in_the_estimate(bench: Bench, lead: float) -> None:
    """A candidate that leads by less than min_gain is not used, and that is lost for certain: the estimate is not less.

    Half of a mean, which suits what is merely possible, would be half of it.
    """
    results = bench.points(bench.grid(21), {"fast": lambda _: lead}, samples=200, outliers=0.0)
    table = bench.fit(results, min_gain=0.03)
    assert {band.use for band in table.bands} == {"base"}
    assert table.regret_estimate is not None
    assert lead < table.regret_estimate < 2 * lead


@pytest.mark.parametrize("label", ["base", "fast"])
def test_the_estimate_is_half_of_a_mean_and_four_fifths_of_a_deviation(label: str) -> None:
    """Where each curve is known for sure: as it was found; in a quarter of the draws as it is if a point was measured
    right after all; and, believed to 3 %, as it is if something lies between the sizes. Sizes count by their octaves,
    those at which a candidate may not be used lose nothing, and a choice that is ahead loses nothing either.
    """
    lead, otherwise, unseen = (0.2, -0.3, 0.1)
    usable = [True, True, False]
    grid = made_grid(
        [made_point(size, fast=0.1) for size in (64, 128, 512)],
        {"fast": [(lead, 0.0, there) for there in usable]},
        acquitted={"fast": Acquittal(0.25, 6.0, posterior([(otherwise, 0.0)] * 3))},
        surprised={"fast": posterior([(unseen, 0.0)] * 3)},
    )
    part = 2.0 / 3.0  # of the octaves, which are 0.5, 1.5 and 1
    sign = 1 if label == "base" else -1
    # Where the candidate may not be used it is no rival, but a table that uses it there loses what it costs.
    beyond = 0.0 if label == "base" else 1 - part
    losses = [
        part * max(math.expm1(sign * each), 0.0) + beyond * max(math.expm1(-each), 0.0)
        for each in (lead, otherwise, unseen)
    ]
    weights = (0.97 * 0.75, 0.97 * 0.25, 0.03)
    mean = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    deviation = math.sqrt(sum(weight * (loss - mean) ** 2 for weight, loss in zip(weights, losses, strict=True)))
    found = regret_estimate(grid, [label] * 3)
    assert found == pytest.approx(0.5 * mean + 0.8 * deviation, rel=0.01)
    most = regret_estimate(grid, [label] * 3, min_gain=0.03)
    assert most == pytest.approx(max(found or 0.0, losses[0] if label == "base" else losses[1]), rel=0.01)


def test_without_a_curve_there_is_no_estimate() -> None:
    """Where no candidate could be compared nothing is said, rather than nothing be left to win."""
    assert regret_estimate(made_grid([made_point(64)], {}), ["base"]) is None
