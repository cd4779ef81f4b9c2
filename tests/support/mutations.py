"""Mutated tables by the thousand: what reading them must never do.

    python tests/support/mutations.py [COUNT]

A mutation changes bytes, puts hostile pieces in, moves or drops lines, or sets a value of the document to another one
and gives it the digest that belongs to it. For each text: no crash but a TableError, which names a line of the file;
no more than a second; no object but plain data; and the fast reading of `canonical.py`, where it takes the text, gives
exactly what libyaml gives. Prints the totals and the seed; ends with 1 at the first text that breaks a rule.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from typing import Any

from made_tables import BASELINE, CANDIDATES, make_cell, make_table

from ccl_dispatch.runtime import schema
from ccl_dispatch.runtime.canonical import parse_canonical
from ccl_dispatch.runtime.digest import digest_of
from ccl_dispatch.runtime.document import parse
from ccl_dispatch.runtime.errors import DocumentError, TableError
from ccl_dispatch.runtime.schema import read_table
from ccl_dispatch.runtime.table import Exclusion, Override, Table, Tie
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import render

SLOWEST_SECONDS = 1.0
_PLAIN = (str, int, float, bool, type(None))

PIECES = [
    *("- ", "&a ", "*a ", "!!python/object/apply:os.system [id] ", "!!binary ", "<<: ", "{" * 40, "[" * 40, "? ", ": "),
    *(
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "\t",
        "\0",
        "\x85",
        "\u2028",
        "\ufeff",
        ".inf",
        ".nan",
        "nan",
        "-1",
        "-0",
        "0x1",
    ),
    *("010", "1e999", "1_000", "9" * 40, "1" * 18, "1e5", "1.", ".5", "true", "null", "~", "yes", '"', "'", "#", "\n"),
    *("\n\n", "  ", "\n    ", "\n  - ", "\n      - {", "}", ", ", ", }", "[]", "{}", "bands: []\n", "rccl", "\\"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 15, 16, 17, 1 << 62, 1 << 70, 0.0, -0.0, 0.5, -1.0, 1e300, 1e-300, "", "rccl"),
    *("faster", "tie", "excluded", "likely", "no such word", "all_gather", "eager", "bfloat16", "unknown", "aiter"),
    *([], {}, [1, 2], [0.1, 0.2], {"a": 1}, [None], "cpu", "a" * 300),
]


def base() -> list[str]:
    """Texts of tables with every part, as the emitter writes them."""
    first, other = CANDIDATES
    cells = []
    for number, ranks in enumerate((2, 4, 8)):
        cell = make_cell(
            Cell("all_gather", "graph", "first", "bfloat16", ranks), 16, [64, 1024, 4096], [first, BASELINE, other]
        )
        cells.append(
            cell._replace(
                ties=(Tie(first, 100, 900),),
                exclusions=(Exclusion(other, "wrong_output", 16, 64, "" if number else "rank 1: bit 3"),),
                overrides=(Override(512, (256,), first, BASELINE, 0.1, (0.05, 0.2), 9),),
                regret_estimate=(1e-05, 0.25, None)[number],
            )
        )
    return [render(make_table(tuple(cells))), render(make_table(tuple(cells[1:]))), render(make_table(()))]


def mutate(text: str, chance: random.Random) -> bytes:
    """One to four changes."""
    if chance.random() < 0.3:
        return _change_document(text, chance).encode()
    data = text.encode()
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0 and place < len(data):
            data = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place] + data[place + chance.choice((1, 1, 2, 10, 100)) :]
        elif kind == 2:
            data = data[:place] + chance.choice(PIECES).encode() + data[place + chance.choice((0, 0, 1, 5)) :]
        else:
            lines = data.split(b"\n")
            first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
            if kind == 3:
                del lines[first]
            elif kind == 4:
                lines.insert(second, lines[first])
            else:
                lines[first], lines[second] = lines[second], lines[first]
            data = b"\n".join(lines)
    return data


def _change_document(text: str, chance: random.Random) -> str:
    """A value of the document replaced, in a text whose digest is right for it, in the emitter's layout or as JSON."""
    document = parse(text, "").plain()
    place: Any = document
    while True:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        child = place[key]
        if not isinstance(child, (dict, list)) or not child or chance.random() < 0.1:
            break
        place = child
    before, after = json.dumps(place[key]), chance.choice(VALUES)
    place[key] = after
    document["digest"] = digest_of(document)
    if chance.random() < 0.5 and isinstance(after, (int, float)) and before in text:
        # The same change in the text itself, so that it may still be read the fast way.
        spots = [at for at in range(len(text)) if text.startswith(f": {before}", at)]
        if spots:
            at = chance.choice(spots) + 2
            return text[:at] + repr(after) + text[at + len(before) :]
    return json.dumps(document, indent=1)


def check(data: bytes) -> str:
    """How reading the text ended; raises AssertionError when it broke a rule."""
    begun = time.perf_counter()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "not text"
    ends: list[Table | str] = []
    for worth in (0, 1 << 60):
        schema.WORTH_CHARACTERS = worth
        try:
            ends.append(read_table(text, "made.yaml"))
        except TableError as found:
            problem = found
        else:
            continue
        assert problem.source == "made.yaml", data
        assert 1 <= problem.line <= text.count("\n") + 2, (problem.line, str(problem), data)
        ends.append(str(problem))
    assert ends[0] == ends[1], (ends, data)
    fast = parse_canonical(text, "")
    if fast is not None:
        # Also where the table is refused: what the fast way takes is what libyaml takes.
        assert json.dumps(_parsed(text)) == json.dumps(fast.plain()), data
    assert time.perf_counter() - begun < SLOWEST_SECONDS, data
    if isinstance(ends[0], Table):
        _assert_plain(ends[0].evidence)
        return "taken"
    return "refused by the fast way's reader too" if fast is not None else "refused"


def _parsed(text: str) -> Any:
    try:
        return parse(text, "").plain()
    except DocumentError:
        return None


def _assert_plain(value: Any) -> None:
    if isinstance(value, (dict, list)):
        for child in [*value, *(value.values() if isinstance(value, dict) else ())]:
            _assert_plain(child)
    else:
        assert type(value) in _PLAIN, type(value)


def run(count: int, seed: int) -> Counter[str]:
    """Check `count` mutations."""
    chance = random.Random(seed)
    texts = base()
    kept = schema.WORTH_CHARACTERS
    try:
        return Counter(check(mutate(chance.choice(texts), chance)) for _ in range(count))
    finally:
        schema.WORTH_CHARACTERS = kept


def main() -> int:
    """The command."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    begun = time.monotonic()
    totals = run(count, seed=5)
    words = ", ".join(f"{number} {what}" for what, number in totals.most_common())
    print(f"{count} mutated tables, seed 5, {time.monotonic() - begun:.0f} s: {words}; no rule was broken")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
