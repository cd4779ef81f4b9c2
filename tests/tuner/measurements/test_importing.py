"""Measurements from elsewhere as points of a study."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.measurements.csv_file import ExcludedRow, Measurements, Row, read_measurements
from ccl_dispatch.tuner.measurements.importing import common_timing, import_measurements, joined, left_out
from ccl_dispatch.tuner.measurements.logs import LogReading
from ccl_dispatch.tuner.samples import PointExclusion, PointResult

DATA = Path(__file__).parents[2] / "data" / "measurements"
CELL = Cell("all_gather", "eager", "first", "float32", 2)


def test_every_pair_of_a_file_becomes_a_point() -> None:
    """One point for each cell and size, with the repeats in file order and nothing counted as run."""
    found = read_measurements(DATA / "rtx5090-all_gather-nccl-repeats.csv")
    points = import_measurements(found, "nccl")
    curves = found.by_cell()[CELL]
    assert [point.size for point in points] == list(curves["nccl"])
    first = points[0]
    assert first.latencies_us["nccl"] == tuple(curves["nccl"][first.size])
    assert all(set(point.latencies_us) <= {"nccl", "nccl_simple", "nccl_ll"} for point in points)
    assert {(point.stopped_by, tuple(point.executions), point.wall_seconds) for point in points} == {
        ("imported", (), 0.0)
    }
    assert [PointResult.from_json(point.to_json()) for point in points] == points


def test_named_candidates_are_taken_and_no_others() -> None:
    """With candidates given, the other backends of the file stay out, and it is said which."""
    found = read_measurements(DATA / "rtx5090-all_gather-nccl-repeats.csv")
    points = import_measurements(found, "nccl", ["nccl_simple"])
    assert {name for point in points for name in point.latencies_us} == {"nccl", "nccl_simple"}
    assert left_out(found, points, "nccl") == [
        f"{CELL.name}: nccl_ll left out at 5 of 5 sizes: neither the baseline nor a candidate"
    ]


def test_what_has_no_counterpart_is_left_out_and_said() -> None:
    """A cell without the baseline gives no point; its rows are named."""
    found = read_measurements(DATA / "mi300-all_reduce-custom-quickreduce.csv")
    points = import_measurements(found, "custom")
    assert {point.cell.dtype for point in points} == {"float16"}
    (line,) = left_out(found, points, "custom")
    assert line.startswith(
        "all_reduce/eager/first/bfloat16/ws4: quickreduce left out at 9 of 9 sizes: nothing to compare"
    )


@pytest.mark.parametrize(
    ("baseline", "candidates", "words"),
    [
        ("ncl", [], "has no backend 'ncl'. Did you mean 'nccl'?"),
        ("nccl", ["nccl_simpl"], "Did you mean 'nccl_simple'?"),
        ("nccl", ["nccl"], "a name is given twice"),
        ("nccl", ["nccl_ll", "nccl_ll"], "a name is given twice"),
    ],
)
def test_wrong_names_are_refused(baseline: str, candidates: list[str], words: str) -> None:
    """A name that the file does not have is met with the nearest that it has; no name is taken twice."""
    found = read_measurements(DATA / "rtx5090-all_gather-nccl-repeats.csv")
    with pytest.raises(UsageError) as caught:
        import_measurements(found, baseline, candidates)
    assert words in str(caught.value)


def test_a_file_without_a_comparison_is_refused() -> None:
    """One backend alone, or two that were never measured at the same size, give no point."""
    alone = Measurements("m.csv", (Row(CELL, "a", 64, 1.0),))
    with pytest.raises(UsageError, match="measurements of 'a' alone"):
        import_measurements(alone, "a")
    apart = Measurements("m.csv", (Row(CELL, "a", 64, 1.0), Row(CELL, "b", 128, 1.0)))
    with pytest.raises(UsageError, match="at no size of a cell are 'a' and one of b both measured"):
        import_measurements(apart, "a")


def test_one_rank_is_no_collective() -> None:
    """Rows of a single rank, which benchmarks print too, give no point: no table has such a cell."""
    alone = CELL._replace(world_size=1)
    found = Measurements("m.csv", tuple(Row(cell, name, 64, 1.0) for cell in (alone, CELL) for name in ("a", "b")))
    points = import_measurements(found, "a")
    assert [point.cell for point in points] == [CELL]
    assert len(left_out(found, points, "a")) == 2


WRONG = PointExclusion("b", "wrong_output", "made up")


def _measured(
    rows: dict[str, tuple[int, ...]], excluded: dict[str, tuple[int, ...]], cell: Cell = CELL
) -> Measurements:
    return Measurements(
        "m.csv",
        tuple(Row(cell, name, size, 1.0) for name, sizes in rows.items() for size in sizes),
        tuple(
            ExcludedRow(cell, name, size, "wrong_output", "made up")
            for name, sizes in excluded.items()
            for size in sizes
        ),
    )


def test_what_may_not_be_used_is_excluded_at_its_size() -> None:
    """With latencies or without, of the baseline or of the candidate itself; said twice it is excluded once."""
    found = _measured({"a": (64, 128, 256), "b": (64, 256)}, {"b": (128, 256, 256, 512)})
    points = import_measurements(found, "a")
    assert [(point.size, point.exclusions) for point in points] == [
        (64, ()),
        (128, (WRONG,)),
        (256, (WRONG,)),
        (512, (WRONG,)),
    ]
    assert [set(point.latencies_us) for point in points] == [{"a", "b"}, {"a"}, {"a", "b"}, set()]
    assert left_out(found, points, "a") == []
    assert [PointResult.from_json(point.to_json()) for point in points] == points


def test_where_the_baseline_was_wrong_nothing_is_compared() -> None:
    """Such a size has no point, it is said why, and what is excluded beside the baseline stays excluded."""
    found = _measured({"a": (64, 128, 256), "b": (64, 128)}, {"a": (128, 256), "b": (256,)})
    points = import_measurements(found, "a")
    assert [(point.size, set(point.latencies_us), point.exclusions) for point in points] == [
        (64, {"a", "b"}, ()),
        (256, set(), (WRONG,)),
    ]
    (line,) = left_out(found, points, "a")
    assert line.startswith(f"{CELL.name}: nothing compared at 2 sizes, the smallest 128 B: there the baseline a may ")
    assert line.endswith("(wrong_output: made up)")


def test_a_cell_without_the_baseline_is_taken_if_nothing_could_replace_it() -> None:
    """Where every candidate is excluded the baseline is all there is; one that is merely unknown leaves that open."""
    other = CELL._replace(mode="graph")
    pair = _measured({"a": (64,), "b": (64,)}, {})
    without = _measured({}, {"b": (64, 128)}, other)
    found = Measurements("m.csv", pair.rows, without.exclusions)
    assert [(point.cell, point.size) for point in import_measurements(found, "a")] == [
        (CELL, 64),
        (other, 64),
        (other, 128),
    ]
    third = Measurements("m.csv", (*pair.rows, Row(CELL, "c", 64, 1.0)), without.exclusions)
    points = import_measurements(third, "a")
    assert [point.cell for point in points] == [CELL]
    assert left_out(third, points, "a") == [
        f"{other.name}: exclusions of b left out at 2 sizes: nothing to compare it with in this cell"
    ]
    assert "neither the baseline nor a candidate" in left_out(found, import_measurements(third, "a", ["c"]), "a")[-1]


def _reading(backend: str, *, platform: str = "", timing: str = "") -> LogReading:
    rows = tuple(Row(CELL, backend, size, 1.0, (), {"platform": platform}) for size in (64, 128))
    return LogReading(rows, timing=timing)


def test_files_are_joined_into_pairs() -> None:
    """A backend of one file is compared with a backend of another."""
    found = joined({"a.log": _reading("a", platform="here"), "b.log": _reading("b")})
    assert found.source == "a.log, b.log"
    points = import_measurements(found, "a")
    assert [set(point.latencies_us) for point in points] == [{"a", "b"}] * 2


def test_files_of_several_platforms_are_not_joined_unless_they_are_said_to_be_one() -> None:
    """Two names of machines are refused with the file that each is from; --platform says that they mean one."""
    readings = {"a.log": _reading("a", platform="MI300X"), "b.log": _reading("b", platform="MI355X")}
    with pytest.raises(UsageError, match=r"a.log: 'MI300X'; b.log: 'MI355X'.*--platform"):
        joined(readings)
    assert len(joined(readings, "MI300X").rows) == 4


def test_calls_timed_in_different_ways_are_not_compared() -> None:
    """Back-to-back and isolated latencies do not meet in one study; a file that does not say goes with either."""
    loud, quiet = _reading("a", timing="back_to_back"), _reading("b")
    assert common_timing({"a": loud, "b": quiet}) == "back_to_back"
    assert common_timing({"b": quiet}) == "isolated"
    with pytest.raises(UsageError, match="a back to back, c isolated"):
        common_timing({"a": loud, "c": _reading("c", timing="isolated")})


@settings(deadline=None)
@given(st.permutations(range(32)))
def test_the_order_of_rows_makes_no_other_points(order: list[int]) -> None:
    """They rise by cell and size, as studies that are merged have to be alike."""
    cells = [CELL._replace(world_size=size, mode=mode) for size in (8, 2, 16, 4) for mode in ("graph", "eager")]
    rows = [
        Row(cell, name, size, float(number), (), {})
        for number, (cell, size, name) in enumerate(product(cells, (64, 32), ("nccl", "other")), 1)
    ]
    points = import_measurements(Measurements("m.csv", tuple(rows[place] for place in order)), "nccl")
    assert points == import_measurements(Measurements("m.csv", tuple(rows)), "nccl")
    assert [(point.cell, point.size) for point in points] == [
        (cell, size) for cell in sorted(cells) for size in (32, 64)
    ]
