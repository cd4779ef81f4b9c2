"""docs/operations.md quotes what is really said: each of its messages is brought about by a test."""

from __future__ import annotations

import re
from pathlib import Path

from sweeping import all_quotes

# Parts of a message shorter than that could be anywhere.
_TELLING = 12


def test_every_quoted_message_is_brought_about() -> None:
    """Each message on the page is asked for by a test here, or stands word for word in the code that says it."""
    root = Path(__file__).parents[2]
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    asked = re.findall(r'is_quoted\([\w.]+, "([^"]+)"\)', tests)
    code = "\n".join(path.read_text() for path in (root / "tuner").rglob("*.py"))
    # The literals of one message may stand on several lines.
    said = re.sub(r'"\s*\n\s*f?"', "", code)
    quotes = all_quotes()
    assert quotes
    for quote in quotes:
        if not any(quote.startswith(beginning) for beginning in asked):
            # What is filled in, and where one text ends that another one continues.
            parts = [part.strip(" :;()") for part in re.split(r"\.\.\.|[.:;] ", quote)]
            telling = [part for part in parts if len(part) >= _TELLING]
            assert telling, quote
            assert [part for part in telling if part not in said] == [], quote
