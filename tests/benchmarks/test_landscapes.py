"""The landscapes that searches are judged on: a replay gives their truth back, and families are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import CURVES, FAMILIES, Landscape, dtypes, make, published, simulated, without_difference, write_csv

from ccl_dispatch.tuner.measurements.csv_file import read_measurements
from ccl_dispatch.tuner.measurements.evaluate import log_spaced
from ccl_dispatch.tuner.measurements.replay import ReplayCurves

families = pytest.mark.parametrize("family", FAMILIES)


def crossings(landscape: Landscape) -> int:
    """How often the lead changes its sign from knot to knot, ties left out."""
    signs = np.sign(landscape.lead(landscape.knots))
    signs = signs[signs != 0]
    return int((signs[1:] != signs[:-1]).sum())


@families
def test_a_replay_gives_the_truth_back(family: str, tmp_path: Path) -> None:
    """The file of a landscape, read and replayed, has its latencies at every size, measured or between."""
    landscape = make(7, family, 0)
    write_csv([landscape], tmp_path / "one.csv")
    curves = ReplayCurves(read_measurements(tmp_path / "one.csv"))
    assert curves.range_of(landscape.cell, landscape.backends) == (landscape.low, landscape.high)
    sizes = sorted({*log_spaced(landscape.low, landscape.high), *map(int, landscape.knots)})
    for name, expected in zip(landscape.backends, landscape.log_latency(sizes), strict=True):
        found = [curves.true_latency_us(landscape.cell, name, size) for size in sizes]
        np.testing.assert_allclose(np.log(found), expected, rtol=0, atol=1e-9)


def test_published_measurements_are_what_their_replay_serves() -> None:
    """Every pair of backends with five octaves in common is there, with the file's medians at measured sizes."""
    found = published()
    assert len({one.name for one in found}) == len(found) > 100
    assert all(one.high >= 32 * one.low for one in found)
    rccl = next(one for one in found if one.backends == ("rccl", "quickreduce") and one.cell.world_size == 2)
    # The first row of the published table: RCCL 17.15 us, QuickReduce 8.47 us at 32 KiB on two MI300X.
    np.testing.assert_allclose(np.exp(rccl.log_latency([32768])).ravel(), [17.15, 8.47])


@families
def test_a_seed_makes_the_same_landscapes_and_another_others(family: str) -> None:
    """Truth and noise hang on the seed, the family and the number alone."""
    one, again, other = make(3, family, 2), make(3, family, 2), make(4, family, 2)
    assert simulated(3, 3, (family,))[2].log_us.tobytes() == one.log_us.tobytes() == again.log_us.tobytes()
    assert one.log_us.shape != other.log_us.shape or not np.allclose(one.log_us, other.log_us)
    draws = [landscape.sample(np.random.default_rng(0), 4096, 5) for landscape in (one, again)]
    assert draws[0].tobytes() == draws[1].tobytes()


@families
def test_noise_treats_both_backends_alike(family: str) -> None:
    """The median of the log-ratio over many visits is the true lead: nothing favours one backend."""
    landscape = make(5, family, 1)
    rng = np.random.default_rng(1)
    size = int(landscape.knots[len(landscape.knots) // 2])
    visits = [landscape.sample(rng, size, 4) for _ in range(1500)]
    ratios = np.log([visit[0] / visit[1] for visit in visits]).ravel()
    # Four standard errors of a median, with as many independent samples as there are visits.
    spread = float(np.quantile(ratios, 0.8413) - np.quantile(ratios, 0.1587)) / 2
    assert np.median(ratios) == pytest.approx(landscape.lead([size])[0], abs=4 * 1.2533 * spread / np.sqrt(1500))


def test_curves_are_what_their_family_says() -> None:
    """Crossovers cross, ties tie, one winner wins, islands are islands, and a limit ends in the baseline itself."""
    for seed in range(20):
        made = {family: make(seed, family, 0) for family in CURVES}
        leads = {family: landscape.lead(landscape.knots) for family, landscape in made.items()}
        assert 2 <= crossings(made["crossovers"]) <= 5
        assert np.abs(leads["ties"]).max() <= 0.04
        assert crossings(made["one_winner"]) == 0
        assert np.abs(leads["one_winner"]).min() >= 0.08
        assert 1 <= crossings(made["islands"]) <= 4
        assert leads["limit"][-1] == 0
        assert leads["limit"][0] > 0.05
        steps = np.abs(np.diff(leads["protocol_steps"]))
        assert steps.max() > 3 * np.median(steps)


def test_noise_is_what_its_family_says() -> None:
    """Spread that falls with size, two modes, memory, a common drift, and tails, each where it should be."""
    rng = np.random.default_rng(0)
    draw = {family: make(1, family, 0).noise.draw for family in FAMILIES}
    assert draw["heteroscedastic"](rng, 16, 2000).std() > 5 * draw["heteroscedastic"](rng, 64 << 20, 2000).std()
    modes = draw["bimodal"](rng, 4096, 4000)
    assert ((modes > 0.08) & (modes < 0.17)).mean() < 0.01  # hardly anything between the two
    assert (modes > 0.17).mean() == pytest.approx(0.3, abs=0.03)

    def memory(family: str) -> float:
        values = draw[family](rng, 4096, 4000)[0]
        return float(np.corrcoef(values[1:], values[:-1])[0, 1])

    assert memory("ties") == pytest.approx(0, abs=0.07)
    assert memory("autocorrelated") == pytest.approx(0.8, abs=0.07)
    assert memory("bimodal_in_runs") > 0.5
    visits = np.array([draw["drift"](rng, 4096, 8) for _ in range(300)])
    assert np.corrcoef(visits[:, 0].mean(1), visits[:, 1].mean(1))[0, 1] > 0.95
    tails = np.abs(draw["heavy_tails"](rng, 4096, 4000))
    assert tails.max() > 20 * np.median(tails)
    late = draw["slow_rank"](rng, 4096, 4000)
    assert np.mean(late > 0.12) > 10 * np.mean(late < -0.12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_regret_is_nothing_for_the_best_choice_and_never_less(seed: int, share: float) -> None:
    """Choosing the faster backend everywhere has no regret; any other choice has some, or none if it is a tie."""
    landscape = make(seed, FAMILIES[seed % len(FAMILIES)], 0)
    best = landscape.lead(landscape.sizes) > 0
    assert landscape.regret(best) == 0
    other = np.random.default_rng(seed).random(len(best)) < share
    assert landscape.regret(other) >= 0
    assert landscape.regret(~best) >= landscape.regret(other)


def test_groups_of_dtypes_coincide_or_differ() -> None:
    """Three dtypes have one curve over bytes, or three; nothing else than the dtype tells their cells apart."""
    for alike in (True, False):
        for group in dtypes(11, 5, alike=alike):
            assert len({one.cell.dtype for one in group}) == 3
            assert len({one.cell._replace(dtype="") for one in group}) == 1
            leads = {one.log_us.tobytes() for one in group}
            assert len(leads) == (1 if alike else 3)


def test_the_null_test_compares_the_baseline_with_itself() -> None:
    """No cell has a lead anywhere, and no two cells are one."""
    cells = without_difference(2, 12)
    assert all(not landscape.lead(landscape.sizes).any() for landscape in cells)
    assert len({landscape.cell for landscape in cells}) == 12
