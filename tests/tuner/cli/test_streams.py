"""Readers of standard output and error that go away: the work is done to its end, and the exit code is its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest
from command import COMMAND, ccl_dispatch
from fleets import write_config
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit import write_table

CELL = Cell("all_gather", "graph", "first", "bfloat16", 8)


def _in_a_shell(line: str, folder: Path) -> tuple[int, str]:
    """The exit code of the first command of a pipe, and what all of it wrote."""
    script = f"{line}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tables that differ, and a config that is replayed."""
    for name, edge in (("a.yaml", 65536), ("b.yaml", 131072)):
        write_table(make_table((make_cell(CELL, 16, [edge, 1 << 20], ["aiter", "rccl"]),)), tmp_path / name)
    write_config(tmp_path, 1, name="c")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param("diff a.yaml b.yaml", 1, id="the answer is no"),
        pytest.param("validate nowhere.yaml", 1, id="not valid"),
        pytest.param("show nowhere.yaml", 2, id="wrong use"),
        pytest.param("show a.yaml", 0, id="done"),
    ],
)
@pytest.mark.parametrize("gone", ["2>&1 | true", ">&- 2>&-", "2>&1 >/dev/null | true"])
def test_the_exit_code_is_the_same_without_a_reader(folder: Path, words: str, code: int, gone: str) -> None:
    """Whoever closes the pipe, or gave no stream to begin with, gets the code that a reader would get."""
    found, told = _in_a_shell(f"{shlex.join(COMMAND)} {words} {gone}", folder)
    assert found == code, told
    assert "Traceback" not in told


@pytest.mark.parametrize("gone", ["2>&1 | head -1", "2>&1 | true", ">&- 2>&-"])
def test_a_sweep_writes_its_table_though_nobody_looks(folder: Path, gone: str) -> None:
    """The sweep ends with 0, and the table is there."""
    command = f"{shlex.join(COMMAND)} sweep c.yaml --storage s.journal --out t.yaml {gone}"
    assert _in_a_shell(command, folder)[0] == 0
    assert (folder / "t.yaml").is_file()


def test_a_result_goes_into_a_pipe(folder: Path) -> None:
    """`--out /dev/stdout` before a `|`: behind the name is a pipe, which has no path of its own."""
    assert ccl_dispatch("sweep", "c.yaml", "--storage", "s.journal", folder=folder).returncode == 0
    done = ccl_dispatch("export", "--storage", "s.journal", "--out", "/dev/stdout", folder=folder)
    assert done.returncode == 0, done.stderr
    assert ",latency_us" in done.stdout.partition("\n")[0]


@pytest.mark.parametrize(("ignored", "code"), [(False, 129), (True, 0)])
def test_a_terminal_that_goes_away(folder: Path, ignored: bool, code: int) -> None:
    """A sweep whose terminal is closed ends as after Ctrl-C and says so in its events; after `nohup` it goes on.

    Real terminals: the kernel sends the signal, and what is written there afterwards fails.
    """
    write_config(folder, 2, more="measure: {min_samples: 400}\nbudget: {regret: 1.0e-6}\n", name="c")

    ours, theirs = os.openpty()
    sweep = [*COMMAND, "sweep", "c.yaml", "--storage", "s.journal", "--out", "t.yaml", "--events", "e.jsonl"]
    line = ("trap '' HUP; " if ignored else "") + f"exec {shlex.join(sweep)}"
    command = ["setsid", "--ctty", "bash", "-c", line]
    process = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    events = folder / "e.jsonl"
    while not events.exists() or events.read_text().count("\n") < 6:
        assert process.poll() is None
        time.sleep(0.01)
    os.close(ours)
    assert process.wait(60) == code
    last = json.loads(events.read_text().splitlines()[-1])
    assert last["how"] == ("done" if ignored else "interrupted")
    assert (folder / "t.yaml").exists() is ignored
