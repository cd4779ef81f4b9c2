"""What the pages tell people to type is typed here. `tests/support/pages.py` says what is run, and how a page says that
a block can't be.

Every page has a folder of its own, which holds what a reader has who came from the README: `my-cluster.yaml`, a small
config, measured twice by this machine just now, for all pages together (`runs/my-cluster`, `later.journal`); and in
`runs/cpu`, `runs/h100x2` and `runs/h200x2` what was once measured elsewhere (`tables/examples`, `docs/records`), so
that what is quoted about it can be compared to the letter.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
import yaml
from pages import ROOT, RUN_LANGUAGES, Block, blocks, pages, same, spans

from ccl_dispatch.tuner.cli import VERBS, parser_of
from ccl_dispatch.tuner.config.parsing import load_config

MY_CLUSTER = """\
name: my-cluster
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2, 4]
dtypes: [bfloat16]
sizes: {min: 1 KiB, max: 1 MiB, per_octave: 1}
workload: [{shape: [4, 32320], dtype: bfloat16}]
measure: {min_samples: 12, min_seconds: 0}
budget: {regret: 0.01, seconds: 2}
"""
EXAMPLE = ROOT / "tables" / "examples" / "x86_64-host_memory-2.yaml"
# Between the outputs of a block's commands; no program of ours prints it.
MARK = "\x01"
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each page's folder is a copy of; made once, also where tests run in several processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pages"
    with open(f"{folder}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            for record in ("h100x2", "h200x2"):
                shutil.copytree(ROOT / "docs" / "records" / record, folder / "runs" / record)
            (folder / "runs" / "cpu").mkdir()
            for kind, name in ((".yaml", "table.yaml"), (".journal", "study.journal"), (".later.csv", "later.csv")):
                shutil.copyfile(EXAMPLE.with_suffix(kind), folder / "runs" / "cpu" / name)
            (folder / "my-cluster.yaml").write_text(MY_CLUSTER, encoding="utf-8")
            for again in ("", "--storage later.journal --out later.yaml"):
                done = _shell(f"ccl-dispatch sweep my-cluster.yaml --quiet {again}", folder)
                assert done.returncode == 0, done.stdout
            (folder / "ready").touch()
    return folder


@pytest.mark.parametrize("page", pages())
def test_what_the_page_says_is_so(page: str, workplace: Path, tmp_path: Path) -> None:
    """Each block of the page runs and prints what is quoted below it, or says why it can't be run here."""
    folder = tmp_path / "reader"
    shutil.copytree(workplace, folder)
    for block in blocks(page):
        if block.language in RUN_LANGUAGES and not block.not_run:
            _run(block, folder)
        elif block.language in {"sh", "console"}:
            for command, _ in block.commands():
                _look_at(command, block.where)
        else:
            _read(block, folder)
    for span in spans(page):
        if span.startswith("ccl-dispatch ") and " " in span:
            _look_at_words(span, page)


def _run(block: Block, folder: Path) -> None:
    if block.language == "python":
        done = subprocess.run(
            [sys.executable, "-c", block.text],
            cwd=folder,
            env=_environment(folder),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in block.codes, f"{block.where}: {done.stderr}"
        return
    commands = block.commands()
    script = "\n".join(f"{command}\nprintf '\\n{MARK}%s\\n' $?" for command, _ in commands)
    printed = _shell(script, folder).stdout
    found = re.findall(rf"(.*?)\n{MARK}(\d+)\n", printed, flags=re.DOTALL)
    assert len(found) == len(commands), f"{block.where}: {printed}"
    for number, ((command, quoted), (output, code)) in enumerate(zip(commands, found, strict=True)):
        codes = block.codes if number == len(commands) - 1 else (0,)
        assert int(code) in codes, f"{block.where}: exit code {code} of\n{command}\n{output}"
        if block.language == "console" and block.compared:
            assert same(quoted, output.rstrip("\n").splitlines()), f"{block.where}: {command}\nprints now\n{output}"


def _shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{script}"],
        cwd=folder,
        env=_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=180,
        check=False,
    )


def _environment(folder: Path) -> dict[str, str]:
    """A reader's: our command is on the PATH, the page's folder is at home, and no table is set up."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("CCL_DISPATCH", "XDG_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "COLUMNS": "100",
    }


def _look_at(text: str, where: str) -> None:
    """What can be said of commands without running them: our verbs and options, make's targets, scripts, modules."""
    for words in _words(text):
        # Also behind a launcher; but `cd ccl-dispatch` calls nothing.
        called = words[words.index("ccl-dispatch") + 1 :] if "ccl-dispatch" in words else []
        if words[0] == "ccl-dispatch" or (called and called[0] in VERBS):
            verb, *rest = called
            assert verb in VERBS, f"{where}: no verb {verb}"
            try:
                parser_of(verb)[0].parse_args(rest)
            except SystemExit:
                pytest.fail(f"{where}: {shlex.join(words)} is not taken by the command line")
        elif words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(targets) <= TARGETS, f"{where}: {targets}"
        elif words[0] in {"python", "python3", "bash"} and len(words) > 1 and "/" in words[1]:
            assert (ROOT / words[1]).is_file(), f"{where}: {words[1]} is not there"


def _words(text: str) -> Iterator[list[str]]:
    """The words of each command, without what is set before it and where its output goes."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for operator, group in groupby(lexer, key=lambda word: set(word) <= set("&|;<>")):
            words = list(group)
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words and not operator:
                yield words


def _look_at_words(span: str, page: str) -> None:
    """Of a command in the middle of a sentence, which need not be whole: its verb, and every option in it."""
    _, verb, *rest = span.split()
    if verb.startswith("-") or verb == "VERB":
        return
    assert verb in VERBS, f"{page}: `{span}`: no verb {verb}"
    known = {option for action in parser_of(verb)[0]._actions for option in action.option_strings}
    asked = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert asked <= known, f"{page}: `{span}`"


def _read(block: Block, folder: Path) -> None:
    """A block that is not run: Python compiles and its imports work, YAML and JSON are read, a config is valid."""
    if block.language == "python":
        compile(block.text, block.where, "exec")
        lines = [line for line in block.text.splitlines() if line.startswith(("from ", "import "))]
        subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "yaml":
        for document in yaml.safe_load_all(block.text):
            if isinstance(document, dict) and {"baseline", "candidates"} <= set(document) and "cells" not in document:
                (folder / "shown.yaml").write_text(block.text, encoding="utf-8")
                load_config(str(folder / "shown.yaml"))


def test_what_is_quoted_is_compared() -> None:
    """Quoted lines must be those that were printed; dots stand for any lines, or for any text of one."""
    assert same(["a 1", "...", "c"], ["a 1", "b", "b", "c"])
    assert same(["a ... c"], ["a 1 c"])
    assert same([], [])
    assert not same(["a 1"], ["a 2"])
    assert not same(["a"], ["a", "b"])
    assert not same([], ["a"])
    assert not same(["a.1"], ["ab1"])
