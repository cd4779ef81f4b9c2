"""What a table is worth on measurements."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.table import Band, CellTable, Platform, Policy, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.measurements.csv_file import Measurements, Row, read_measurements
from ccl_dispatch.tuner.measurements.evaluate import PER_OCTAVE, evaluate
from ccl_dispatch.tuner.measurements.rows import ExcludedRow

DATA = Path(__file__).parents[2] / "data" / "measurements"
CELL = Cell("all_gather", "eager", "first", "float32", 2)
SMALL, LARGE = 1024, 2**20


def table(*cells: tuple[Cell, list[tuple[int, str]]], low: int = 16, candidates: tuple[str, ...] = ("fast",)) -> Table:
    """A table whose cells have the given (up_to, use) bands from `low` on."""
    return Table(
        name="t",
        generated_by="",
        provenance="measured",
        baseline="base",
        candidates=candidates,
        platform=Platform("", "", "", 0, "", {}, {}),
        policy=Policy(0.03, 0.95, "isolated"),
        cells=tuple(
            CellTable(
                cell,
                low,
                bands[-1][0],
                tuple(Band(up_to, use, "tie", None, None, None, 1, 1) for up_to, use in bands),
                (),
                (),
                (),
                (),
                None,
            )
            for cell, bands in cells
        ),
        evidence={},
        digest="",
        source="t.yaml",
    )


def measured(cell: Cell = CELL, low: int = SMALL, high: int = LARGE, **times: float) -> list[Row]:
    """Flat curves: each backend takes its time in microseconds at every size."""
    return [Row(cell, name, size, time) for name, time in times.items() for size in (low, high)]


def file(*rows: list[Row]) -> Measurements:
    return Measurements("m.csv", tuple(row for part in rows for row in part))


def test_a_table_that_always_takes_the_best_is_never_slower() -> None:
    """Regret is zero for the right table, and that of always-baseline is the baseline's own loss."""
    found = evaluate(table((CELL, [(LARGE, "fast")])), file(measured(base=10.0, fast=8.0)))
    (cell,) = found.cells
    assert (cell.slowdowns.table.mean, cell.slowdowns.table.worst) == (0.0, 0.0)
    assert cell.slowdowns.always["base"].mean == pytest.approx(0.25)
    assert cell.slowdowns.always["fast"].mean == 0.0
    assert found.overall == cell.slowdowns


def test_every_octave_weighs_alike() -> None:
    """A table that is wrong over 3 of 10 octaves loses 3 tenths of what it loses there, whatever their bytes."""
    bands = [(8 * SMALL - 1, "base"), (LARGE, "fast")]
    (cell,) = evaluate(table((CELL, bands)), file(measured(base=10.0, fast=8.0))).cells
    assert cell.sizes == 10 * PER_OCTAVE + 1
    assert cell.slowdowns.table.mean == pytest.approx(0.25 * 3 * PER_OCTAVE / cell.sizes)
    assert cell.slowdowns.table.worst == pytest.approx(0.25)
    assert SMALL <= cell.slowdowns.table.worst_at < 8 * SMALL


def test_small_sizes_keep_their_weight_though_alignment_merges_them() -> None:
    """From 16 to 256 bytes there are four octaves of sizes, though only sixteen multiples of 16."""
    bands = [(31, "base"), (4096, "fast")]
    (cell,) = evaluate(table((CELL, bands)), file(measured(base=10.0, fast=8.0, low=16, high=256))).cells
    assert cell.sizes == 4 * PER_OCTAVE + 1
    # Sizes up to 24 are nearest to 16: log2(24 / 16) of the four octaves.
    assert cell.slowdowns.table.mean == pytest.approx(0.25 * math.log2(1.5) / 4, abs=0.25 * 2 / cell.sizes)


def test_what_the_measurements_exclude_is_never_the_best() -> None:
    """A fast backend that was wrong from 8 KiB to 64 KiB: a table that uses it there is told so.

    Who uses it there is taken to use the baseline.
    """
    wrong = tuple(ExcludedRow(CELL, "fast", size, "wrong_output", "made up") for size in (8192, 16384, 65536))
    rows = (*measured(base=10.0, fast=8.0), *measured(low=4096, high=2 * 65536, fast=8.0))
    measurements = Measurements("m.csv", rows, wrong, tells_excluded=True)
    found = evaluate(table((CELL, [(LARGE, "fast")])), measurements)
    (misuse,) = found.misuses
    assert (misuse.backend, misuse.sizes, misuse.reasons) == ("fast", (8192, 16384, 65536), ("wrong_output",))
    told = "the table uses fast at 3 sizes from 8 KiB to 64 KiB, where the measurements exclude it: wrong_output"
    assert found.lines()[-1] == f"{CELL.name}: {told}"
    assert found.cells[0].slowdowns.always["fast"].worst == 0.0
    careful = evaluate(table((CELL, [(4096, "fast"), (LARGE, "base")])), measurements)
    assert careful.misuses == ()
    assert 0.0 < careful.cells[0].slowdowns.table.mean < careful.cells[0].slowdowns.always["base"].mean
    # Outside of what can be compared, and where nothing can.
    beyond = Measurements("m.csv", tuple(measured(base=10.0)), (ExcludedRow(CELL, "fast", 2 * LARGE, "hung"),))
    with pytest.raises(UsageError, match=r"the table uses fast at 2 MiB, where the measurements exclude it: hung"):
        evaluate(table((CELL, [(4 * LARGE, "fast")])), beyond)


def test_sizes_outside_the_table_count_as_the_baseline() -> None:
    """Where the table has no answer its users run the baseline, and are judged by that."""
    only = table((CELL, [(LARGE // 32, "fast")]), low=SMALL)
    (cell,) = evaluate(only, file(measured(base=10.0, fast=8.0))).cells
    assert cell.slowdowns.table.mean == pytest.approx(0.25 / 2, abs=0.005)


def test_only_sizes_that_all_backends_have_are_compared() -> None:
    """The comparison ends where the shortest curve ends."""
    rows = file(measured(base=10.0), measured(fast=8.0, low=4 * SMALL, high=64 * SMALL))
    (cell,) = evaluate(table((CELL, [(LARGE, "fast")])), rows).cells
    assert (cell.low, cell.high, cell.sizes) == (4 * SMALL, 64 * SMALL, 4 * PER_OCTAVE + 1)


def test_a_single_common_size_is_enough() -> None:
    """One size, even one that is no multiple of 16, is compared as it is."""
    (cell,) = evaluate(
        table((CELL, [(LARGE, "fast")])), file([Row(CELL, "base", 8, 10.0), Row(CELL, "fast", 8, 8.0)])
    ).cells
    assert (cell.sizes, cell.low, cell.high) == (1, 8, 8)
    assert cell.slowdowns.table.mean == pytest.approx(0.25), "8 B is below the table's 16 B: the baseline"


def test_cells_on_one_side_only_are_listed() -> None:
    """What only the table has, only the file has, or can't be compared, is said and not counted."""
    cells = {ws: CELL._replace(world_size=ws) for ws in (2, 4, 8, 16, 32)}
    t = table(*((cells[ws], [(LARGE, "fast")]) for ws in (2, 4, 8, 32)))
    rows = file(
        measured(cells[2], base=10.0, fast=8.0),
        measured(cells[4], base=10.0, other=3.0),
        measured(cells[16], base=10.0, fast=8.0),
        measured(cells[32], fast=8.0),
    )
    found = evaluate(t, rows)
    assert [cell.cell for cell in found.cells] == [cells[2]]
    assert (found.not_measured, found.not_in_table) == ((cells[8],), (cells[16],))
    assert found.not_compared == (
        (cells[4], "none of the table's candidates is measured"),
        (cells[32], "the baseline 'base' is not measured, only fast"),
    )
    text = "\n".join(found.lines())
    assert f"{cells[8].name}: in the table, not in the measurements" in text
    assert f"{cells[16].name}: in the measurements, not in the table" in text
    assert f"{cells[4].name}: not compared, none of the table's candidates" in text


def test_a_choice_that_was_not_measured_is_not_judged() -> None:
    """When the table uses a backend that the file lacks, its loss is unknown, and the cell says so."""
    t = table(
        (CELL, [(LARGE, "other")]), (CELL._replace(world_size=4), [(LARGE, "fast")]), candidates=("fast", "other")
    )
    rows = file(measured(base=10.0, fast=8.0), measured(CELL._replace(world_size=4), base=10.0, fast=8.0))
    assert evaluate(t, rows).not_compared == ((CELL, "the table uses 'other' at 1 KiB, which is not measured"),)


def test_backends_that_are_not_everywhere_are_left_out_of_the_whole() -> None:
    """Overall, always-candidate is given only for candidates that every cell compares."""
    other = CELL._replace(world_size=4)
    t = table((CELL, [(LARGE, "fast")]), (other, [(LARGE, "fast")]), candidates=("fast", "extra"))
    found = evaluate(t, file(measured(base=10.0, fast=8.0, extra=16.0), measured(other, base=10.0, fast=20.0)))
    assert list(found.overall.always) == ["base", "fast"]
    assert found.overall.table.mean == pytest.approx(0.5), "0 in one cell, 20 against 10 in the other"
    assert found.overall.always["fast"].worst == pytest.approx(1.0)


def test_nothing_in_common_is_an_error_that_names_both() -> None:
    """A file of other cells can't judge a table, and the error says what each has."""
    with pytest.raises(UsageError, match=r"the table has .*ws4; the measurements have .*ws2"):
        evaluate(table((CELL._replace(world_size=4), [(LARGE, "fast")])), file(measured(base=1.0, fast=2.0)))


def test_the_evaluation_is_json_and_lines() -> None:
    """Programs get plain JSON data, people get lines with percentages."""
    found = evaluate(table((CELL, [(LARGE, "base")])), file(measured(base=10.0, fast=8.0)))
    data = json.loads(json.dumps(found.to_json()))
    assert data["overall"]["table"]["mean"] == data["cells"][0]["always"]["base"]["mean"] == pytest.approx(0.25)
    assert data["cells"][0]["cell"] == CELL.name
    assert any("this table" in line and "25.00%" in line for line in found.lines())


def test_published_quickreduce_against_rccl() -> None:
    """On 8 MI300X a switch at 8 MiB is nearly always right, and either backend alone is not."""
    cell = Cell("all_reduce", "eager", "first", "float16", 8)
    t = table((cell, [(8 * 1024**2, "quickreduce"), (64 * 1024**2, "rccl")]))
    t = t._replace(baseline="rccl", candidates=("quickreduce",))
    found = evaluate(t, read_measurements(DATA / "mi300x-all_reduce-rccl-quickreduce.csv", {"world_size": "8"}))
    assert found.overall.table.mean < 0.01
    assert found.overall.always["quickreduce"].mean > found.overall.table.mean
    assert found.overall.always["rccl"].worst_at == 512 * 1024
    assert found.overall.always["rccl"].worst == pytest.approx(24.19 / 17.26 - 1), "the two rows of the file at 512 KiB"
