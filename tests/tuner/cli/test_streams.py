"""Streams that go away, stall, are full or lack letters: the work is done, and a result that is not written is told."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import COMMAND, ccl_dispatch
from fleets import write_config
from made_configs import SMALL
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import write_table

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
@pytest.mark.parametrize("gone", ["2>&1 | true", ">&- 2>&-", "2>&1 >/dev/null | true", "2>/dev/full"])
def test_the_exit_code_is_the_same_without_a_reader(folder: Path, words: str, code: int, gone: str) -> None:
    """Whoever closes the pipe, or gave no stream to begin with, gets the code that a reader would get."""
    found, told = _in_a_shell(f"{shlex.join(COMMAND)} {words} {gone}", folder)
    assert found == code, told
    assert "Traceback" not in told


@pytest.mark.parametrize("gone", ["2>&1 | head -1", "2>&1 | true", ">&- 2>&-", "2>/dev/full"])
def test_a_sweep_writes_its_table_though_nobody_looks(folder: Path, gone: str) -> None:
    """The sweep ends with 0, and the table is there."""
    command = f"{shlex.join(COMMAND)} sweep c.yaml --storage s.journal --out t.yaml {gone}"
    assert _in_a_shell(command, folder)[0] == 0
    assert (folder / "t.yaml").is_file()


def test_a_process_without_any_stream_starts_workers(tmp_path: Path) -> None:
    """With descriptors 0 to 2 closed, as some daemons start what they start, no socket or file takes their numbers."""
    (tmp_path / "c.yaml").write_text(SMALL + "budget: {executions: 100}\n")
    command = f"{shlex.join(COMMAND)} sweep c.yaml --storage s.journal --out t.yaml <&- >&- 2>&-"
    assert _in_a_shell(command, tmp_path)[0] == 0
    assert (tmp_path / "t.yaml").is_file()


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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param("show a.yaml", "ccl-dispatch show: ", id="a verb"),
        pytest.param("diff a.yaml b.yaml", "ccl-dispatch diff: ", id="though the answer is no"),
        pytest.param("schema", "ccl-dispatch schema: ", id="much"),
        pytest.param("--help", "ccl-dispatch: ", id="help"),
    ],
)
def test_a_result_that_can_not_be_written_is_told(folder: Path, words: str, told: str) -> None:
    """A full disk behind standard output: exit code 3, and one line that says what, where, why and what to do."""
    code, said = _in_a_shell(f"{shlex.join(COMMAND)} {words} >/dev/full", folder)
    assert code == 3
    assert said == (
        f"{told}standard output (/dev/full) takes no more of the result: No space left on device. Make room there, or "
        "send it elsewhere, and give the same command again\n"
    )


@pytest.mark.parametrize("how", ["", "--json"])
def test_a_sweep_whose_result_can_not_be_told_has_its_table(folder: Path, how: str) -> None:
    """The table and the summary are there, and named, whatever became of what was to be printed and of the progress."""
    command = f"{shlex.join(COMMAND)} sweep c.yaml --storage s.journal --out t.yaml --summary s.json {how}"
    code, said = _in_a_shell(f"{command} >/dev/full", folder)
    assert code == 3
    assert said.splitlines()[-1].endswith("The table is written: t.yaml")
    assert (folder / "t.yaml").is_file()
    assert json.loads((folder / "s.json").read_text())["table"] == "t.yaml"
    (folder / "s.json").unlink()
    assert _in_a_shell(f"{command} >/dev/full 2>&1", folder) == (3, "")
    assert (folder / "s.json").is_file()


@pytest.mark.parametrize(("room", "part"), [(20, ["line n"]), (14, [])])
def test_a_log_goes_on_when_there_is_room_again(tmp_path: Path, room: int, part: list[str]) -> None:
    """What a full disk did not take is dropped, and the first line after it says how much that was, and why."""
    script = (
        "import resource, signal, sys\n"
        "from ccl_dispatch.tuner.cli.streams import unbreakable_streams\n"
        "everything = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "with unbreakable_streams():\n"
        f"    resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, everything[1]))\n"
        "    for number in range(4):\n"
        "        print(f'line number {number}', file=sys.stderr)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, everything)\n"
        "    print('line number 4', file=sys.stderr)\n"
        "    print('line number 5', file=sys.stderr)\n"
    )
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run([sys.executable, "-c", script], stderr=log, timeout=60, check=False)
    assert done.returncode == 0
    assert (tmp_path / "log").read_text().splitlines() == [
        "line number 0",
        *part,
        "[3 lines could not be written here: File too large]",
        "line number 4",
        "line number 5",
    ]


@pytest.fixture(params=["a pipe", "a terminal", "a paused terminal"])
def stalled(request: pytest.FixtureRequest) -> Iterator[int]:
    """What takes nothing and stays open: a pipe or terminal that is full and is not read, one after Ctrl-S."""
    ours, theirs = os.pipe() if request.param == "a pipe" else os.openpty()
    if request.param == "a paused terminal":
        os.write(ours, b"\x13")
    os.set_blocking(theirs, False)
    filled, more = 0, True
    while more:
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += os.write(theirs, b"x")
        # A terminal has room again once what it took has gone to the reader's side.
        time.sleep(0.1)
        more, filled = filled > 0, 0
    os.set_blocking(theirs, True)
    yield theirs
    os.close(ours)
    os.close(theirs)


def test_a_reader_that_stalls_does_not_stop_a_sweep(folder: Path, stalled: int) -> None:
    """Progress is left out after a while, and the table is made; before that one SIGTERM ends the sweep."""
    script = (
        "import os, signal, sys, threading\n"
        "import ccl_dispatch.tuner.cli.sweep\n"
        "from ccl_dispatch.tuner.cli import main, streams\n"
        "patience, after = map(float, sys.argv[1:3])\n"
        "streams._PATIENCE = patience\n"
        "if after:\n"
        "    threading.Timer(after, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "sys.exit(main(sys.argv[3:]))\n"
    )
    sweep = ["sweep", "c.yaml", "--storage", "s.journal", "--out", "t.yaml"]
    environment = {**os.environ, "TERM": "xterm-256color"}
    # It is at its first line then, and would wait there for longer than this test; and a patience that is spent.
    for patience, after, code in ((60, 1.0, 143), (1.5, 0.0, 0)):
        done = subprocess.run(
            [sys.executable, "-c", script, str(patience), str(after), *sweep],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=stalled,
            timeout=40,
            check=False,
        )
        assert done.returncode == code
    assert (folder / "t.yaml").is_file()


def test_one_signal_ends_a_verb_whose_result_nobody_reads(folder: Path, stalled: int) -> None:
    """Standard output is waited for without end, but after a signal for half a second."""
    script = (
        "import os, signal, threading\n"
        "import ccl_dispatch.tuner.cli.schema\n"
        "threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "raise SystemExit(ccl_dispatch.tuner.cli.main(['schema']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, stdout=stalled, stderr=subprocess.PIPE, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (143, b"interrupted by SIGTERM\n")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"PYTHONIOENCODING": "ascii"}, id="streams"),
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, id="locale"),
    ],
)
def test_names_that_an_encoding_lacks(folder: Path, said: dict[str, str]) -> None:
    """Their letters are printed as escapes, JSON's own in JSON; files keep them."""
    config = folder / "c.yaml"
    config.write_text(config.read_text().replace("name: c", 'name: "größe 測"'))
    environment = {**os.environ, **said}

    def run(words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*COMMAND, *words.split()], cwd=folder, env=environment, capture_output=True, check=False)

    done = run("sweep c.yaml --storage größe.journal")
    assert done.returncode == 0, done.stderr
    assert rb"gr\xf6\xdfe \u6e2c: 1 cell" in done.stderr
    assert b" visits" in done.stdout
    for words in (
        "sweep c.yaml --storage größe.journal --json --quiet",
        "sweep c.yaml --storage größe.journal --summary größe.json --events größe.jsonl --quiet",
        "show größe.yaml --json",
        "report --storage größe.journal --out größe.html",
    ):
        done = run(words)
        assert done.returncode == 0, done.stderr
        assert "--json" not in words or json.loads(done.stdout)
    assert rb"gr\xf6\xdfe \u6e2c" in run("show größe.yaml").stdout
    assert (folder / "größe.html").is_file()
    assert json.loads((folder / "größe.json").read_bytes())["table"].startswith("gr")

    there = sorted(folder.iterdir())
    done = run("sweep c.yaml")
    if "LC_ALL" not in said:
        assert (folder / "runs" / "größe 測" / "table.yaml").is_file()
        return
    assert (done.returncode, sorted(folder.iterdir())) == (2, there)
    assert rb"/gr\xf6\xdfe \u6e2c' can't be the name of a file here: the locale's encoding" in done.stderr
    assert b"ascii, lacks '\\xf6'. Set LC_ALL=C.UTF-8" in done.stderr
