"""Replayed curves: measured latencies as they are, interpolation between, nothing beyond, and seeded noise."""

from __future__ import annotations

import csv
import itertools
import math
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.measurements.csv_file import ExcludedRow, Measurements, Row, read_measurements
from ccl_dispatch.tuner.measurements.replay import ReplayCurves

DATA = Path(__file__).parents[2] / "data" / "measurements"
CELL = Cell("all_gather", "eager", "first", "float32", 2)


def curve(*points: tuple[int, float], backend: str = "b") -> list[Row]:
    return [Row(CELL, backend, size, latency) for size, latency in points]


def curves(rows: list[Row], **options: float) -> ReplayCurves:
    return ReplayCurves(Measurements("m.csv", tuple(rows)), **options)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.csv")), ids=lambda path: path.stem[:20])
def test_without_noise_measured_sizes_serve_their_repeats(path: Path) -> None:
    """At every measured size of the published files only the repeats measured there are served, and in time all."""
    with path.open(encoding="utf-8", newline="") as lines:
        platform = next(csv.DictReader(lines))["platform"]
    found = read_measurements(path, {"platform": platform})
    served = ReplayCurves(found)
    rng = random.Random(0)
    for cell, backends in found.by_cell().items():
        for name, points in backends.items():
            for size, repeats in points.items():
                assert {served.latency_us(cell, name, size, rng) for _ in range(20 * len(repeats))} == set(repeats)
                assert served.true_latency_us(cell, name, size) == statistics.median(repeats)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 2**30), min_size=2, max_size=6, unique=True).map(sorted),
    latencies=st.lists(st.floats(0.1, 1e6), min_size=6, max_size=6),
    share=st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
def test_between_measured_sizes_the_curve_is_monotone(
    sizes: list[int], latencies: list[float], share: list[float]
) -> None:
    """Between two neighbours latencies go from one to the other without turning, and never leave the two."""
    served = curves(curve(*zip(sizes, latencies, strict=False)))
    for (low, start), (high, end) in itertools.pairwise(zip(sizes, latencies, strict=False)):
        inner = sorted(round(low + part * (high - low)) for part in share)
        values = [served.latency_us(CELL, "b", size, random.Random(0)) for size in [low, *inner, high]]
        assert (values[0], values[-1]) == (start, end)
        signed = values if end >= start else values[::-1]
        assert all(b >= a * (1 - 1e-9) for a, b in itertools.pairwise(signed))


def test_interpolation_is_straight_in_log_log() -> None:
    """Half way between two sizes on a log scale is the geometric mean of their latencies."""
    served = curves(curve((64, 2.0), (4096, 32.0)))
    assert served.true_latency_us(CELL, "b", 512) == pytest.approx(8.0)


def test_the_truth_is_the_curve_of_medians() -> None:
    """An outlier among the repeats does not move what evaluation takes for true."""
    served = curves(curve((64, 2.0), (64, 2.2), (64, 900.0), (4096, 32.0)), noise=1.0, outliers=0.5)
    assert served.true_latency_us(CELL, "b", 64) == 2.2


def test_nothing_is_invented_beyond_what_was_measured() -> None:
    """Outside the range, in another cell and for another backend there is a reason instead of a latency."""
    served = curves([*curve((32768, 1.0), (2**26, 2.0)), *curve((64, 1.0), backend="one")])
    assert served.covers(CELL, "b", 32768) is served.covers(CELL, "b", 2**26) is None
    assert (
        served.covers(CELL, "b", 32767) == served.covers(CELL, "b", 2**26 + 1) == "measured from 32 KiB to 64 MiB only"
    )
    assert served.covers(CELL, "one", 65) == "measured at 64 B only"
    assert served.covers(CELL, "bb", 65536) == f"m.csv has no measurement of 'bb' in {CELL.name}. Did you mean 'b'?"
    assert "no measurement of all_gather/graph" in (served.covers(CELL._replace(mode="graph"), "b", 65536) or "")
    with pytest.raises(ValueError, match="measured from 32 KiB"):
        served.latency_us(CELL, "b", 16, random.Random(0))
    with pytest.raises(ValueError, match="measured from 32 KiB"):
        served.true_latency_us(CELL, "b", 16)


def test_what_the_file_excludes_is_told_at_its_sizes_and_between_them() -> None:
    """Up to the next sizes that were right nothing is trusted; beyond what the file tells nothing is said."""
    rows = (*curve((64, 1.0), (256, 1.0), (4096, 2.0)), *curve((64, 1.0), backend="c"))
    out = [("hung", "made up"), ("crashed", ""), ("hung", "made up")]
    excluded = tuple(ExcludedRow(CELL, "b", 1024, reason, detail) for reason, detail in out)
    served = ReplayCurves(Measurements("m.csv", rows, (*excluded, ExcludedRow(CELL, "b", 4096, "hung", "again"))))

    def told(size: int, backend: str = "b") -> list[tuple[str, str]]:
        return [(item.reason, item.detail) for item in served.excluded(CELL, backend, size)]

    assert told(256) == told(64) == told(32) == told(128) == told(8192) == told(1024, "c") == []
    assert told(1024) == [("crashed", "replayed"), ("hung", "replayed: made up")]
    assert told(512) == [("crashed", "replayed, of 1 KiB"), ("hung", "replayed, of 1 KiB: made up")]
    assert [detail for _, detail in told(2048)] == [
        "replayed, of 1 KiB",
        "replayed, of 1 KiB: made up",
        "replayed, of 4 KiB: again",
    ]
    assert told(4096) == [("hung", "replayed: again")], "one wrong output is enough, whatever latencies there are"


def test_the_range_of_a_cell_is_what_all_named_backends_share() -> None:
    """From the lowest size at which all of them are measured to the highest; other backends don't count."""
    served = curves([*curve((16, 1.0), (4096, 2.0)), *curve((64, 1.0), (8192, 2.0), backend="c")])
    assert served.range_of(CELL, ["b", "c"]) == (64, 4096)
    assert served.range_of(CELL, ["c"]) == (64, 8192)
    assert served.sizes(CELL) == (16, 64, 4096, 8192)
    assert (served.cells(), served.backends(CELL)) == ((CELL,), ("b", "c"))
    apart = curves([*curve((16, 1.0)), *curve((64, 1.0), backend="c")])
    with pytest.raises(ValueError, match="b and c have no measured size in common"):
        apart.range_of(CELL, ["b", "c"])


def test_the_same_seed_serves_the_same_latencies() -> None:
    """Repeats, noise and outliers all come from the generator that is handed in."""
    served = ReplayCurves(read_measurements(DATA / "rtx5090-all_gather-nccl-repeats.csv"), noise=0.1, outliers=0.1)

    def draw(seed: int) -> list[float]:
        rng = random.Random(seed)
        return [served.latency_us(CELL, "nccl", 3 * 2**18, rng) for _ in range(50)]

    assert draw(1) == draw(1) != draw(2)


def test_noise_is_the_standard_deviation_of_the_log() -> None:
    """Noise of 0.05 spreads the log of latencies by 0.05 around the measured value."""
    served = curves(curve((64, 100.0)), noise=0.05)
    rng = random.Random(1)
    logs = [math.log(served.latency_us(CELL, "b", 64, rng) / 100.0) for _ in range(4000)]
    # Four standard errors: 0.05 / sqrt(4000) of the mean, 0.05 / sqrt(8000) of the deviation.
    assert statistics.fmean(logs) == pytest.approx(0, abs=0.0032)
    assert statistics.stdev(logs) == pytest.approx(0.05, abs=0.0023)


def test_outliers_are_a_share_that_is_only_ever_slower() -> None:
    """The given share of latencies is slowed by exp(|N(0, 1)|), the others are untouched."""
    served = curves(curve((64, 100.0)), outliers=0.2)
    rng = random.Random(1)
    values = [served.latency_us(CELL, "b", 64, rng) for _ in range(4000)]
    slowed = [math.log(value / 100.0) for value in values if value != 100.0]
    assert min(values) == 100.0
    # Four standard errors of a share of 0.2 in 4000, and of the mean sqrt(2/pi) of |N(0, 1)| over 800.
    assert len(slowed) / 4000 == pytest.approx(0.2, abs=0.026)
    assert statistics.fmean(slowed) == pytest.approx(math.sqrt(2 / math.pi), abs=0.086)
