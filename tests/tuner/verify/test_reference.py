"""The file in which visits are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.verify.reference import (
    Reference,
    ReferenceFileError,
    joined,
    read_reference,
    reference_path,
    write_reference,
)
from ccl_dispatch.tuner.verify.visits import Place, Visit

CELL = Cell("all_gather", "graph", "first", "bfloat16", 8)


def _table() -> Table:
    return make_table((make_cell(CELL, 16, [65536], ["aiter"]),))


def _reference(table: Table, level: float = 1.25) -> Reference:
    visits = {
        Place(CELL, 64): (Visit(0, {"rccl": 2.5, "aiter": level}, {}), Visit(1, {"rccl": 2.75, "aiter": level}, {})),
        Place(CELL, 128): (Visit(1, {"rccl": 3.0}, {}),),
    }
    return Reference(table.digest, table.platform, visits, 2, ("2026-01-01T00:00:00Z",))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Visits, sets, times and platform come back; the file is beside the table, under its name."""
    table = _table()
    path = reference_path(tmp_path / "gfx942.yaml")
    assert path == tmp_path / "gfx942.reference.json"
    write_reference(_reference(table), path)
    found = read_reference(path, table)
    assert (found.visits, found.sets, found.times) == (_reference(table).visits, 2, ("2026-01-01T00:00:00Z",))
    assert found.platform == table.platform
    assert found.known(CELL) == {64: 2, 128: 1}


def test_a_second_run_is_added_with_sets_of_its_own() -> None:
    """Joined, the second run's sets of workers are counted on, and nothing of the first is lost."""
    both = joined(_reference(_table()), _reference(_table(), 1.5))
    assert [visit.set for visit in both.visits[Place(CELL, 64)]] == [0, 1, 2, 3]
    assert [visit.levels["aiter"] for visit in both.visits[Place(CELL, 64)]] == [1.25, 1.25, 1.5, 1.5]
    assert both.sets == 4


def _changed(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda data: {**data, **values}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_changed(schema="other/v1"), "found 'other/v1', expected ccl-dispatch/reference/v1. Use the version"),
        (_changed(table_digest="sha256:0"), "it is the reference of the table sha256:0"),
        (_changed(sets=1), "damaged: .*of 1 sets"),
        (_changed(backends=["rccl"]), "damaged"),
        (_changed(cells=[{"cell": list(CELL), "sizes": {"64": [[0, 1e999, 1.0]]}}]), "finite"),
        (_changed(platform={}), "damaged"),
        (lambda _: [], "found 'list'"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path: Path, change: Callable[[Any], Any], words: str) -> None:
    """Another schema, another table's, damaged rows: each is an error with the file's name and what to do."""
    table = _table()
    path = tmp_path / "t.reference.json"
    write_reference(_reference(table), path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ReferenceFileError, match=words) as caught:
        read_reference(path, table)
    assert str(path) in str(caught.value)
    path.write_text("{")
    with pytest.raises(ReferenceFileError, match="not JSON"):
        read_reference(path, table)
    path.unlink()
    with pytest.raises(ReferenceFileError, match="can't be read"):
        read_reference(path, table)
