"""The page about every verb, from the parsers themselves: arguments, defaults, an example, exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ccl_dispatch.tuner.cli import VERBS, meaning_of_1, parser_of
from ccl_dispatch.tuner.cli.exit_codes import EXIT_CODES

_HEAD = """\
# Every command

Written by `ccl-dispatch schema --of commands --page` from the command line itself; `ccl-dispatch VERB --help` prints
the same. Data goes to standard output, progress and logs to standard error. With `--json` the data is one JSON value,
also where the answer is no; with exit code 2, and where something failed before there was an answer, there is none. New
keys may come, so a reader passes over what it does not know.

| exit code | meaning |
| --- | --- |
"""


def commands_page() -> str:
    """The whole page, as Markdown."""
    lines = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    for verb in VERBS:
        lines += ["", *_verb_lines(verb)]
    return _HEAD + "\n".join(lines) + "\n"


def _verb_lines(verb: str) -> Iterator[str]:
    parser, module = parser_of(verb)
    yield f"## {verb}"
    yield ""
    yield f"{_sentence(VERBS[verb][1])}"
    yield ""
    yield "| argument | meaning |"
    yield "| --- | --- |"
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask for them
        if not isinstance(action, argparse._HelpAction):  # noqa: SLF001 - nor a public name for --help
            yield f"| {_argument(action)} | {_meaning(action)} |"
    yield ""
    examples = [f"`{' '.join(line.split())}`" for line in module.EXAMPLE.splitlines()]
    yield f"{'Example' if len(examples) == 1 else 'Examples'}: {', '.join(examples)}"
    if no := meaning_of_1(module):
        yield ""
        yield f"Exit code 1: {no}."


def _argument(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else ""
    if not value and action.choices:
        value = action.dest.upper()
    if not action.option_strings:
        return f"`{value or action.dest}`"
    return f"`{action.option_strings[-1]}{f' {value}' if action.nargs != 0 and value else ''}`"


def _meaning(action: argparse.Action) -> str:
    found = (action.help or "") % {"default": action.default}
    parts = [_escaped(found)] if found else []
    if action.choices:
        parts.append("one of " + ", ".join(f"`{choice}`" for choice in action.choices))
    if isinstance(action, argparse._AppendAction):  # noqa: SLF001 - as above
        parts.append("may be given several times")
    elif action.nargs in {"+", "?"}:
        parts.append("one or more" if action.nargs == "+" else "optional")
    if action.option_strings and action.required:
        parts.append("needed")
    if action.default not in (None, False, "", 0, []) and "default" not in found:
        parts.append(f"default: `{action.default}`")
    return "; ".join(parts)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _escaped(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")
