"""`diff` as a person and as a program reads it."""

from __future__ import annotations

import json
from pathlib import Path

from command import ccl_dispatch
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.table import Band, CellTable, Crossover, Exclusion, Override
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import write_table

CELL = Cell("all_gather", "graph", "first", "bfloat16", 8)


def _write(folder: Path) -> None:
    write_table(make_table((make_cell(CELL, 16, [65536, 1 << 20], ["aiter", "rccl"]),)), folder / "a.yaml")
    write_table(make_table((make_cell(CELL, 16, [131072, 1 << 20], ["aiter", "rccl"]),)), folder / "b.yaml")


def test_a_moved_crossover_is_told_with_its_sizes_and_its_worth(tmp_path: Path) -> None:
    """Exit code 1, the sizes as people write them, the backends, and what both tables know of the gain."""
    _write(tmp_path)
    done = ccl_dispatch("diff", "a.yaml", "b.yaml", folder=tmp_path)
    assert done.returncode == 1
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "B decides otherwise in 1 of 1 cells, over 1.0 of 16.0 octaves that either table measured" in lines
    at = lines.index(CELL.name)
    assert lines[at + 1].split() == ["64", "KiB", "..", "128", "KiB", "rccl", "->", "aiter"]
    assert lines[at + 2].startswith("by A: costs 25.0% over its band 64 KiB .. 1 MiB, between 20.0% and 30.0% (faster")
    assert lines[at + 3].startswith("by B: gains 25.0% over its band 16 B .. 128 KiB, between 20.0% and 30.0% (faster")


def test_programs_get_the_same(tmp_path: Path) -> None:
    """`--json` has the change with sizes in bytes and gains as fractions, and the exit code stays 1."""
    _write(tmp_path)
    done = ccl_dispatch("diff", "a.yaml", "b.yaml", "--json", folder=tmp_path)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    (change,) = found["changes"]
    assert not found["same_decisions"]
    assert [change[key] for key in ("cell", "low", "high", "before", "after")] == [
        CELL.name,
        65537,
        131072,
        "rccl",
        "aiter",
    ]
    assert change["by_b"][0]["gain"] == 0.25


def test_tables_that_decide_alike_end_with_0(tmp_path: Path) -> None:
    """The same table, and one with other evidence only, are told apart and end with 0; a missing one with 2."""
    _write(tmp_path)
    same = ccl_dispatch("diff", "a.yaml", "a.yaml", folder=tmp_path)
    assert (same.returncode, "the same table" in same.stdout) == (0, True)
    other = make_table((make_cell(CELL, 16, [65536, 1 << 20], ["aiter", "rccl"])._replace(regret_estimate=0.5),))
    write_table(other, tmp_path / "c.yaml")
    alike = ccl_dispatch("diff", "a.yaml", "c.yaml", folder=tmp_path)
    assert (alike.returncode, "decided alike; the evidence differs" in alike.stdout) == (0, True)
    missing = ccl_dispatch("diff", "a.yaml", "nowhere.yaml", folder=tmp_path)
    assert missing.returncode == 2
    assert "nowhere.yaml" in missing.stderr


def test_cells_that_no_table_has_are_not_counted(tmp_path: Path) -> None:
    """Another baseline changes what is used outside of all cells: that is told, and is no cell."""
    _write(tmp_path)
    other = make_table((make_cell(CELL, 16, [131072, 1 << 20], ["aiter", "rccl"]),))._replace(baseline="nccl")
    cell = other.cells[0]._replace(
        bands=tuple(
            band._replace(use=band.use.replace("rccl", "nccl"), against=(band.against or "").replace("rccl", "nccl"))
            for band in other.cells[0].bands
        ),
        crossovers=tuple(item._replace(above="nccl") for item in other.cells[0].crossovers),
    )
    write_table(other._replace(cells=(cell,)), tmp_path / "d.yaml")
    done = ccl_dispatch("diff", "a.yaml", "d.yaml", folder=tmp_path)
    assert "B decides otherwise in 1 of 1 cells" in done.stdout, done.stdout + done.stderr
    assert "every cell that is in neither table" in done.stdout


def _changes(folder: Path, a: CellTable, b: CellTable) -> list[str]:
    write_table(make_table((a,)), folder / "a.yaml")
    write_table(make_table((b,)), folder / "b.yaml")
    lines = ccl_dispatch("diff", "a.yaml", "b.yaml", folder=folder).stdout.splitlines()
    return lines[lines.index(CELL.name) + 1 :]


def _refused_from(end: int, first_refused: int) -> CellTable:
    bands = (
        Band(end, "aiter", "faster", "rccl", 6.02, (1.49, 19.0), 9, 90),
        Band(1 << 20, "rccl", "excluded", None, None, None, 3, 0),
    )
    border = Crossover(end, end, first_refused, "aiter", "rccl")
    refused = Exclusion("aiter", "unsupported", first_refused, 1 << 20, "larger than its pool")
    return CellTable(CELL, 1024, 1 << 20, bands, (border,), (), (refused,), (), 0.0)


def test_an_exclusion_is_told_as_one_and_a_cost_on_one_scale(tmp_path: Path) -> None:
    """Where a table does not know from which size on a backend is excluded, that is said, and never that two are equal.

    What goes twice as fast or more is told in factors, its bounds too, and a cost with the bounds of the cost.
    """
    place = "somewhere between 64 KiB and 512 KiB"
    assert _changes(tmp_path, _refused_from(262144, 1 << 20), _refused_from(65536, 524288)) == [
        "  64 KiB .. 256 KiB        aiter -> rccl",
        f"    B excludes aiter from {place} on: where that begins is not known more exactly",
        "    by A: costs 7.02x over its band 1 KiB .. 256 KiB, between 2.49x and 20.00x (faster, 90 samples)",
        "    by B: aiter and rccl were not compared (excluded)",
    ]


def test_bounds_on_both_sides_of_nothing_keep_their_signs(tmp_path: Path) -> None:
    """A gain that is not proven has a bound on the other side, which must be seen."""
    tie = Band(65536, "rccl", "tie", "aiter", 0.01, (-0.02, 0.04), 3, 30)
    cell = make_cell(CELL, 16, [65536], ["rccl"])._replace(bands=(tie,))
    told = _changes(tmp_path, make_cell(CELL, 16, [65536], ["aiter"]), cell)
    assert "    by B: gains 1.0% over its band 16 B .. 64 KiB, between -2.0% and +4.0% (not proven, 30 samples)" in told


def test_an_exact_size_between_does_not_part_a_change(tmp_path: Path) -> None:
    """A shape that B overrides as A decides lies within one change, which is one row and says what it leaves out."""
    override = Override(49152, (1, 24576), "aiter", "rccl", 0.1, (0.05, 0.15), 40)
    b = make_cell(CELL, 1024, [1 << 20], ["rccl"])._replace(overrides=(override,))
    told = _changes(tmp_path, make_cell(CELL, 1024, [1 << 20], ["aiter"]), b)
    assert [line for line in told if "->" in line] == [
        "  1 KiB .. 1 MiB           aiter -> rccl, but not exactly 48 KiB"
    ]
