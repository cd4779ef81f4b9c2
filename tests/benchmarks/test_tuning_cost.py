"""The comparison counts what it says it counts: costs, regret, and what a rival does with its budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import Landscape, make
from landscapes.noise import Array
from tuning import checks, compare, report, rivals
from tuning.pipeline import EXHAUSTIVE, Budget, choices, tune, write_config

from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.measurements.csv_file import read_measurements
from ccl_dispatch.tuner.measurements.evaluate import evaluate
from ccl_dispatch.tuner.progress import SilentProgress
from ccl_dispatch.tuner.sweep import run_sweep


@dataclass(frozen=True)
class Silence:
    """No noise."""

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """See `Noise`."""
        return np.zeros((2, count))


def silent(seed: int, family: str) -> Landscape:
    return replace(make(seed, family, 0), noise=Silence())


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def crosses_once(landscape: Landscape) -> bool:
    """One change of sign, and a clear lead at both ends."""
    lead = landscape.lead(landscape.knots)
    signs = np.sign(lead)
    return int((signs[1:] != signs[:-1]).sum()) == 1 and bool(abs(lead[0]) > 0.05 and abs(lead[-1]) > 0.05)


def test_what_is_exported_is_tuned_and_judged_as_the_benchmark_does(tmp_path: Path) -> None:
    """Config and file alone, through `sweep` and `evaluate`, give the benchmark's own regret for its own cost."""
    landscape = make(21, "crossovers", 0)
    budget = Budget(executions=150)
    config = load_config(write_config([landscape], tmp_path, budget, seed=3))
    out = tmp_path / "table.yaml"
    outcome = run_sweep(config, str(tmp_path / "study.journal"), out, tmp_path, SilentProgress())
    judged = evaluate(load_table(out), read_measurements(tmp_path / "landscape.csv")).cells[0]
    ours = tune([landscape], budget, seed=3)
    assert ours.text == out.read_text(encoding="utf-8")
    assert judged.slowdowns.table.mean == pytest.approx(ours.regret(landscape), abs=1e-12)
    assert ours.executions == sum(outcome.summary()["executions"].values()) <= 150 + 2 * 30
    assert ours.seconds == pytest.approx(outcome.summary()["collective_seconds"], abs=1e-6)


@pytest.mark.parametrize("family", ["drift", "autocorrelated"])
def test_noise_that_no_file_holds_reaches_the_pipeline(family: str) -> None:
    """Noise with an order in time is served to a sweep as the landscape draws it, again for the same seed."""
    landscape = make(22, family, 0)
    one, again, silence = (
        tune([cell], Budget(executions=60), seed=1)
        for cell in (landscape, landscape, replace(landscape, noise=Silence()))
    )
    assert one.text == again.text
    served = [value for result in one.results for value in result.latencies_us["base"]]
    truth = [
        float(np.exp(landscape.log_latency([result.size]))[0, 0])
        for result in one.results
        for _ in result.latencies_us["base"]
    ]
    assert not np.allclose(served, truth, rtol=1e-3)
    assert np.allclose(served, truth, rtol=1)
    for result in silence.results:
        expected = np.exp(landscape.log_latency([result.size]))[0, 0]
        assert result.latencies_us["base"] == pytest.approx([expected] * len(result.latencies_us["base"]), rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    executions=st.integers(10, 500),
    seconds=st.floats(1e-4, 1.0),
    pairs=st.sampled_from(rivals.EVEN_PAIRS),
)
def test_no_rival_spends_more_than_it_is_given(seed: int, executions: int, seconds: float, pairs: int) -> None:
    """Executions and seconds of the visits that count stay within the budget, warm-up included."""
    landscape = make(seed, "protocol_steps", 0)
    visits = rivals.walk(rivals.random_sizes(landscape, drawn(seed), pairs), 60, executions, seconds)
    by_number = rivals.affordable(visits, executions=executions)
    by_time = rivals.affordable(visits, seconds=seconds)
    assert sum(visit.executions for visit in by_number) <= executions
    assert sum(visit.seconds for visit in by_time) <= seconds
    assert all(visit.executions == 2 * (pairs + 1) == 2 + visit.latencies_us.size for visit in visits)
    assert all(visit.seconds * 1e6 > visit.latencies_us.sum() for visit in visits)
    even = rivals.even_by_executions(landscape, drawn(seed), pairs, executions)
    assert sum(visit.executions for visit in even) <= executions
    assert sum(visit.seconds for visit in rivals.even_by_seconds(landscape, drawn(seed), pairs, seconds)) <= seconds


def test_without_noise_an_even_grid_of_all_sizes_has_no_regret() -> None:
    """The rivals' rule is right where nothing is hidden from it, and our fit on their samples is as well."""
    for family in ("crossovers", "islands", "walk"):
        landscape = silent(5, family)
        visits = [rivals.visit(landscape, drawn(), int(size), 1) for size in landscape.knots]
        assert landscape.regret(rivals.by_sign(landscape, visits)) < 1e-9
        table = rivals.fitted(landscape, visits)
        assert landscape.regret(choices(table, landscape, landscape.sizes)) < 1e-3


def test_bisection_finds_the_only_crossover() -> None:
    """On a noiseless curve with one crossover the bracket closes in on it, in as many visits as halvings."""
    landscape = next(one for seed in range(50) if crosses_once(one := silent(seed, "latency_bandwidth")))
    visits = list(rivals.bisection(landscape, drawn(), 1))
    octaves = np.log2(landscape.high / landscape.low)
    assert len(visits) <= 3 + np.ceil(np.log2(octaves / 0.25))
    assert landscape.regret(rivals.by_sign(landscape, visits)) < 1e-3


@pytest.mark.parametrize("method", list(rivals.TRAILS))
def test_a_rival_repeats_itself_for_a_seed(method: str) -> None:
    """The same generator gives the same visits: figures can be had again."""
    trail, _, _ = rivals.TRAILS[method]
    landscape = make(6, "crossovers", 0)
    one, again = (rivals.walk(trail(landscape, drawn(9), 2), 7, np.inf, np.inf) for _ in range(2))
    assert [visit.size for visit in one] == [visit.size for visit in again]
    assert all(np.array_equal(a.latencies_us, b.latencies_us) for a, b in zip(one, again, strict=True))
    assert all(visit.size % 16 == 0 and landscape.low <= visit.size <= landscape.high for visit in one)


def test_the_summary_takes_the_best_variant_and_the_ratio_the_best_rival() -> None:
    """A rival counts with its best number of pairs, the worst cell is named, and ours is set against the best rival."""

    def row(landscape: str, method: str, variant: str, regret: float) -> compare.Row:
        nan = float("nan")
        return compare.Row(
            landscape, "f", True, method, variant, "executions", 0.01, regret, 3 * regret, 2 * regret, nan, 0.01, 0.02
        )

    rows = [row("a", "ours", "", 0.001), row("b", "ours", "", 0.003)]
    rows += [
        row("a", "TPE", "1", 0.01),
        row("b", "TPE", "1", 0.03),
        row("a", "TPE", "3", 0.006),
        row("b", "TPE", "3", 0.01),
    ]
    rows += [row("a", "GP", "1", 0.1), row("b", "GP", "1", 0.1)]
    ours, tpe, gp = compare.summarise(rows, "executions", 0.01)
    assert (ours.method, tpe.method, tpe.variant, gp.method) == ("ours", "TPE", "3", "GP")
    assert (tpe.mean, tpe.worst, tpe.worst_at, tpe.mean_our_fit) == (0.008, 0.01, "b", 0.016)
    found = report.ratios(rows, "executions", [0.01])
    assert found[0.01][0] == pytest.approx(0.25)
    assert found[0.01][1] == tpe
    assert report.geometric_mean(found) == pytest.approx(0.25)
    assert compare.summarise(compare.measured_only(rows), "executions", 0.01)[1].mean == pytest.approx(0.024)


def test_ours_and_rivals_of_one_landscape_come_at_the_same_cost() -> None:
    """Every method has a row for every budget; none spends more than it, or than ours did where that is more."""
    landscape = make(8, "crossovers", 0)
    rows = compare.run(compare.Task(landscape, 8, (1 / 100,), our_fit=False))
    assert {row.method for row in rows} == {
        compare.OURS,
        compare.EXHAUSTIVE_GRID,
        compare.EVEN,
        compare.BEST_EVEN,
        *rivals.TRAILS,
    }
    for cost in compare.COSTS:
        at = "executions" if cost == compare.COSTS[0] else "seconds"
        ours = next(row for row in rows if row.method == compare.OURS and row.cost == cost)
        limit = max(1 / 100, getattr(ours, at))
        for row in rows:
            if row.cost == cost and row.method != compare.EXHAUSTIVE_GRID:
                assert getattr(row, at) <= limit * (1 + 1e-9)
    scan = next(row for row in rows if row.method == compare.EXHAUSTIVE_GRID)
    assert scan.executions == pytest.approx(240 * (np.log2(landscape.high / landscape.low) + 1) / EXHAUSTIVE)


def test_a_missed_figure_is_called_missed() -> None:
    """Verdicts follow the figures: just enough is reached, a little more is not."""

    def agreed(same: int, order: bool) -> checks.Agreement:
        return checks.Agreement("a", 100, same, order)

    assert checks.judge_null([(990, 9), (10, 1)])[0].reached
    assert not checks.judge_null([(990, 10), (10, 1)])[0].reached
    assert [verdict.reached for verdict in checks.judge_agreement([agreed(99, True), agreed(99, True)])] == [True, True]
    assert [verdict.reached for verdict in checks.judge_agreement([agreed(98, True), agreed(99, False)])] == [
        False,
        False,
    ]
    assert checks.judge_overhead([[(0.004, 0.004)] * 200], 60, 200)[0].reached
    assert not checks.judge_overhead([[(0.004, 0.004)] * 100 + [(0.006, 0.004)] * 100], 60, 200)[0].reached
