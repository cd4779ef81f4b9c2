from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from curve_bench import Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.table import CellTable
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.fit import fit_cell, fit_cells
from ccl_dispatch.tuner.fit.bands import backend_at


def _step_at(steps: Sequence[float], log2_size: float) -> float:
    return steps[int(log2_size)]


def uses(table: CellTable) -> list[str]:
    return [band.use for band in table.bands]


def test_a_candidate_that_is_faster_everywhere_gets_one_band(bench: Bench) -> None:
    """No crossover: one band over the whole measured range, with its gain inside its interval."""
    table = bench.fit(bench.points(bench.grid(15), {"fast": lambda _: 0.2}))
    (band,) = table.bands
    assert (band.use, band.why, band.against, band.points, band.samples) == ("fast", "faster", "base", 15, 375)
    assert (table.measured_from, band.up_to, table.measured_to) == (16, 4 << 20, 4 << 20)
    assert band.gain is not None
    assert band.interval is not None
    assert 0.03 < band.interval[0] <= band.gain <= band.interval[1]
    assert band.gain == pytest.approx(math.expm1(0.2), abs=0.02)
    assert table.crossovers == ()


def test_a_candidate_that_is_slower_everywhere_gets_none(bench: Bench) -> None:
    """The baseline's band says what it was compared with and by how much it is ahead."""
    table = bench.fit(bench.points(bench.grid(15), {"fast": lambda _: -0.2}))
    (band,) = table.bands
    assert (band.use, band.why, band.against) == ("base", "faster", "fast")
    assert band.gain is not None
    assert band.interval is not None
    assert 0 < band.interval[0] <= band.gain <= band.interval[1]


@pytest.mark.parametrize("seed", range(5))
def test_one_crossover_is_found_where_the_gain_falls_below_min_gain(bench: Bench, seed: int) -> None:
    """The crossover lies near the size where the truth crosses log(1.03), and between its measured neighbours."""
    table = bench.fit(bench.points(bench.grid(21), {"fast": lambda x: 0.06 * (13 - x)}, seed=seed))
    assert uses(table) == ["fast", "base"]
    (crossover,) = table.crossovers
    assert abs(math.log2(crossover.at) - (13 - math.log(1.03) / 0.06)) < 0.8
    assert crossover.low <= crossover.at < crossover.high
    assert crossover.at % 16 == 0
    assert table.bands[0].up_to == crossover.at
    assert (crossover.below, crossover.above) == ("fast", "base")


@pytest.mark.parametrize("seed", range(5))
def test_two_crossovers_are_found(bench: Bench, seed: int) -> None:
    """A candidate that leads in the middle gets the middle."""
    table = bench.fit(bench.points(bench.grid(21), {"fast": lambda x: 0.3 - 0.08 * abs(x - 13)}, seed=seed))
    assert uses(table) == ["base", "fast", "base"]
    lower, upper = (math.log2(crossover.at) for crossover in table.crossovers)
    assert lower == pytest.approx(9.6, abs=0.7)
    assert upper == pytest.approx(16.4, abs=0.7)


@pytest.mark.parametrize("seed", range(5))
def test_a_proven_island_gets_its_band(bench: Bench, seed: int) -> None:
    """A lead of 35 % at a single measured size is kept when that size's own samples prove it."""
    sizes = [2**k for k in range(4, 23)]
    table = bench.fit(bench.points(sizes, {"fast": lambda x: 0.3 if x == 12 else -0.1}, seed=seed))
    assert uses(table) == ["base", "fast", "base"]
    assert bench.use(table, 4096) == "fast"
    assert bench.use(table, 2048) == bench.use(table, 8192) == "base"


def test_an_island_without_enough_samples_gets_none(bench: Bench) -> None:
    """Six samples prove nothing at 95 %, however far ahead they are."""
    sizes = [2**k for k in range(4, 23)]
    table = bench.fit(bench.points(sizes, {"fast": lambda x: 0.3 if x == 12 else -0.1}, samples=6))
    assert uses(table) == ["base"]


@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_placed_between_its_neighbours(bench: Bench, seed: int) -> None:
    """Where a library changes protocol the band changes between the two sizes around the step."""
    table = bench.fit(
        bench.points([2**k for k in range(4, 23)], {"fast": lambda x: 0.3 if x < 14.5 else -0.3}, seed=seed)
    )
    assert uses(table) == ["fast", "base"]
    assert (table.crossovers[0].low, table.crossovers[0].high) == (2**14, 2**15)


def test_a_tie_goes_to_the_baseline_and_is_listed(bench: Bench) -> None:
    """Backends that are proven alike: the baseline, for the reason `tie`, and the sizes under `ties`."""
    results = bench.points([2**k for k in range(8, 14)], {"fast": lambda _: 0.005}, samples=400, noise=0.03)
    table = bench.fit(results)
    (band,) = table.bands
    assert (band.use, band.why) == ("base", "tie")
    assert [tuple(tie) for tie in table.ties] == [("fast", 256, 8192)]


def test_a_gain_below_min_gain_stays_with_the_baseline(bench: Bench) -> None:
    """2 % beyond doubt is not 3 %; without a minimum it is used."""
    results = bench.points(bench.grid(15), {"fast": lambda _: 0.02}, samples=20, noise=0.0, outliers=0.0)
    assert uses(bench.fit(results)) == ["base"]
    assert bench.fit(results).bands[0].why == "tie"
    assert uses(bench.fit(results, min_gain=0.0)) == ["fast"]


def test_without_a_minimum_the_one_ahead_is_used_and_said_to_be_likely(bench: Bench) -> None:
    """At min_gain 0 nothing has to be earned; a band that two samples per size don't prove says `likely`."""
    results = bench.points([256, 1024], {"fast": lambda _: 0.1}, samples=2, noise=0.01)
    (band,) = bench.fit(results, min_gain=0.0).bands
    assert (band.use, band.why, band.interval) == ("fast", "likely", None)
    assert uses(bench.fit(results)) == ["base"]


def test_samples_of_a_band_are_pooled_where_points_have_one_each(bench: Bench) -> None:
    """Imported tables have one row per size: nine sizes that agree are proof, five are not."""
    nine = bench.points([2**k for k in range(4, 13)], {"fast": lambda _: 0.3}, samples=1, outliers=0.0)
    assert uses(bench.fit(nine)) == ["fast"]
    assert uses(bench.fit(nine[:5])) == ["base"]


def test_the_null_gets_a_band_in_one_cell_of_a_hundred_at_most(bench: Bench) -> None:
    """Baseline against itself at 5 % noise with outliers: of 200 cells at most two get a candidate band."""
    bands = 0
    for seed in range(200):
        results = bench.points(bench.grid(12), {"fast": lambda _: 0.0}, samples=7 + seed % 9, seed=seed)
        bands += "fast" in uses(bench.fit(results))
    assert bands <= 2


def test_regret_on_smooth_landscapes_is_small(bench: Bench) -> None:
    """21 sizes with 5 samples at min_gain 0 leave at most 0.1 % of mean regret on twenty landscapes."""
    rng = random.Random(7)
    regrets = []
    for seed in range(20):
        slope, centre, bend = rng.uniform(-0.1, 0.1), rng.uniform(6, 20), rng.uniform(-0.01, 0.01)

        def truth(x: float, slope: float = slope, centre: float = centre, bend: float = bend) -> float:
            return slope * (x - centre) + bend * (x - centre) ** 2

        table = bench.fit(bench.points(bench.grid(21), {"fast": truth}, samples=5, seed=seed), min_gain=0.0)
        regrets.append(bench.regret(table, truth))
    assert sum(regrets) / len(regrets) < 0.001


def test_a_candidate_ends_at_its_last_good_size(bench: Bench) -> None:
    """Beside an excluded size nothing is claimed: not one byte beyond what was measured, on either side."""
    sizes = [2**k for k in range(8, 15)]
    results = [
        bench.point(size, {"fast": lambda _: 0.3}, excluded=[("fast", "crashed")] if size in (1024, 2048) else [])
        for size in sizes
    ]
    table = bench.fit(results)
    assert [(band.up_to, band.use, band.why) for band in table.bands] == [
        (512, "fast", "faster"),
        (4095, "base", "excluded"),
        (16384, "fast", "faster"),
    ]
    assert table.bands[1].gain is None
    assert [tuple(item) for item in table.exclusions] == [("fast", "crashed", 1024, 2048, "crashed at 1024")]
    assert [(c.at, c.low, c.high) for c in table.crossovers] == [(512, 512, 1024), (4095, 2048, 4096)]


def test_a_baseline_run_is_cut_where_exclusion_ends(bench: Bench) -> None:
    """`excluded` and `faster` are two bands of the baseline, with no crossover between them."""
    results = [
        bench.point(size, {"fast": lambda _: -0.3}, excluded=[("fast", "hung")] if size <= 512 else [])
        for size in (256, 512, 1024, 2048)
    ]
    table = bench.fit(results)
    assert [(band.up_to, band.use, band.why) for band in table.bands] == [
        (1023, "base", "excluded"),
        (2048, "base", "faster"),
    ]
    assert table.crossovers == ()


def test_one_wrong_output_outweighs_good_samples_of_the_same_size(bench: Bench) -> None:
    """A size at which any result excludes the candidate is not used, even if another result timed it."""
    good = bench.points([64, 128, 256, 512, 1024, 2048], {"fast": lambda _: 0.3})
    bad = bench.point(512, {"fast": lambda _: 0.3}, seed=9, excluded=[("fast", "wrong_output")])
    table = bench.fit([*good, bad])
    assert bench.use(table, 512) == "base"
    assert bench.use(table, 256) == bench.use(table, 1024) == "fast"


def test_a_cell_without_usable_candidates_is_all_baseline(bench: Bench) -> None:
    """Every candidate excluded everywhere: one band that says so, and no regret that could be known."""
    results = [bench.point(size, {"fast": lambda _: 0.3}, excluded=[("fast", "unsupported")]) for size in (256, 512)]
    table = bench.fit(results)
    assert [(band.up_to, band.use, band.why) for band in table.bands] == [(512, "base", "excluded")]
    assert [tuple(item)[:4] for item in table.exclusions] == [("fast", "unsupported", 256, 512)]


def test_a_cell_in_which_nothing_could_be_timed_is_all_baseline(bench: Bench) -> None:
    """Where no candidate takes any size the baseline is not timed either: still a cell that says what and why."""
    results = [
        replace(bench.point(size, {}, excluded=[("fast", "unsupported")]), latencies_us={}) for size in (256, 512)
    ]
    table = bench.fit(results)
    assert [(band.up_to, band.use, band.why, band.samples) for band in table.bands] == [(512, "base", "excluded", 0)]
    assert [tuple(item)[:4] for item in table.exclusions] == [("fast", "unsupported", 256, 512)]
    assert table.regret_estimate is None


def test_a_candidate_that_is_wrong_somewhere_is_not_trusted_around_it(bench: Bench) -> None:
    """Right and twice as fast at 512 B and 8 KiB, wrong at 2 KiB: between the two sizes nothing but the baseline."""
    results = [
        bench.point(size, {"fast": lambda _: 0.7}, excluded=[("fast", "wrong_output")] if size == 2048 else [])
        for size in (512, 2048, 8192, 32768)
    ]
    table = bench.fit(results)
    assert [bench.use(table, size) for size in (512, 513, 2047, 2048, 2049, 8191)] == ["fast"] + ["base"] * 5
    assert bench.use(table, 8192) == "fast"


def test_a_cell_without_baseline_is_an_error_that_names_it(bench: Bench) -> None:
    """With nothing to compare with there is no table: the message has the cell and the reason."""
    results = [bench.point(256, {"fast": lambda _: 0.3}, excluded=[("base", "unsupported")])]
    with pytest.raises(MeasuringError, match=r"all_gather/eager/first/bfloat16/ws8.*base.*unsupported at 256"):
        bench.fit(results)


def test_the_faster_of_two_candidates_is_used(bench: Bench) -> None:
    """Two candidates share the range at the size where they are equal; both crossings are between candidates."""
    curves = {"fast": lambda x: 0.05 * (20 - x), "other": lambda x: 0.05 * (x - 6)}
    table = bench.fit(bench.points(bench.grid(21), curves), candidates=("fast", "other"))
    assert uses(table) == ["fast", "other"]
    assert math.log2(table.crossovers[0].at) == pytest.approx(13, abs=0.7)


@pytest.mark.parametrize("seed", range(6))
def test_candidates_that_take_turns_at_the_lead_do_not_leave_it_to_the_baseline(bench: Bench, seed: int) -> None:
    """Either is proven alone; their runs by turns are too short for that, so the least gives up first, and so on."""
    sizes = [2**k for k in range(4, 16)]

    def turns(sign: float, x: float) -> float:
        return 0.5 + sign * (0.2 if int(x) // 3 % 2 else -0.2)

    truth = {"fast": lambda x: turns(1.0, x), "twin": lambda x: turns(-1.0, x)}
    results = bench.points(sizes, truth, samples=1, noise=0.02, outliers=0.0, seed=seed)
    assert uses(bench.fit(results)) == ["fast"]
    table = bench.fit(results, candidates=("fast", "twin"))
    assert sum(bench.use(table, size) == "base" for size in sizes) <= 1


@pytest.mark.parametrize(("band", "here", "use"), [(0.08, 0.0, "base"), (0.0, 0.08, "fast")])
def test_a_workload_shape_that_disagrees_with_its_band_is_an_override(
    bench: Bench, band: float, here: float, use: str
) -> None:
    """A workload size that is settled against its band, and too small to be a band, is kept as that exact size."""
    sizes = sorted([*(2**k for k in range(6, 21)), 65600, 65552])
    results = [
        bench.point(size, {"fast": (lambda _: here) if size == 65552 else (lambda _: band)}, samples=400)
        for size in sizes
    ]
    table = bench.fit(results, workload={64: ((32,), 1.0), 65552: ((2, 16388), 1e-3)})
    rest = "fast" if use == "base" else "base"
    assert uses(table) == [rest]
    (override,) = table.overrides
    assert (override.size, override.shape, override.use, override.samples) == (65552, (2, 16388), use, 400)
    assert override.against == rest
    assert override.interval[0] <= override.gain <= override.interval[1]
    assert bench.fit(results).overrides == ()


def test_a_workload_size_weighs_in_the_fit(bench: Bench) -> None:
    """An island of one narrow size is too small for a band of its own, until the workload lives there."""
    sizes = [16384, 16400, 16416, *(2**k for k in range(5, 20) if k != 14)]
    results = [
        bench.point(size, {"fast": (lambda _: 0.3) if size == 16400 else (lambda _: -0.1)}) for size in sorted(sizes)
    ]
    assert uses(bench.fit(results)) == ["base"]
    table = bench.fit(results, workload={16400: ((8200,), 1.0)})
    own = {override.size: override.use for override in table.overrides}
    assert {size: own.get(size, backend_at(table.bands, size)) for size in sorted(sizes)} == {
        size: "fast" if size == 16400 else "base" for size in sorted(sizes)
    }


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_arrival_changes_nothing(shuffler: random.Random) -> None:
    """The same results in any order, several of them for one size, give the identical table."""
    bench = Bench()
    results = bench.points(bench.grid(9), {"fast": lambda x: 0.05 * (13 - x), "other": lambda _: 0.01}, samples=20)
    parts = []
    for result in results:
        cut = shuffler.randint(1, 19)
        parts += [
            dataclasses.replace(result, latencies_us={name: v[part] for name, v in result.latencies_us.items()})
            for part in (slice(cut), slice(cut, None))
        ]
    one = bench.fit(parts, candidates=("fast", "other"))
    shuffler.shuffle(parts)
    assert bench.fit(parts, candidates=("fast", "other")) == one


def test_cells_are_sorted_and_fitted_apart(bench: Bench) -> None:
    """`fit_cells` gives one table per cell, by cell, each as `fit_cell` gives it alone."""
    results = bench.points(bench.grid(9), {"fast": lambda _: 0.3})
    four = Cell("all_gather", "eager", "first", "bfloat16", 4)
    moved = [dataclasses.replace(result, cell=four) for result in results]
    fit_both = partial(fit_cells, baseline="base", candidates=("fast",), policy=bench.policy(), workload={})
    fit_one = partial(fit_cell, baseline="base", candidates=("fast",), policy=bench.policy(), workload={})
    tables = fit_both([*results, *moved])
    assert [table.cell for table in tables] == [four, bench.cell]
    assert tables[1] == fit_one(bench.cell, [*results, *moved])


def test_bands_cover_the_measured_range_without_gaps(bench: Bench) -> None:
    """Bands rise strictly, end at the last measured size, and crossovers stand exactly where the backend changes."""
    for seed in range(20):
        rng = random.Random(seed)
        steps = [rng.gauss(0, 0.2) for _ in range(32)]
        results = [
            bench.point(
                size,
                {"fast": partial(_step_at, steps)},
                samples=rng.choice([1, 5, 12]),
                excluded=[("fast", "raised")] if rng.random() < 0.2 else [],
                seed=seed,
            )
            for size in bench.grid(14)
        ]
        for min_gain in (0.0, 0.03):
            table = bench.fit(results, min_gain=min_gain)
            ends = [band.up_to for band in table.bands]
            assert ends == sorted(set(ends))
            assert ends[-1] == table.measured_to
            changes = [
                low.up_to for low, high in zip(table.bands, table.bands[1:], strict=False) if low.use != high.use
            ]
            assert [crossover.at for crossover in table.crossovers] == changes
            assert all(crossover.low <= crossover.at < crossover.high for crossover in table.crossovers)
