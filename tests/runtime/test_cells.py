"""What a cell may hold, to the byte: where exclusions and bands meet, the ends of every range, no part left out."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import BASELINE, CANDIDATES, make_cell, make_table

from ccl_dispatch.runtime import schema
from ccl_dispatch.runtime.cells import MAX_ITEMS, MAX_RANKS
from ccl_dispatch.runtime.digest import digest_of, document_of
from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.schema import MAX_CANDIDATES, read_table
from ccl_dispatch.runtime.table import CellTable, Exclusion, Override, Table, Tie
from ccl_dispatch.runtime.vocabulary import MAX_SIZE, Cell
from ccl_dispatch.tuner.emit.text import render

AITER, OTHER = CANDIDATES
CELL = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 4), 16, [64, 1024, 4096], [AITER, BASELINE, OTHER])
FULL = CELL._replace(
    ties=(Tie(AITER, 100, 900),),
    exclusions=(Exclusion(BASELINE, "hung", 512, 512, ""), Exclusion(AITER, "crashed", 2048, 4096, "signal 11")),
    overrides=(Override(512, (1, 256), AITER, BASELINE, 0.1, (0.05, 0.2), 9),),
)


def _document(cell: CellTable = FULL) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(document_of(make_table((cell,)))))
    return plain


def _read(document: dict[str, Any]) -> Table:
    """Read `document` as JSON, which is YAML too, under the digest that belongs to it."""
    document["digest"] = digest_of(document)
    return read_table(json.dumps(document), "made.yaml")


def _refused(document: dict[str, Any]) -> str:
    with pytest.raises(TableError) as found:
        _read(document)
    return found.value.key


_SPANS = ((16, 64, AITER), (65, 1024, BASELINE), (1025, 4096, OTHER))
_SIZES = (15, 16, 17, 63, 64, 65, 1024, 1025, 1026, 4095, 4096, 4097)


@pytest.mark.parametrize("backend", [BASELINE, AITER, OTHER])
@pytest.mark.parametrize("first", [None, BASELINE])
def test_no_band_uses_what_is_excluded_at_one_of_its_sizes(backend: str, first: str | None) -> None:
    """Wherever an exclusion begins and ends, and whatever stands before it: the cell is refused where one of its sizes
    would be run by a candidate that is excluded there, and else it is taken.
    """
    above = () if first is None else (Exclusion(first, "hung", 1, MAX_SIZE, ""),)
    for low, high in itertools.combinations_with_replacement(_SIZES, 2):
        exclusions = (*above, Exclusion(backend, "wrong_output", low, high, ""))
        document = _document(CELL)
        document["cells"][0]["exclusions"] = [item._asdict() for item in exclusions]
        used = [span for span in _SPANS if span[2] == backend != BASELINE]
        if any(size in range(start, end + 1) for start, end, _ in used for size in range(low, high + 1)):
            assert _refused(document).endswith(f".exclusions[{len(above)}]"), exclusions
        else:
            assert _read(document).cells == (CELL._replace(exclusions=exclusions),)


@pytest.mark.parametrize(
    ("path", "taken", "refused"),
    [
        (("world_size",), 1, 0),
        (("world_size",), MAX_RANKS, MAX_RANKS + 1),
        (("measured_from",), 1, 0),
        (("regret_estimate",), 0, -1),
        (("regret_estimate",), 0.0, -0.001),
        (("bands", 0, "points"), 0, -1),
        (("bands", 0, "samples"), 0, -1),
        (("bands", 0, "gain"), -0.999, -1.0),
        (("bands", 0, "interval"), [0.2, 0.2], [0.2, 0.1999]),
        (("bands", 0, "interval"), [-0.999, 0.3], [-1.0, 0.3]),
        (("crossovers", 0, "low"), 1, 0),
        (("crossovers", 0, "at"), 65, 66),
        (("ties", 0, "low"), 1, 0),
        (("ties", 0, "high"), 100, 99),
        (("ties", 0, "high"), MAX_SIZE, MAX_SIZE + 1),
        (("exclusions", 1, "low"), 4096, 4097),
        (("exclusions", 1, "detail"), "", 11),
        (("overrides", 0, "size"), 16, 15),
        (("overrides", 0, "samples"), 0, -1),
        (("overrides", 0, "shape", 0), 0, -1),
        (("ties",), [Tie(AITER, 1, 1)._asdict()] * MAX_ITEMS, [Tie(AITER, 1, 1)._asdict()] * (MAX_ITEMS + 1)),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_the_end_of_a_range_is_taken_and_the_next_value_is_not(path: tuple[Any, ...], taken: Any, refused: Any) -> None:
    """Each bound of a cell's values is where the format's page says, both ends included."""
    for value, right in ((taken, True), (refused, False)):
        document = _document()
        place = document["cells"][0]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        if right:
            assert json.loads(json.dumps(document_of(_read(document)))) == document
        else:
            assert path[0] in _refused(document)


def test_so_many_candidates_and_no_more() -> None:
    """The most candidates that a table may have are read; one more is refused before anything is compared with it."""
    names = [AITER, OTHER, *(f"more{number}" for number in range(MAX_CANDIDATES - 2))]
    assert _read({**_document(), "candidates": names}).candidates == tuple(names)
    assert _refused({**_document(), "candidates": [*names, "last"]}) == "candidates"


def _keys(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(value, dict):
            yield (*path, key)
        if isinstance(child, (dict, list)) and path[:1] != ("evidence",):
            yield from _keys(child, (*path, key))


def test_no_part_may_be_missing_and_none_is_lost() -> None:
    """Whichever key is taken out, the table is refused; but for what a machine has and what a band without a proof may
    leave out, and then what is left is read as it stands.
    """
    whole = _document()
    tie = whole["cells"][0]["bands"][1]
    tie["why"] = "tie"
    paths = list(_keys(whole))
    assert len(paths) > 70
    optional: set[tuple[str | int, ...]] = {("cells", 0, "bands", 1, key) for key in ("against", "gain")}
    optional |= {("cells", 0, "bands", number, "interval") for number in range(3)}
    optional |= {path for path in paths if path[:2] == ("platform", "versions") and len(path) == 3}
    optional |= {("evidence", "note")}
    assert optional < set(paths)
    for path in paths:
        document = copy.deepcopy(whole)
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
        if path in optional:
            assert json.loads(json.dumps(document_of(_read(document)))) == document, path
        elif path == ("digest",):
            with pytest.raises(TableError, match="digest: missing"):
                read_table(json.dumps(document), "made.yaml")
        else:
            assert _refused(document).endswith(str(path[-1])), path


@pytest.mark.parametrize("text", ["[]", "- schema: ccl-dispatch/table/v1", "text", "1.5", "~"])
def test_what_is_no_mapping_is_no_table(text: str) -> None:
    """A list, a word, a number or nothing is refused like any other text that is no table, with its line."""
    with pytest.raises(TableError, match=r"made\.yaml:1: .*expected a mapping"):
        read_table(text, "made.yaml")


_FIGURES = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.1, 0.2, 3.0])


@settings(max_examples=60, deadline=None)
@given(_FIGURES, st.tuples(_FIGURES, _FIGURES))
def test_the_fast_way_takes_no_figures_that_the_other_refuses(gain: float, interval: tuple[float, float]) -> None:
    """A gain and an interval that no measurement can have are refused in the emitter's own layout as well."""
    bands = (CELL.bands[0]._replace(gain=gain, interval=interval), *CELL.bands[1:])
    table = make_table((CELL._replace(bands=bands),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "WORTH_CHARACTERS", 0)
        if gain > -1 and -1 < interval[0] <= interval[1]:
            assert read_table(render(table), "") == table
        else:
            with pytest.raises(TableError, match=r"more than -1|lower bound first"):
                read_table(render(table), "")
