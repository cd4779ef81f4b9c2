"""The cells of a table exactly as `ccl-dispatch` writes them, read at the speed of C.

libyaml's events take a large table longer to build than everything else together. What the emitter writes is a small
and regular part of YAML, though, which one regular expression recognises to the letter; that part is turned into JSON
and read as such. Anything else, be it one space more, is not recognised, and `document.py` reads it. The two give the
same values for every text that is recognised: a test holds them against each other on a hundred thousand mutated
tables. Places in the file are not kept; whoever finds something wrong reads the text again by `document.py`.
"""

from __future__ import annotations

import json
import re
from typing import Any

# No more than this much of YAML: ASCII; plain words that begin with a letter; numbers as JSON writes them, short enough
# to be plain numbers in both; quoted text without escapes and `#`; flow lists and mappings of these, in one line.
_WORD = r"[A-Za-z_][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./+-]+)*"
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:e[+-][0-9]{1,2})?"
_QUOTED = r'"[ !$-\[\]-~]*"'
_ATOM = rf"(?:{_NUMBER}(?=[,\]}}\n]|  #)|{_WORD}|{_QUOTED})"
_KEY = r"[a-z_]{1,40}"
_NUMBERS = rf"\[(?:{_NUMBER}(?:, |(?=\])))*\]"
_PAIR = rf"{_KEY}:(?: (?:{_ATOM}|{_NUMBERS}))?"
# A line of a cell, or a row of one of its lists. How lines follow each other, and that a comma is followed by
# something, is left to JSON, which has no meaning for what YAML would take otherwise.
_CELLS = rf"(?:(?:(?:\n  - |    ){_PAIR}|      - \{{(?:{_PAIR}(?:, |(?=\}})))+\}})(?:  #[ -~]*)?\n)+"

_compiled: list[re.Pattern[str]] = []


def split_cells(text: str) -> tuple[str, list[Any]] | None:
    """The text with `cells: []` in the place of its cells, and the cells as plain data; None when they are not to the
    letter what the emitter writes.
    """
    begin = text.find("\ncells:\n\n  - ")
    if begin < 0 or not text.isascii():
        return None
    begin += len("\ncells:\n")
    end = text.find("\n\n", text.rfind("\n    ", begin))
    if end < 0:
        return None
    cells = text[begin : end + 1]
    if not _compiled:
        _compiled.extend(re.compile(part) for part in (_CELLS, r"  #[ -~]*\n", f"({_WORD})", f"({_QUOTED})"))
    whole, comment, word, quoted = _compiled
    if whole.fullmatch(cells) is None:
        return None
    try:
        found = json.loads(_as_json(cells, comment, word, quoted), object_pairs_hook=_mapping)
    except ValueError:
        return None
    return f"{text[: begin - 1]} []\n{text[end + 1 :]}", found


def _as_json(cells: str, comment: re.Pattern[str], word: re.Pattern[str], quoted: re.Pattern[str]) -> str:
    """The recognised text as JSON: quotes around words, brackets and commas in the place of indentation."""
    text = comment.sub("\n", cells)
    # Every second part is quoted text, which stays.
    parts = quoted.split(text)
    parts[::2] = [_quote(part, word) for part in parts[::2]]
    text = "".join(parts)
    text = text.replace(":\n      - {", ": [{").replace("}\n      - {", "}, {")
    text = text.replace("}\n    ", "}],\n").replace("}\n\n", "}]\n\n")
    text = text.replace("\n\n  - ", "},\n{").replace("\n    ", ",\n")
    text = text.removeprefix("\n")
    return f"[{{{text.removeprefix('  - ')}}}]"


def _quote(text: str, word: re.Pattern[str]) -> str:
    # What is between words and the words take turns: a quote between all of them is one on each side of every word.
    text = '"'.join(word.split(text))
    if '"e-' in text or '"e+' in text:
        # The exponent of a number is no word; to look out for it at each letter would take as long as all the rest.
        text = re.sub(r'(?<=[0-9])"(e[+-]?[0-9]+)"', r"\1", text)
    for name in ("true", "false", "null"):
        text = text.replace(f': "{name}"', f": {name}")
    return text


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("key given twice")
    return found
