"""The cells of a table exactly as `ccl-dispatch` writes them, read at the speed of C.

libyaml's events take a large table longer to build than everything else together. What the emitter writes is a small
and regular part of YAML, though: keys in one order, one row per line. One regular expression takes a cell, one more
each kind of row, and what they find where a value belongs must be a scalar of the few kinds below, whose value is then
what `document.py` makes of it. Anything else, be it one space more, is not recognised, and `document.py` reads it. The
two give the same values for every text that is recognised: a test holds them against each other on a hundred thousand
mutated tables. Places in the file are not kept; whoever finds something wrong reads the text again by `document.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ccl_dispatch.runtime.document import Node, parse, scalar
from ccl_dispatch.runtime.errors import DocumentError
from ccl_dispatch.runtime.table import Band, CellTable, Crossover, Exclusion, Override, Tie
from ccl_dispatch.runtime.vocabulary import Cell

_KEYS = (*Cell._fields, *CellTable._fields[1:])
_ROWS = {
    "bands": Band._fields,
    "crossovers": Crossover._fields,
    "ties": Tie._fields,
    "exclusions": Exclusion._fields,
    "overrides": Override._fields,
}
_OPTIONAL = ("against", "gain", "interval")

# A plain scalar of YAML wherever it stands, or quoted text without escapes and `#`.
_SCALAR = r'-?[A-Za-z0-9_.][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./+-]+)*|"[ !$-\[\]-~]*"'
_END = r"(?:  #[ -~]*)?\n"
# What is in a row. The numbers are short enough to be plain ones; all else is for `_Values`.
_WHOLE = "[0-9]{1,18}"
_FLOAT = r"-?[0-9]{1,17}\.[0-9]{1,17}(?:e[+-][0-9]{1,2})?"
_WORD = r"([^,}\n]+)"
_IN_A_ROW = {
    **dict.fromkeys(("use", "why", "against", "below", "above", "backend", "reason"), _WORD),
    "detail": r'("[^"\n]*"|[^,}\n]+)',
    "gain": f"({_FLOAT})",
    "interval": rf"\[({_FLOAT}, {_FLOAT})\]",
    "shape": rf"\[({_WHOLE}(?:, {_WHOLE})*)\]",
}

_compiled: dict[str, re.Pattern[str]] = {}


class _Values(dict[str, Any]):
    """The value of each text that stood where a value belongs; most of a table's stand in it many times.

    Raises:
        ValueError: the text is no scalar that is read here.
        DocumentError: it is one that is refused.
    """

    def __missing__(self, text: str) -> Any:
        if _pattern("scalar").fullmatch(text) is None:
            raise ValueError(text)
        value = self[text] = text[1:-1] if text[0] == '"' else scalar(text, "", 0, DocumentError)
        return value


def parse_canonical(text: str, source: str) -> Node | None:
    """What `document.parse` gives, but with the cells as plain data and with other lines behind them.

    None when the cells are not to the letter what the emitter writes, or when what is beside them can't be read.
    """
    begin = text.find("\ncells:\n\n  - ")
    if begin < 0 or not text.isascii():
        return None
    begin += len("\ncells:\n")
    try:
        found, end = _cells(text, begin)
        # Behind them, the next key: nothing that could still belong to the last cell.
        if text[end : end + 1] != "\n" or not text[end + 1 : end + 2].islower():
            return None
        root = parse(f"{text[: begin - 1]} []\n{text[end + 1 :]}", source)
    except (ValueError, DocumentError):
        return None
    cells = root.value.get("cells") if isinstance(root.value, dict) else None
    # In another line there is another key of that name, and what was found here is quoted text of several lines.
    if cells is None or cells.value != [] or cells.line != text.count("\n", 0, begin):
        return None
    root.value["cells"] = cells._replace(value=found)
    return root


def _cells(text: str, begin: int) -> tuple[list[Any], int]:
    """The cells from `begin` on, and where they end."""
    pattern, values = _pattern("cell"), _Values()
    cells: list[Any] = []
    while match := pattern.match(text, begin):
        cells.append(
            {
                key: values[found] if key not in _ROWS else _rows(key, found, values) if found else []
                for key, found in zip(_KEYS, match.groups(), strict=True)
            }
        )
        begin = match.end()
    return cells, begin


def _rows(key: str, text: str, values: _Values) -> list[Any]:
    found = _pattern(key).findall(text)
    # Each match is one whole line: as many as there are lines is all of them.
    if len(found) != text.count("\n"):
        raise ValueError(text)
    readers: dict[str, Callable[[str], Any]] = {"gain": float, "interval": _floats, "shape": _wholes}
    word: Callable[[str], Any] = values.__getitem__
    whole: Callable[[str], Any] = int
    columns = [(name, readers.get(name, word if name in _IN_A_ROW else whole)) for name in _ROWS[key]]
    return [{name: read(item) for (name, read), item in zip(columns, row, strict=True) if item} for row in found]


def _floats(text: str) -> list[float]:
    return [float(item) for item in text.split(", ")]


def _wholes(text: str) -> list[int]:
    return [int(item) for item in text.split(", ")]


def _pattern(kind: str) -> re.Pattern[str]:
    # Compiling takes as long as reading many rows, and most tables have but one or two kinds.
    pattern = _compiled.get(kind)
    if pattern is None:
        text = _SCALAR if kind == "scalar" else _cell() if kind == "cell" else _row(_ROWS[kind])
        pattern = _compiled[kind] = re.compile(text, re.MULTILINE)
    return pattern


def _cell() -> str:
    lines = (
        rf"{key}:(?: \[\]\n|\n((?:      - [^\n]+\n)+))" if key in _ROWS else rf"{key}: ([^ \n]+){_END}" for key in _KEYS
    )
    return r"\n  - " + "    ".join(lines)


def _row(names: tuple[str, ...]) -> str:
    parts: list[str] = []
    for name in names:
        part = f"{', ' if parts else ''}{name}: {_IN_A_ROW.get(name, f'({_WHOLE})')}"
        parts.append(f"(?:{part})?" if name in _OPTIONAL and names is Band._fields else part)
    return rf"^      - \{{{''.join(parts)}\}}{_END}"
