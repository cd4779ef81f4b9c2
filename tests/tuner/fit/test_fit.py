"""From samples to bands, on curves whose truth is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.table import CellTable, Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.fit import fit_cell
from ccl_dispatch.tuner.samples import PointExclusion, PointResult

CELL = Cell("all_gather", "eager", "first", "bfloat16", 4)
SIZES = [16 << k for k in range(19)]
MIB = 1 << 20


def _results(lead: Callable[[float], float], noise: float, seed: int, samples: int = 30) -> list[PointResult]:
    """Points whose log(T_base/T_cand) is lead(log2 size), lognormal noise on both, 1 % outliers."""
    rng = random.Random(seed)

    def drawn(latency: float) -> float:
        slow = abs(rng.gauss(0, 1)) if rng.random() < 0.01 else 0.0
        return latency * math.exp(rng.gauss(0, noise) + slow)

    results = []
    for size in SIZES:
        base = 10 + size / 5000
        cand = base * math.exp(-lead(math.log2(size)))
        latencies = {"base": [drawn(base) for _ in range(samples)], "cand": [drawn(cand) for _ in range(samples)]}
        results.append(PointResult(CELL, size, {name: tuple(values) for name, values in latencies.items()}))
    return results


def _fit(results: list[PointResult], min_gain: float = 0.03) -> CellTable:
    policy = Policy(min_gain, 0.95, "isolated")
    return fit_cell(CELL, results, baseline="base", candidates=["cand"], policy=policy, workload={})


@pytest.mark.parametrize("seed", range(5))
def test_one_crossover_is_found_where_it_is(seed: int) -> None:
    """A lead that falls through zero at 16 KiB gives the candidate below and the baseline above, within an octave."""
    cell = _fit(_results(lambda x: 0.1 * (14 - x), 0.05, seed))
    assert [band.use for band in cell.bands] == ["cand", "base"]
    assert 8192 <= cell.crossovers[0].at <= 32768
    assert cell.crossovers[0].low <= cell.crossovers[0].at <= cell.crossovers[0].high


@pytest.mark.parametrize("seed", range(5))
def test_an_island_is_a_band(seed: int) -> None:
    """A candidate that wins by 30 % over four octaves in the middle gets a band there and nowhere else."""
    cell = _fit(_results(lambda x: 0.3 if 10 <= x <= 14 else -0.3, 0.05, seed))
    assert [band.use for band in cell.bands] == ["base", "cand", "base"]
    assert 512 <= cell.bands[0].up_to < 1024 * 2
    assert 16384 <= cell.bands[1].up_to < 32768


def test_what_gains_less_than_min_gain_is_a_tie() -> None:
    """A candidate that is 1 % faster everywhere gets no band at min_gain 3 %, and its sizes are listed as ties."""
    cell = _fit(_results(lambda _: 0.01, 0.01, 1, samples=200))
    assert [(band.use, band.why) for band in cell.bands] == [("base", "tie")]
    assert cell.ties


def test_noise_alone_earns_nothing() -> None:
    """Baseline against itself, min_gain 3 %, 5 % noise: the candidate has a band in at most 1 % of 200 cells."""
    earned = sum(
        any(band.use == "cand" for band in _fit(_results(lambda _: 0.0, 0.05, seed, samples=12)).bands)
        for seed in range(200)
    )
    assert earned <= 2


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(len(SIZES))), st.integers(0, 3))
def test_the_order_of_arrival_changes_nothing(order: list[int], seed: int) -> None:
    """The same samples in any order give the same cell, to the last digit."""
    results = _results(lambda x: 0.05 * (13 - x), 0.1, seed)
    assert _fit([results[place] for place in order]) == _fit(results)


def test_a_candidate_is_not_used_where_it_was_wrong() -> None:
    """Next to a size with wrong output the candidate's bands end at its last and begin at its first good size."""
    results = _results(lambda _: 0.5, 0.02, 1)
    wrong = PointExclusion("cand", "wrong_output", "1 byte")
    results[9] = PointResult(CELL, SIZES[9], {"base": results[9].latencies_us["base"]}, (wrong,))
    cell = _fit(results)
    assert [band.use for band in cell.bands] == ["cand", "base", "cand"]
    assert [band.up_to for band in cell.bands] == [SIZES[8], SIZES[10] - 1, SIZES[-1]]
    assert [(item.low, item.high, item.reason) for item in cell.exclusions] == [(SIZES[9], SIZES[9], "wrong_output")]


def test_single_figures_are_proof_only_together() -> None:
    """One latency per size, as in an imported log: 19 sizes that agree earn a band, three do not."""
    results = _results(lambda _: 0.5, 0.02, 1, samples=1)
    assert [band.use for band in _fit(results).bands] == ["cand"]
    assert [band.use for band in _fit(results[:3]).bands] == ["base"]


def test_no_baseline_is_an_error() -> None:
    """Without one sample of the baseline there is nothing to compare with, and the message names the cell."""
    with pytest.raises(MeasuringError, match="all_gather/eager/first/bfloat16/ws4"):
        _fit([PointResult(CELL, MIB, {"cand": (1.0, 2.0)})])


def _bare(size: int, *excluded: str, timed: bool = False) -> PointResult:
    """A point that timed the baseline and `cand`, or nothing, and excludes these."""
    latencies = {"base": (2.0,) * 8, "cand": (1.0,) * 8} if timed else {}
    return PointResult(CELL, size, latencies, tuple(PointExclusion(name, "crashed", "made up") for name in excluded))


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([_bare(64), _bare(128)], "no result has any"),
        ([_bare(64, "cand", "other"), _bare(128, "cand")], "no result has any"),
        ([_bare(64, "base"), _bare(128)], "crashed: made up"),
        ([_bare(64, "cand", "other"), _bare(128, "cand", "other")], ""),
        ([_bare(64, "cand", "other"), _bare(128, "other", timed=True)], ""),
        ([_bare(64), _bare(128, timed=True)], ""),
    ],
)
def test_a_baseline_is_wanted_where_something_could_replace_it(points: list[PointResult], told: str) -> None:
    """One size with its samples is enough, and where every candidate is excluded everywhere none is needed."""

    def fitted() -> CellTable:
        policy = Policy(0.03, 0.95, "isolated")
        return fit_cell(CELL, points, baseline="base", candidates=("cand", "other"), policy=policy, workload={})

    if told:
        with pytest.raises(MeasuringError, match=rf"the baseline base has no samples \({told}\), expected them"):
            fitted()
    else:
        assert (fitted().measured_from, fitted().measured_to) == (64, 128)
