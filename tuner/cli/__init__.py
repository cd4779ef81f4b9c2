"""The command line: `ccl-dispatch <verb>`. Data goes to standard output, progress and logs to standard error.

A verb is a module of this package with `EXAMPLE`, `configure(parser)` and `run(options)`, which returns the exit code.
Where that may be 1, `NO` says what it then means.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from types import ModuleType

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import CclDispatchError, UsageError
from ccl_dispatch.runtime.version import version
from ccl_dispatch.tuner import interrupts
from ccl_dispatch.tuner.cli.exit_codes import exit_code
from ccl_dispatch.tuner.cli.options import check_spelling
from ccl_dispatch.tuner.cli.streams import unbreakable_streams

# Verb: module, and what it does. Its module is imported when the verb is used: `show` needs no torch and no optuna.
VERBS = {
    "doctor": ("doctor", "what this machine can measure, and why not the rest"),
    "sweep": ("sweep", "measure, search, fit, and write a table; continues an interrupted study by itself"),
    "build": ("build", "rebuild the table from stored samples, without measuring"),
    "import": (
        "importing",
        "bring measurements from elsewhere (CSV, logs of rccl-tests, nccl-tests, SGLang) into a study",
    ),
    "export": ("export", "write the samples of a study as a measurement CSV"),
    "show": ("show", "print a table, one line per cell; --details: one per band"),
    "explain": ("explain", "answer one call, with the reasons"),
    "report": ("report", "one HTML page with curves, bands and evidence; or the figures as pictures"),
    "diff": ("diff", "two tables: which calls change backend, and what that gains or costs"),
    "merge": ("merge", "join studies of one platform by their samples, or tables with different cells"),
    "fleet": ("fleet", "are the nodes that share a study alike? which differ beyond the noise"),
    "verify": ("verify", "is a table still right on this machine? Measures again; --update re-tunes what drifted"),
    "validate": ("validate", "check tables: form, sense, digest"),
    "schema": (
        "schema",
        "the format of tables, configs or events, as JSON Schema or as a page; a page of all commands",
    ),
    "evaluate": ("evaluate", "how far a table is from the best, on measurements that it has not seen"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code. Without arguments it is the command of this process, which then ends."""
    try:
        with interrupts.handled(), unbreakable_streams():
            return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt as problem:
        # A second one, while the first was answered; or one before or after all that counts.
        return exit_code(problem)
    finally:
        if arguments is None:
            interrupts.let_die()


def _run(words: list[str]) -> int:
    if not words:
        _parser("")[0].print_help(sys.stderr)
        return 2
    # Only the module of the verb that is used is imported; `--help` and a mistyped verb need none.
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    chosen = next((word for word in words if not word.startswith("-")), "")
    us = f"ccl-dispatch {chosen}".rstrip()
    try:
        if chosen and chosen not in VERBS:
            raise UsageError(f"there is no such verb. {nearest(chosen, (*VERBS, '--version'))}")
        # Inside, since importing a verb takes a moment too, in which somebody may press Ctrl-C.
        try:
            options = _parse(chosen, words)
        except SystemExit:
            sys.stdout.flush()  # what `--help` prints is a result as well
            raise
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        code: int = options.run(options)
        sys.stdout.flush()
    except CclDispatchError as problem:
        print(f"{us}: {problem}", file=sys.stderr)
        return exit_code(problem)
    except KeyboardInterrupt as problem:
        by = f" by {problem.number.name}" if isinstance(problem, interrupts.TerminatedError) else ""
        kept = "; completed points are kept, the same command continues" if chosen == "sweep" else ""
        print(f"interrupted{by}{kept}", file=sys.stderr)
        return exit_code(problem)
    except OSError as problem:
        # Of the machine, and not foreseen where it happened: a full disk, no more memory for a segment, a lost mount.
        print(f"{us}: {problem}", file=sys.stderr)
        return exit_code(problem)
    except UnicodeEncodeError as problem:
        if problem.encoding != sys.getfilesystemencoding():
            raise
        print(
            f"{us}: {problem.object!r} can't be the name of a file here: the locale's encoding of file "
            f"names, {problem.encoding}, lacks {problem.object[problem.start]!r}. Set LC_ALL=C.UTF-8 or "
            "PYTHONUTF8=1, or choose another name",
            file=sys.stderr,
        )
        return exit_code(problem)
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] == "ccl_dispatch":
            raise
        print(
            f"{us}: {problem.name} is not installed; this verb needs "
            f"pip install 'ccl-dispatch[{'report' if chosen == 'report' else 'tuner'}]'",
            file=sys.stderr,
        )
        return exit_code(problem)
    return code


def parser_of(verb: str) -> tuple[argparse.ArgumentParser, ModuleType]:
    """The parser of one verb alone, and the verb's module."""
    module = importlib.import_module(f"ccl_dispatch.tuner.cli.{VERBS[verb][0]}")
    parser = argparse.ArgumentParser(prog=f"ccl-dispatch {verb}", description=VERBS[verb][1], allow_abbrev=False)
    _configure(parser, module)
    return parser, module


def meaning_of_1(verb: ModuleType) -> str:
    """What exit code 1 of a verb's module means; empty for a verb that has no such answer."""
    return getattr(verb, "NO", "")


def _parse(chosen: str, words: list[str]) -> argparse.Namespace:
    """What the words ask for; a mistake ends with the usage of the chosen verb and exit code 2."""
    parser, verb = _parser(chosen)
    # Before a required option is missed that is there but misspelt.
    check_spelling(verb, words[words.index(chosen) + 1 :] if chosen else words)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        # argparse's own `parse_args` shows the usage of all verbs here.
        verb.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _parser(chosen: str) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser of the command line, and that of the chosen verb in it, or the first again where none is chosen."""
    # An abbreviation would change its meaning with the next option that begins alike; `--storag x` is a slip.
    parser = argparse.ArgumentParser(
        prog="ccl-dispatch",
        description="Measures implementations of a collective and writes tables of which to use where.",
        epilog="example: ccl-dispatch sweep cpu; ccl-dispatch VERB --help has the verb's own",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ccl-dispatch {version()}")
    own = parser
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (module_name, summary) in VERBS.items():
        formatter = argparse.RawDescriptionHelpFormatter
        sub = verbs.add_parser(verb, help=summary, description=summary, formatter_class=formatter, allow_abbrev=False)
        if verb != chosen:
            continue
        _configure(sub, importlib.import_module(f"ccl_dispatch.tuner.cli.{module_name}"))
        own = sub
    return parser, own


def _configure(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    no = meaning_of_1(module)
    parser.epilog = f"example: {module.EXAMPLE}" + (f"\nexit code 1: {no}" if no else "")
    module.configure(parser)
    parser.set_defaults(run=module.run)
