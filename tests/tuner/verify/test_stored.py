"""Which study's samples a table is compared with: its own, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_studies import keep_study, made_study

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.verify.stored import stored_study

CELL, OTHER = (Cell("all_gather", "eager", "first", "bfloat16", size) for size in (2, 4))
META, RESULTS = made_study([CELL, OTHER])
# Another sweep by the same config, and one by another config.
AGAIN = [replace(result, measured_at="2026-01-01T00:00:00Z") for result in RESULTS]
FOREIGN = replace(META, digest="sha256:1")


@pytest.fixture(scope="module")
def table() -> Table:
    """Of the study."""
    return build_table(META, RESULTS)


def test_the_study_that_a_table_was_made_from_is_found_beside_it(tmp_path: Path, table: Table) -> None:
    """By the table's name or as `study.journal`, whichever of the two is its own; the other one is told of."""
    path = tmp_path / "t.yaml"
    assert stored_study(table, path, None, None) == (None, [])
    own = keep_study(tmp_path / "study.journal", META, RESULTS)
    found, notes = stored_study(table, path, None, None)
    assert found is not None
    assert (found.own, found.where, len(found.results), notes) == (True, own, len(RESULTS), [])
    other = keep_study(tmp_path / "t.journal", META, AGAIN)
    found, (note,) = stored_study(table, path, None, None)
    assert found is not None
    assert (found.own, found.where) == (True, own)
    assert note.startswith(f"the table was not made from the samples in {other} beside it, and they are left aside: ")


def test_another_sweep_of_the_config_says_how_to_measure_and_nothing_else(tmp_path: Path, table: Table) -> None:
    """Its samples are compared with nothing; a study of another config says nothing, nor does what is no journal."""
    path = tmp_path / "t.yaml"
    (tmp_path / "t.journal").write_text("no journal")
    keep_study(tmp_path / "study.journal", FOREIGN, RESULTS)
    found, notes = stored_study(table, path, None, None)
    assert found is None
    assert [note.partition(": ")[0] for note in notes] == [
        "the study beside the table is left aside",
        f"the table was not made from the samples in {tmp_path}/study.journal beside it, and they are left aside",
    ]
    (tmp_path / "t.journal").unlink()
    again = keep_study(tmp_path / "t.journal", META, AGAIN)
    found, _ = stored_study(table, path, None, None)
    assert found is not None
    assert (found.own, found.where, list(found.results)) == (False, again, [])


def test_a_study_that_was_named_has_to_be_the_tables(tmp_path: Path, table: Table) -> None:
    """Else it is wrong use, whatever lies beside the table."""
    path = tmp_path / "t.yaml"
    own = keep_study(tmp_path / "study.journal", META, RESULTS)
    other = keep_study(tmp_path / "o.journal", META, AGAIN)
    found, _ = stored_study(table, path, own, META.name)
    assert found is not None
    assert found.own
    with pytest.raises(UsageError, match=r"is not the one that .*t\.yaml was made from"):
        stored_study(table, path, other, None)


def test_cells_that_were_tuned_anew_have_no_samples_there(tmp_path: Path, table: Table) -> None:
    """Their bands come from a study of their own, which is told of by its name alone."""
    own = keep_study(tmp_path / "study.journal", META, RESULTS)
    updates = [{"study": "update", "cells": [OTHER.name]}]
    updated = table._replace(evidence={**table.evidence, "updates": updates})
    found, notes = stored_study(updated, tmp_path / "t.yaml", None, None)
    assert found is not None
    assert (found.where, {result.cell for result in found.results}, notes) == (own, {CELL}, [])
    anew = keep_study(tmp_path / "t.journal", replace(META, name="update"), RESULTS[:3])
    found, (note,) = stored_study(updated, tmp_path / "t.yaml", None, None)
    assert found is not None
    assert (found.where, note) == (
        own,
        f"{anew} has the samples of cells that were tuned anew, which nothing is compared with",
    )
