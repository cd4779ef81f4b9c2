"""The page about every verb says what the parsers take, and the committed one is what is generated."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from pathlib import Path

import pytest

from ccl_dispatch.tuner.cli import VERBS, meaning_of_1, parser_of
from ccl_dispatch.tuner.cli.commands import commands_page

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"


def test_the_committed_page_is_what_is_generated() -> None:
    """After a change of any verb's arguments `make generated` was called, and its result committed."""
    assert PAGE.read_text(encoding="utf-8") == commands_page()


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_is_explained(verb: str) -> None:
    """No argument of the verb is without words, and each of its options stands in the page's section about it."""
    parser, _ = parser_of(verb)
    section = commands_page().partition(f"\n## {verb}\n")[2].partition("\n## ")[0]
    for action in parser._actions:
        assert action.help, action
        if not isinstance(action, argparse._HelpAction):
            assert all(f"`{option}" in section for option in action.option_strings[-1:]), action


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_is_taken(verb: str) -> None:
    """The verb's own parser takes each line of its example."""
    parser, module = parser_of(verb)
    for line in module.EXAMPLE.splitlines():
        words = shlex.split(line.partition(">")[0])
        assert words[:2] == ["ccl-dispatch", verb]
        assert parser.parse_args(words[2:]).run is module.run


@pytest.mark.parametrize("verb", VERBS)
def test_exit_code_1_is_explained_where_there_is_one(verb: str) -> None:
    """A verb that may end with 1 says what that means, and no other does."""
    _, module = parser_of(verb)
    may = re.search(r"^ +return (?:1$|1 if |.* else 1$)", inspect.getsource(module), flags=re.MULTILINE)
    assert bool(may) == bool(meaning_of_1(module))
