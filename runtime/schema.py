"""From a table's text to a `Table`: the strict reading of schema ccl-dispatch/table/v1.

Nothing is guessed: a value that is missing, misspelt, of another type or in contradiction with another one is an error
that names file, line and key. What the cells must hold is in `cells.py`.
"""

from __future__ import annotations

from ccl_dispatch.runtime.cells import read_cell
from ccl_dispatch.runtime.digest import UNKNOWN, digest_of
from ccl_dispatch.runtime.document import Node, Reader, check_schema, describe, parse
from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.table import SCHEMA, SIZE_UNIT, CellTable, Platform, Policy, Table
from ccl_dispatch.runtime.telling import warn_once
from ccl_dispatch.runtime.vocabulary import PROVENANCES, TIMINGS, Cell

MAX_CANDIDATES = 64
# Smaller texts are read sooner by libyaml than `canonical.py` is made ready.
WORTH_CHARACTERS = 16 * 1024

_KEYS = (
    "schema",
    "name",
    "generated_by",
    "provenance",
    "size_unit",
    "baseline",
    "candidates",
    "platform",
    "policy",
    "cells",
    "evidence",
    "digest",
)


def read_table(text: str, source: str, edited: str = "refuse") -> Table:
    """The table that `text` holds.

    Args:
        text: YAML of schema ccl-dispatch/table/v1.
        source: its file name, for messages and for `Table.source`.
        edited: `refuse`, or `warn` to take a table whose digest does not belong to it, under the digest that does.

    Raises:
        TableError: the text is not a valid table, or its digest says that it was changed after it was made.
    """
    if len(text) >= WORTH_CHARACTERS:
        from ccl_dispatch.runtime.canonical import parse_canonical

        root = parse_canonical(text, source)
        if root is not None:
            try:
                return _read(root, source)
            except TableError:
                pass  # its places are not those of the file: what is wrong is found and told below
    root = parse(text, source, TableError)
    try:
        return _read(root, source, edited)
    except TableError as problem:
        words = "" if problem.key == "schema" else _of_another_version(root)
        if not words:
            raise
        fix = f"{problem.fix}{'' if problem.fix.endswith('?') else '.'} {words}" if problem.fix else words
        raise TableError(problem.problem, source=source, line=problem.line, key=problem.key, fix=fix) from None


def _of_another_version(root: Node) -> str:
    """What to do where another version wrote the table, which may know what this one does not; empty where none did."""
    from ccl_dispatch.runtime.version import version

    told = root.value.get("generated_by") if isinstance(root.value, dict) else None
    writer, own = str(told.value) if told is not None else "", f"ccl-dispatch {version()}"
    if not writer.startswith("ccl-dispatch ") or not writer.isprintable() or writer == own:
        return ""
    return f"{writer[:60]} wrote the table, this is {own}: use that version, or rebuild the table with this one"


def _read(root: Node, source: str, edited: str = "refuse") -> Table:
    check_schema(
        root,
        SCHEMA,
        TableError,
        "Use the version of ccl-dispatch that wrote the table, or rebuild the table with this one",
    )
    top = Reader(root, _KEYS, TableError)
    top.need("schema")
    baseline = top.text(top.need("baseline"))
    candidates = _candidates(top, baseline)
    size_unit = top.need("size_unit")
    if size_unit.value != SIZE_UNIT:
        raise top.fail(
            size_unit, f"found {describe(size_unit)}, expected {SIZE_UNIT}", "Sizes are bytes of input per rank"
        )
    policy = _policy(top.need("policy"))
    table = Table(
        name=top.text(top.need("name")),
        generated_by=top.text(top.need("generated_by")),
        provenance=top.choice(top.need("provenance"), PROVENANCES),
        baseline=baseline,
        candidates=candidates,
        platform=_platform(top.need("platform")),
        policy=policy,
        cells=_cells(top, (baseline, *candidates), baseline, policy.min_gain),
        evidence=Reader(top.need("evidence"), _names(top, "evidence"), TableError).node.plain(),
        digest=top.text(top.need("digest")),
        source=source,
    )
    expected = digest_of(root.plain())
    if table.digest != expected:
        problem = top.fail(
            top.need("digest"),
            f"found {table.digest[:80]}, expected {expected}: the file was edited after it was made",
            "Rebuild it from its samples with `ccl-dispatch build`",
        )
        if edited != "warn":
            raise problem
        warn_once(f"taken as it is, because $CCL_DISPATCH_EDITED says so: {problem}")
        return table._replace(digest=expected)
    return table


def _names(top: Reader, key: str) -> tuple[str, ...]:
    """The keys that stand under `key`, whatever they are; none when it is not a mapping."""
    value = top.need(key).value
    return tuple(value) if isinstance(value, dict) else ()


def _candidates(top: Reader, baseline: str) -> tuple[str, ...]:
    nodes = top.items(top.need("candidates"))
    if len(nodes) > MAX_CANDIDATES:
        raise top.fail(top.need("candidates"), f"{len(nodes)} candidates, at most {MAX_CANDIDATES} are read")
    names: list[str] = []
    for node in nodes:
        name = top.text(node)
        if name == baseline:
            raise top.fail(node, f"the baseline {name!r} is also a candidate", "Take it out of the candidates")
        if name in names:
            raise top.fail(node, f"candidate {name!r} is given twice", "Keep one of the two")
        names.append(name)
    return tuple(names)


def _platform(node: Node) -> Platform:
    reader = Reader(node, Platform._fields, TableError)
    words = {key: _known(reader.text(reader.need(key))) for key in ("device_type", "architecture", "device", "link")}
    count = reader.need("device_count")
    return Platform(
        **words,
        device_count=0 if count.value == UNKNOWN else reader.integer(count, minimum=1),
        versions={key: _known(value) for key, value in _texts(reader, "versions").items()},
        settings=_texts(reader, "settings"),
    )


def _known(word: str) -> str:
    return "" if word == UNKNOWN else word


def _texts(reader: Reader, key: str) -> dict[str, str]:
    node = reader.need(key)
    texts = {}
    for name, child in Reader(node, _names(reader, key), TableError).node.value.items():
        if not isinstance(child.value, str):
            raise reader.fail(child, f"found {describe(child)}, expected text", "Put it in quotes")
        texts[name] = child.value
    return texts


def _policy(node: Node) -> Policy:
    reader = Reader(node, Policy._fields, TableError)
    confidence = reader.need("confidence")
    return Policy(
        min_gain=reader.number(reader.need("min_gain"), minimum=0),
        confidence=reader.number(confidence, minimum=0, maximum=1),
        timing=reader.choice(reader.need("timing"), TIMINGS),
    )


def _cells(top: Reader, backends: tuple[str, ...], baseline: str, min_gain: float) -> tuple[CellTable, ...]:
    cells: list[CellTable] = []
    first_lines: dict[Cell, int] = {}
    for node in top.items(top.need("cells")):
        cell = read_cell(node, backends, baseline, min_gain)
        if cell.cell in first_lines:
            raise top.fail(
                node,
                f"cell {cell.cell.name} is given twice, first in line {first_lines[cell.cell]}",
                "Keep one of the two",
            )
        first_lines[cell.cell] = node.line
        cells.append(cell)
    return tuple(cells)
