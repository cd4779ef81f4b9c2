"""Where the table excludes a candidate verify does not call it wrong for not using that."""

from __future__ import annotations

from pathlib import Path

import pytest
from verifying import verify

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.table import Band, Exclusion
from ccl_dispatch.tuner.emit.text import write_table
from ccl_dispatch.tuner.verify.excluded import excluded_by
from ccl_dispatch.tuner.verify.visits import Place


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
