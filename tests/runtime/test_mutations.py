"""A few of the hundred thousand mutated tables that `make fuzz` reads; see tests/support/mutations.py for the rules."""

from __future__ import annotations

import re
import time

import pytest
from mutations import base, check, run

from ccl_dispatch.runtime.canonical import parse_canonical
from ccl_dispatch.runtime.digest import digest_of
from ccl_dispatch.runtime.document import parse


@pytest.mark.parametrize("fixed", [None, 7])
def test_no_mutation_breaks_a_rule(fixed: int | None) -> None:
    """Neither a seed that never was nor a fixed one finds a crash, a hang, an unsafe object, or a refusal without its
    line; whoever reads, the fast way or libyaml, reads the same.
    """
    # Asked for here and not as a parameter: processes that share the tests have to name them alike.
    seed = int(time.time()) if fixed is None else fixed
    totals = run(700, seed)
    assert totals["taken"] > 0, (seed, totals)
    assert totals["refused"] > 0, (seed, totals)


def test_the_emitters_own_tables_are_read_the_fast_way() -> None:
    """What `emit` writes, whole cells with every part, is recognised; a table without cells is left to libyaml."""
    with_cells = [text for text in base() if "\ncells:\n" in text]
    assert len(with_cells) == 2
    for text in with_cells:
        assert parse_canonical(text, "") is not None
        assert check(text.encode()) == "taken"


def test_cells_within_quoted_text_are_no_cells() -> None:
    """Cells that stand in a text of several lines are text, whatever their digest: libyaml's cells are those read."""
    whole, *others = base()
    assert "\ncells: []\n" in others[-1]
    begin, end = whole.index("\ncells:\n"), whole.index("\nevidence:")
    decoy = re.sub('"[^"]*"', "x", whole[begin:end])
    for other in others:
        quoted = other.replace("name: made\n", f'name: "text\n{decoy}\nmore text"\n', 1)
        assert quoted != other
        document = parse(quoted, "").plain()
        sealed = quoted.replace(document["digest"], digest_of(document))
        assert check(sealed.encode()) == "taken"
