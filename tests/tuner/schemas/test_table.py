"""The JSON Schema and the page say what the runtime reads, and the committed files are what is generated."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import make_cell, make_table, tables

from ccl_dispatch.runtime.digest import digest_of, document_of
from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.schema import read_table
from ccl_dispatch.runtime.table import Band, Exclusion, Override, Table, Tie
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.schemas.table import table_page, table_schema

DOCS = Path(__file__).parents[3] / "docs"
CHECK = jsonschema.Draft202012Validator(table_schema())
CELL = Cell("all_gather", "graph", "first", "bfloat16", 8)


def _full() -> Table:
    """A table that has something of every kind."""
    cell = make_cell(CELL, 16, [1024, 4096], ["aiter", "rccl"])
    tie = Band(4096, "rccl", "tie", "aiter", 0.01, None, 2, 10)
    return make_table(
        (
            cell._replace(
                bands=(cell.bands[0], tie),
                ties=(Tie("aiter", 2048, 4096),),
                exclusions=(Exclusion("symm_mem", "crashed", 16, 4096, "signal 11"),),
                overrides=(Override(2048, (1, 1024), "aiter", "rccl", 0.2, (0.1, 0.3), 50),),
                regret_estimate=None,
            ),
        )
    )


def test_the_committed_files_are_what_is_generated() -> None:
    """After a change of the format `make generated` was called, and its result committed."""
    committed = (DOCS / "table-v1.schema.json").read_text(encoding="utf-8")
    assert json.loads(committed) == table_schema()
    assert committed == json.dumps(table_schema(), indent=2, ensure_ascii=False) + "\n"
    assert (DOCS / "table-format.md").read_text(encoding="utf-8") == table_page()


def test_the_schema_is_one() -> None:
    """It is itself valid by its dialect, and every key has its words."""
    CHECK.check_schema(table_schema())
    for part in (table_schema(), *table_schema()["$defs"].values()):
        assert all(value["description"] for value in part["properties"].values())


@settings(max_examples=40, deadline=None)
@given(tables())
def test_every_table_fits(table: Table) -> None:
    """Whatever table there is, its document is valid by the schema."""
    CHECK.validate(_plain(table))
    CHECK.validate(_plain(_full()))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_the_schema_refuses_the_runtime_refuses(data: st.DataObject) -> None:
    """However one value of a table is changed or taken out: the runtime never reads what the schema calls wrong."""
    document = _plain(_full())
    places = list(_places(document))
    parent, key = data.draw(st.sampled_from(places))
    value = data.draw(
        st.sampled_from([None, "", "x", -1, 0, 1, 0.5, 10**30, True, [], [0.1], {}, {"x": "y"}, "unknown", "faster"])
    )
    if data.draw(st.booleans()):
        parent[key] = value
    elif isinstance(parent, dict):
        del parent[key]
    else:
        parent.append(copy.deepcopy(value))
    if isinstance(document.get("digest"), str):
        document["digest"] = digest_of(document)
    if not CHECK.is_valid(document):
        with pytest.raises(TableError):
            read_table(json.dumps(document), "t.yaml")


def test_a_mistake_is_found_where_it_is() -> None:
    """An unknown key, a word that is none, a band without its reason: each is told with its place."""
    for path, value, words in (
        (("cells", 0, "bands", 0, "why"), "fast", "is not one of"),
        (("cells", 0, "measured_from"), "16 B", "is not of type"),
        (("platform", "arch"), "gfx942", "Additional properties"),
    ):
        document = _plain(_full())
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        (problem,) = CHECK.iter_errors(document)
        assert words in problem.message


def _plain(table: Table) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(document_of(table)))
    return plain


def _places(value: Any) -> Any:
    """Every mapping or list with each of its keys or indices."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(steps):
        yield value, key
        yield from _places(child)
