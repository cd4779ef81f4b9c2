"""Strict YAML: what is taken, with its place; and each thing alone that plain data does not need, refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.document import MAX_BYTES, MAX_DEPTH, MAX_PATH, Node, Reader, describe, parse
from ccl_dispatch.runtime.errors import DocumentError

_SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300)
_WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)
_TREES = st.recursive(
    _SCALARS | st.text(st.characters(max_codepoint=0xD7FF), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=8,
)


def _block(value: Any, key: str, depth: int, lines: list[str], places: dict[str, int]) -> None:
    """`value` as a block, a line for each thing in it; and the line of each by its path."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in items:
        whole = f"{key}[{name}]" if isinstance(value, list) else f"{key}.{name}" if key else str(name)
        lead = "  " * depth + ("-" if isinstance(value, list) else f"{json.dumps(name)}:")
        if isinstance(child, (dict, list)) and child:
            lines.append(lead)
            places[whole] = len(lines) + isinstance(value, list)
            _block(child, whole, depth + 1, lines, places)
        else:
            lines.append(f"{lead} {json.dumps(child)}")
            places[whole] = len(lines)


def _places(node: Node) -> dict[str, int]:
    found = {node.key: node.line} if node.key else {}
    children = node.value.values() if isinstance(node.value, dict) else node.value
    for child in children if isinstance(node.value, (dict, list)) else ():
        found |= _places(child)
    return found


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(_WORDS, _TREES, min_size=1, max_size=3), st.integers(0, 3))
def test_every_value_comes_back_with_its_line_and_its_key(tree: dict[str, Any], above: int) -> None:
    """For any plain data in block layout: the same values of the same types, each under its path, in the line of its
    key, or of a list's item.
    """
    lines = ["# a comment"] * above
    expected: dict[str, int] = {}
    _block(tree, "", 0, lines, expected)
    found = parse("\n".join(lines), "made.yaml")
    assert repr(found.plain()) == repr(tree)
    assert _places(found) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("off", "yes", "True", "NULL", "0x1", "1_000", "1:30", ".inf", "nan", ".", "+")),
        *(("true", True), ("false", False), ("null", None), ("~", None), ("", None)),
        *(("010", 10), ("+7", 7), ("-0", 0), ("1" * 30, int("1" * 30))),
        *(
            (".5", 0.5),
            ("1.", 1.0),
            ("1e3", 1000.0),
            ("-1.5E-3", -0.0015),
            ("1e-400", 0.0),
            ("1e", "1e"),
            ("--1", "--1"),
        ),
        *(('"1"', "1"), ("'off'", "off"), ('"~"', "~")),
    ],
)
def test_few_words_and_decimal_numbers_are_values(text: str, value: Any) -> None:
    """`true`, `false`, `null`, `~` and what is written in decimals; all else is text, and in quotes everything is."""
    found = parse(f"a: {text}", "").plain()["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a: &x b", 1, "anchors and tags"),
        ("a: 1\nb: !!str 1", 2, "anchors and tags"),
        ("a: &x\n  b: 1", 1, "anchors and tags"),
        ("a:\n  - !!set {}", 2, "anchors and tags"),
        ("a: &x [1]", 1, "anchors and tags"),
        ("a: 1\nb: [*a]", 2, "aliases are not allowed"),
        ("a: 1\nb: 2\na: 3", 3, "a: key given twice"),
        ("a: {b: 1, b: 2}", 1, "a.b: key given twice"),
        ("a: 1\n---\nb: 2", 3, "more than one document"),
        ("1: a", 1, "a key must be a word, found 1"),
        ("a: 1\n[b]: 2", 2, "a key must be a word"),
        ("a: 1\nb: " + "1" * 31, 2, "a number of 31 digits"),
        ("a: 1e999", 1, "a number too large to keep: 1e999"),
        ("a: -1e999", 1, "a number too large to keep: -1e999"),
        ("", 1, "the file is empty"),
        ("# nothing", 1, "the file is empty"),
        ("a: b\nc: \x07", 2, "not YAML"),
        ("a: b\nc: [", 3, "not YAML"),
        ("a: b\nc: \ud800", 2, "half a character"),
        ("a: " + " " * MAX_BYTES, 1, f"{MAX_BYTES + 3} characters, more than the {MAX_BYTES} that are read"),
        ("\n" + "k" * (MAX_PATH + 1) + ": 1", 2, f"a key of {MAX_PATH + 1} characters"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_plain_data_does_not_need_is_refused_in_its_line(text: str, line: int, told: str) -> None:
    """Each alone, with the line that it stands in."""
    with pytest.raises(DocumentError) as found:
        parse(text, "made.yaml")
    assert told in str(found.value)
    assert (found.value.source, found.value.line) == ("made.yaml", line)


def test_depth_and_paths_are_bounded() -> None:
    """So many levels, and so long a path, are read; one more is refused before anything recurses."""
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse(deep, "").plain() is not None
    with pytest.raises(DocumentError, match=f"nested deeper than {MAX_DEPTH} levels"):
        parse(f"[{deep}]", "")
    assert parse("k" * MAX_PATH + ": 1", "").plain() == {"k" * MAX_PATH: 1}


def _reader(value: Any) -> tuple[Reader, Node]:
    reader = Reader(parse(json.dumps({"a": value}), ""), ("a",), DocumentError)
    return reader, reader.need("a")


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([-1, 0, 1, 2, 3, -0.5, 0.0, 1.5, 2.0, True, None, "1", [], {}]), st.data())
def test_numbers_are_taken_within_their_bounds_alone(value: Any, data: st.DataObject) -> None:
    """For any value and bounds: a whole number, or any number, within them, both included; a truth is neither."""
    minimum, maximum = (data.draw(st.sampled_from([None, 0, 1, 2])) for _ in range(2))
    kind = data.draw(st.sampled_from([int, float]))
    reader, node = _reader(value)
    read = reader.integer if kind is int else reader.number
    within = type(value) in ((int,) if kind is int else (int, float)) and (
        (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
    )
    if within:
        found = read(node, minimum, maximum)
        assert (found, type(found)) == (value, kind)
    else:
        with pytest.raises(DocumentError, match=r"^<text>:1: a: found |a: found "):
            read(node, minimum, maximum)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_number_is_finite(number: float) -> None:
    """However it came into the document."""
    reader, node = _reader(0)
    with pytest.raises(DocumentError, match="expected a finite number"):
        reader.number(node._replace(value=number))


def test_what_was_found_is_told_in_bounded_words() -> None:
    """A mapping, a list and nothing by their kind, all else as it stands, 60 characters at most."""
    _, node = _reader(None)
    told: dict[str, Any] = {"a mapping": {}, "a list": [], "nothing": None, "1.5": 1.5, "'a'": "a"}
    assert [describe(node._replace(value=value)) for value in told.values()] == list(told)
    assert describe(node._replace(value="b" * 58)) == repr("b" * 58)
    assert describe(node._replace(value="b" * 59)) == f"'{'b' * 56}..."
