"""Where the table excludes a candidate verify does not call it wrong for not using that."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_tables import make_cell
from verifying import verify

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.table import Band, CellTable, Exclusion, Override
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import write_table
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.verify.excluded import excluded_by, right_again, without_excluded
from ccl_dispatch.tuner.verify.visits import Place, Visit

OTHER = Cell("all_gather", "eager", "first", "bfloat16", 8)


@pytest.fixture(scope="module")
def excluding(made: tuple[Path, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The replayed table, had `cand` given wrong output at 8 KiB: at 2 and at 32 KiB, and beyond, it was right."""
    table = load_table(made[0])
    (cell,) = table.cells
    first, *rest = cell.bands
    assert first.use == "cand"
    bands = (
        first._replace(up_to=2048),
        Band(32767, "base", "excluded", None, None, None, 1, 0),
        first,
        *rest,
    )
    exclusions = (Exclusion("cand", "wrong_output", 8192, 8192, "made up"),)
    path = tmp_path_factory.mktemp("excluding") / "t.yaml"
    write_table(table._replace(cells=(cell._replace(bands=bands, exclusions=exclusions),)), path)
    return path


def test_an_exclusion_reaches_to_the_sizes_that_were_right(excluding: Path) -> None:
    """From beyond 2 KiB to below 32 KiB, as the band says."""
    (cell,) = load_table(excluding).cells
    excluded = excluded_by([cell])
    found = [size for size in (2048, 2064, 8192, 32752, 32768) if excluded(Place(cell.cell, size), "cand")]
    assert found == [2064, 8192, 32752]


def test_a_candidate_that_is_right_again_does_not_make_the_table_wrong(
    excluding: Path, made: tuple[Path, dict[str, Path]]
) -> None:
    """Though 40 % faster there it costs nothing to leave it out; a note says that it was right."""
    found = verify(excluding, made[1]["same"]).verification
    (cell,) = found.cells
    assert (found.verdict, cell.why, cell.wrong) == ("still right", (), ())
    assert cell.cost is not None
    assert cell.cost.high < 0.01
    (note,) = [note for note in found.notes if "excludes" in note]
    assert note.startswith(f"{cell.cell.name}: cand, which the table excludes there, was right at ")
    assert "8 KiB" in note
    assert note.endswith("a new sweep would use it where it is faster")


def test_where_it_is_not_excluded_the_table_is_judged_as_before(
    excluding: Path, made: tuple[Path, dict[str, Path]]
) -> None:
    """A candidate in use that became slower is found in the same table, and nothing is told of the excluded sizes."""
    found = verify(excluding, made[1]["moved"]).verification
    assert found.verdict == "now wrong"
    assert all(choice.place.size >= 32768 for cell in found.cells for choice in cell.wrong)


def _excluding() -> CellTable:
    """Used up to 1 KiB and from beyond 4 KiB on; in between all are excluded, but for one shape; above one of two."""
    cell = make_cell(OTHER, 16, [1024, 4096, 65536], ["aiter", "rccl", "aiter"])
    first, between, last = cell.bands
    return cell._replace(
        bands=(first, between._replace(why="excluded", against=None, gain=None, interval=None), last),
        exclusions=(Exclusion("symm_mem", "hung", 8192, 16384, "made up"),),
        overrides=(Override(2048, (1, 1024), "aiter", "rccl", 0.2, (0.1, 0.3), 20),),
    )


def test_all_are_excluded_in_such_a_band_and_one_where_it_was_measured() -> None:
    """But for the candidate that a shape of that very size is given."""
    excluded = excluded_by([_excluding()])

    def found(name: str) -> list[int]:
        sizes = (16, 1024, 1025, 2032, 2048, 4096, 4097, 8191, 8192, 16384, 16385, 65536, 65537)
        return [size for size in sizes if excluded(Place(OTHER, size), name)]

    assert found("aiter") == [1025, 2032, 4096]
    assert found("symm_mem") == [1025, 2032, 2048, 4096, 8192, 16384]


def test_of_an_excluded_candidate_no_visit_says_anything() -> None:
    """The others are kept as they are."""
    visit = Visit(3, {"rccl": 1.0, "aiter": 2.0, "symm_mem": 3.0}, {"aiter": 0.1, "symm_mem": 0.2})
    places = [Place(OTHER, size) for size in (1024, 2048, 4096)]
    kept = without_excluded({key: [visit] for key in places}, ("aiter", "symm_mem"), excluded_by([_excluding()]))
    assert [kept[place] for place in places] == [
        [visit],
        [Visit(3, {"rccl": 1.0, "aiter": 2.0}, {"aiter": 0.1})],
        [Visit(3, {"rccl": 1.0}, {})],
    ]


def test_who_was_right_again_at_all_visits_of_a_size_is_told() -> None:
    """By rising size, a few of them by name; one visit that had no latency of it is enough to say nothing."""
    excluded = excluded_by([_excluding()])
    sizes = [4096, 1536, 2048, 3072, 1040, 16384, 64]
    results = [PointResult(OTHER, size, {"aiter": (1.0,), "symm_mem": (1.0,)}) for size in sizes]
    results += [PointResult(OTHER, 1040, {}), PointResult(OTHER, 16384, {"symm_mem": ()})]
    assert [note.partition("; ")[0] for note in right_again(results, ("symm_mem", "aiter"), excluded)] == [
        f"{OTHER.name}: aiter, which the table excludes there, was right at 1.5 KiB, 3 KiB, 4 KiB",
        f"{OTHER.name}: symm_mem, which the table excludes there, was right at 1.5 KiB, 2 KiB, 3 KiB and 1 more size",
    ]
    assert list(right_again([*results[:1], PointResult(OTHER, 4096, {})], ("aiter",), excluded)) == []
