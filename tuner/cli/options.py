"""Options that several verbs share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ccl_dispatch.runtime.document import did_you_mean
from ccl_dispatch.runtime.errors import OutputError, UsageError
from ccl_dispatch.tuner.files import write_in_one_step


def check_spelling(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """End with the parser's usage, and the option that was meant, where a word is an option that there is not."""
    known = parser._option_string_actions  # noqa: SLF001 - argparse has no public way to ask for them
    positional = {f"--{action.dest}": action.metavar for action in parser._get_positional_actions()}  # noqa: SLF001
    for word in words:
        if word == "--":
            return
        name = word.partition("=")[0]
        # argparse too takes what has a space in it for no option.
        if name.startswith("--") and " " not in word and name not in known:
            meant = f"Give {positional[name]} alone" if name in positional else did_you_mean(name, known)
            parser.error(f"unrecognized arguments: {name}. {meant}".rstrip(". "))
    if not positional and (alone := _alone(known, words)) and "--storage" in known:
        parser.error(f"unrecognized arguments: {alone}. Did you mean '--storage {alone}'?")


def _alone(known: Mapping[str, argparse.Action], words: Sequence[str]) -> str:
    """The first word that is no option, nor what an option takes; empty where each is."""
    taken = False
    for word in words:
        if word.startswith("-"):
            taken = word in known and known[word].nargs is None
        elif not taken:
            return word
        else:
            taken = False
    return ""


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`: the answer for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_storage(parser: argparse.ArgumentParser) -> None:
    """`--storage` and `--study`: which samples are meant."""
    parser.add_argument("--storage", required=True, metavar="URL", help="a journal file, or any Optuna storage URL")
    parser.add_argument("--study", metavar="NAME", help="which study, when the storage has several")


def add_where(parser: argparse.ArgumentParser) -> None:
    """`--where COLUMN=VALUE`, several times: which rows of a measurement file are meant."""
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="take these rows only")


def where(options: argparse.Namespace) -> dict[str, str]:
    """The filters as a mapping.

    Raises:
        UsageError: one has no `=`.
    """
    filters = {}
    for text in options.where:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise UsageError(f"--where {text}: expected COLUMN=VALUE, such as platform=MI300X")
        filters[column] = value
    return filters


def print_json(data: Any) -> None:
    """Indented, in the order given; what standard output's encoding lacks as JSON's own escapes."""
    print(_json_text(data, sys.stdout.encoding or "utf-8"))


def write_json(data: Any, path: str) -> None:
    """Into a file, in one step.

    Raises:
        OutputError: it can't be written.
    """
    try:
        # UTF-8 lacks bytes that a file's name has and the locale can't read.
        write_in_one_step(path, _json_text(data, "utf-8") + "\n")
    except OSError as problem:
        raise OutputError(f"{path} can't be written: {problem.strerror or problem}") from problem


def _json_text(data: Any, encoding: str) -> str:
    text = json.dumps(data, indent=2, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(data, indent=2)
    return text
