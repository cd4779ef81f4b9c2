"""What a table may not say: every contradiction is refused with its key, even when the digest agrees with it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import BASELINE, CANDIDATES, make_cell, make_table, tables

from ccl_dispatch.runtime.digest import digest_of, document_of
from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.schema import read_table
from ccl_dispatch.runtime.table import Band, CellTable, Exclusion, Override, Policy, Table
from ccl_dispatch.runtime.version import version
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import render, seal

AITER = CANDIDATES[0]
CELL = Cell("all_gather", "eager", "first", "bfloat16", 4)
TABLE = make_table((make_cell(CELL, 16, [64, 1024], [AITER, BASELINE]),))

Change = Callable[[dict[str, Any]], None]


def _read(document: dict[str, Any]) -> Table:
    """Read `document` as JSON, which is YAML too, under the digest that belongs to it."""
    document["digest"] = digest_of(document)
    return read_table(json.dumps(document, indent=1), "made.yaml")


def _set(*path: str | int, to: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


def _drop(*path: str | int) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


BAND = ("cells", 0, "bands", 0)
OVERRIDE = {"size": 64, "shape": [32], "use": BASELINE, "against": AITER, "gain": 0.1, "interval": [0, 1], "samples": 9}
EXCLUSION = {"backend": AITER, "reason": "wrong_output", "low": 32, "high": 32, "detail": "rank 1"}


@pytest.mark.parametrize(
    ("change", "key", "told"),
    [
        (_set("schema", to="ccl-dispatch/table/v2"), "schema", "version of ccl-dispatch"),
        (_set("size_unit", to="total_output_bytes"), "size_unit", "bytes of input per rank"),
        (_set("provenance", to="guessed"), "provenance", "measured"),
        (_set("candidates", to=[BASELINE]), "candidates[0]", "baseline"),
        (_set("candidates", to=[AITER, AITER]), "candidates[1]", "twice"),
        (_set("policy", "confidence", to=1.5), "policy.confidence", "at most 1"),
        (_set("policy", "min_gain", to=-0.1), "policy.min_gain", "at least 0"),
        (_set("platform", "versions", "torch", to=2.13), "platform.versions.torch", "quotes"),
        (_set("platform", "device_count", to=-1), "platform.device_count", "at least"),
        (_set("cells", 0, "world_size", to=True), "world_size", "whole number"),
        (_set("cells", 0, "measured_from", to=0), "measured_from", "at least 1"),
        (_set("cells", 0, "measured_to", to=2048), "bands[1].up_to", "measured_to, 2048"),
        (_set("cells", 0, "bands", to=[]), "bands", "no bands"),
        (_set(*BAND, "up_to", to=-16), "bands[0].up_to", "at least 1"),
        (_set(*BAND, "up_to", to="nan"), "bands[0].up_to", "whole number"),
        (_set(*BAND, "gain", to=".nan"), "bands[0].gain", "expected a number"),
        (_set(*BAND, "up_to", to=1024), "bands[1].up_to", "more than the band before"),
        (_set(*BAND, "up_to", to=8), "bands[0].up_to", "measured_from"),
        (_set(*BAND, "use", to="aitre"), "bands[0].use", "'aiter'"),
        (_set(*BAND, "against", to=AITER), "bands[0].against", "itself"),
        (_set(*BAND, "why", to="tie"), "bands[0].use", "baseline"),
        (_set(*BAND, "why", to="likely"), "bands[0].why", "proven gain"),
        (_drop(*BAND, "gain"), "bands[0].gain", "missing"),
        (_set(*BAND, "gain", to=-1), "bands[0].gain", "more than -1"),
        (_set(*BAND, "interval", to=[0.3, 0.2]), "bands[0].interval", "lower bound first"),
        (_set(*BAND, "interval", to=[0.3]), "bands[0].interval", "two bounds"),
        (_set(*BAND, "samples", to=-1), "bands[0].samples", "at least 0"),
        (_set("cells", 0, "crossovers", 0, "above", to=AITER), "crossovers[0]", "no two bands"),
        (_set("cells", 0, "crossovers", 0, "high", to=32), "crossovers[0].high", "at least"),
        (_set("cells", 0, "exclusions", to=[EXCLUSION]), "exclusions[0]", "uses it"),
        (_set("cells", 0, "overrides", to=[{**OVERRIDE, "size": 2048}]), "overrides[0].size", "at most 1024"),
        (_set("cells", 0, "overrides", to=[OVERRIDE, OVERRIDE]), "overrides[1].size", "twice"),
        (_set("cells", 0, "overrides", to=[{**OVERRIDE, "against": BASELINE}]), "overrides[0].against", "itself"),
        (_set("evidence", to=[]), "evidence", "expected a mapping"),
        (_drop("evidence"), "evidence", "missing"),
    ],
)
def test_a_contradiction_is_refused_with_its_key(change: Change, key: str, told: str) -> None:
    """Each rule of the schema, broken alone under a right digest, gives an error at its key that says what is meant."""
    document = json.loads(json.dumps(document_of(TABLE)))
    assert _read(document).cells == TABLE.cells
    change(document)
    with pytest.raises(TableError) as found:
        _read(document)
    assert found.value.key.endswith(key)
    assert found.value.line > 0
    assert told in str(found.value)


@pytest.mark.parametrize("rows", [1, 400])
def test_what_another_version_may_know_is_told_as_that(rows: int) -> None:
    """A word that this version does not know is no slip of the pen where another one wrote the table: both are named,
    in tables of any length, and not where this version or somebody else wrote it.
    """
    cells = tuple(make_cell(CELL._replace(world_size=ranks), 16, [1024], ["aiter"]) for ranks in range(1, rows + 1))
    told = []
    for writer in ("ccl-dispatch 99.1", f"ccl-dispatch {version()}", "a test"):
        text = render(seal(make_table(cells)._replace(generated_by=writer)))
        with pytest.raises(TableError, match=r"^t.yaml:[0-9]+: cells.0..bands.0..why: found 'fastest'") as caught:
            read_table(text.replace("why: faster", "why: fastest"), "t.yaml")
        told.append(str(caught.value).partition("Did you mean 'faster'?")[2])
    words = "wrote the table, this is ccl-dispatch"
    assert told == [
        f" ccl-dispatch 99.1 {words} {version()}: use that version, or rebuild the table with this one",
        "",
        "",
    ]


def test_a_cell_that_is_given_twice_is_refused_with_both_lines() -> None:
    """Two answers for one cell leave no way to choose: the error names the first and the second."""
    document = json.loads(json.dumps(document_of(TABLE)))
    document["cells"] *= 2
    with pytest.raises(TableError, match=r"cells\[1\]: cell all_gather/eager/first/bfloat16/ws4 .* first in line \d+"):
        _read(document)


def test_a_likely_candidate_stands_where_no_gain_is_asked_for() -> None:
    """With min_gain 0 a band may name a candidate that is ahead without proof and without an interval yet."""
    bands = (Band(1024, AITER, "likely", BASELINE, 0.1, None, 2, 6),)
    table = make_table((CellTable(CELL, 16, 1024, bands, (), (), (), (), None),))
    table = seal(table._replace(policy=Policy(0.0, 0.95, "isolated")))
    assert read_table(render(table), "") == table


def test_a_baseline_that_could_not_be_timed_is_still_the_baseline() -> None:
    """An exclusion of the baseline is kept and refuses no band: there is nothing else to use."""
    cell = TABLE.cells[0]._replace(exclusions=(Exclusion(BASELINE, "hung", 512, 512, ""),))
    table = make_table((cell,))
    assert read_table(render(table), "").cells[0].exclusions == cell.exclusions


def test_an_override_may_not_bring_an_excluded_candidate_back() -> None:
    """Where a candidate was wrong no workload shape may ask for it."""
    cell = TABLE.cells[0]._replace(
        exclusions=(Exclusion(AITER, "wrong_output", 512, 512, ""),),
        overrides=(Override(512, (256,), AITER, BASELINE, 0.1, (0.05, 0.2), 9),),
    )
    with pytest.raises(TableError, match="is excluded at 512"):
        read_table(render(make_table((cell,))), "")


HOSTILE = ["- ", "&a ", "*a ", "!!python/object:os.system ", "{" * 30, "[", "? ", ": ", "---\n", "\t", "\0", "\udcf6"]
HOSTILE += [".inf", "1e999", "-1", "9" * 40, "\n", '"', "#", "bands: []\n", "\x85", "\ufeff", ""]

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_EVIDENCE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(tables(), st.dictionaries(_TEXTS, _EVIDENCE, max_size=4), st.dictionaries(_TEXTS, _TEXTS, max_size=4))
def test_any_evidence_and_any_setting_survive_the_file(
    table: Table, evidence: dict[str, Any], settings_: dict[str, str]
) -> None:
    """Nested data, quotes, control characters and words that look like numbers come back as they were."""
    table = seal(table._replace(evidence=evidence, platform=table.platform._replace(settings=settings_)))
    assert read_table(render(table), "") == table


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_value_counts_in_the_digest(data: st.DataObject) -> None:
    """Whichever value of the document is changed, but for the generator's name, the digest is another one."""
    document = json.loads(json.dumps(document_of(TABLE)))
    before = digest_of(document)
    place: Any = document
    path: list[str | int] = []
    while isinstance(place, (dict, list)) and place:
        keys = range(len(place)) if isinstance(place, list) else [key for key in place if key != "digest"]
        path.append(data.draw(st.sampled_from(list(keys))))
        place = place[path[-1]]  # type: ignore[index]
    _set(*path, to=f"not {place!r}")(document)
    assert (digest_of(document) == before) == (path == ["generated_by"])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_pieces_put_in_or_taken_out_give_a_table_error_or_the_same_table(data: st.DataObject) -> None:
    """Hostile pieces (anchors, tags, control bytes, huge numbers) in any place never crash the reader."""
    text = render(TABLE)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.sampled_from([0, 0, 1, 30]))
        text = text[:place] + data.draw(st.sampled_from(HOSTILE)) + text[place + cut :]
    try:
        found = read_table(text, "made.yaml")
    except TableError as problem:
        assert problem.source == "made.yaml"  # noqa: PT017 - most texts are refused, and none need be
    else:
        assert found._replace(generated_by="", source="") == TABLE._replace(generated_by="", source="")


def test_what_a_machine_does_not_know_is_written_as_a_word() -> None:
    """An unknown value stands as `unknown` in the file, of the versions as well, and is unknown when it is read."""
    platform = TABLE.platform._replace(architecture="", device_count=0, versions={"rccl": "", "torch": "2.13"})
    table = seal(TABLE._replace(platform=platform))
    written = document_of(table)["platform"]
    assert (written["architecture"], written["device_count"]) == ("unknown", "unknown")
    assert written["versions"] == {"rccl": "unknown", "torch": "2.13"}
    assert read_table(render(table), "") == table


_PLAIN = st.recursive(
    st.sampled_from([0, 1, 2, 0.0, 1.0, 2.0, 0.5, 1.5, 1e16, 10**16, 1e22, True, False, None, "1", "1.0", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner),
    max_leaves=5,
)


def _same(one: Any, other: Any) -> bool:
    """Whether two documents say the same: a number is the same however it is written, and all else by its type."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    numbers = {type(one), type(other)} <= {int, float}
    return (numbers or type(one) is type(other)) and bool(one == other)


@settings(max_examples=150, deadline=None)
@given(_PLAIN, _PLAIN, _PLAIN)
def test_documents_have_one_digest_when_they_say_the_same(one: Any, other: Any, beside: Any) -> None:
    """Neither how a number is written nor the order of keys counts, and every other difference does, whatever stands
    beside it.
    """
    assert (digest_of({"a": one, "b": beside}) == digest_of({"b": beside, "a": other})) == _same(one, other)


def test_one_and_one_point_nought_are_one_value() -> None:
    """How a number is written does not change the digest, and neither does the order of keys."""
    assert digest_of({"a": 1, "b": [2.0]}) == digest_of({"b": [2], "a": 1.0})
    assert digest_of({"a": 1.0}) == digest_of({"a": 1})
    assert digest_of({"a": [{"b": 1e22, "c": 0.5}]}) == digest_of({"a": [{"c": 0.5, "b": 10**22}]})
    assert digest_of({"a": [1.0, {"b": 0.5}]}) != digest_of({"a": [1.0, {"b": 0.25}]})
    assert digest_of({"a": 1}) != digest_of({"a": True})
    assert digest_of({"a": 1}) != digest_of({"a": "1"})


@pytest.mark.parametrize(
    "document",
    [
        f'  ? "{"k" * 300_000}"\n  : [{"1," * 300}1]\n',
        "".join(f"  {' ' * level}{'k' * 1000}:\n" for level in range(13)) + f"{' ' * 20}- [{'1,' * 10_000}1]\n",
    ],
    ids=["one long key", "thirteen of a thousand letters"],
)
def test_long_keys_above_a_long_list_take_no_more_memory_than_the_file(document: str) -> None:
    """A key's path is bounded, and with it the places of all values under it: these files of 0.3 and 0.03 MB took 90
    and 130 MB, one of 4 MB as much as there is.
    """
    text = f"schema: ccl-dispatch/table/v1\nevidence:\n{document}"
    tracemalloc.start()
    try:
        with pytest.raises(TableError, match=r"made.yaml:3: evidence\.k+: a key of [0-9]+ characters"):
            read_table(text, "made.yaml")
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
