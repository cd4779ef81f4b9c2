"""The sweep's own process: killed at any moment, also while it writes; stopped and let go on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from named_memory import named_memory
from sweeping import (
    FULL,
    is_quoted,
    left_behind,
    processes,
    rank_process,
    results,
    running,
    stored,
    sweep,
    wait_for_points,
    write_config,
)

from ccl_dispatch.runtime import load_table

# All 50 moments are `make storm`.
LONGEST = 8.0 if os.environ.get(FULL) else 3.0
MOMENTS = 50 if os.environ.get(FULL) else 3
DTYPES = "bfloat16, float32" if os.environ.get(FULL) else "float32"
CONFIG = (
    f"dtypes: [{DTYPES}]\nsizes: {{min: 64 B, max: 64 KiB}}\n"
    "measure: {min_seconds: 0.1, max_seconds: 0.2}\nbudget: {executions: 20000}"
)


@pytest.mark.storm
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """SIGKILL of the sweep while it starts, measures, fits and writes: nothing stays behind, and every run continues.

    After each kill no process and no shared memory is left; every sample that was stored is in the study to its end,
    unchanged. A study that is complete is begun anew, so that all moments come again.
    """
    shared = named_memory()
    rng = random.Random(17)
    interrupted = taken_over = turn = study = 0
    while turn < MOMENTS:
        name = f"killed{study}"
        study += 1
        write_config(tmp_path, name, "baseline: gloo\ncandidates: [shm]", CONFIG)
        journal = tmp_path / "runs" / name / "study.journal"
        kept: dict[int, str] = {}
        for _ in range(min(10, MOMENTS - turn)):
            turn += 1
            with running(tmp_path, name, "--quiet") as process:
                deadline = time.monotonic() + rng.uniform(0.0, LONGEST)
                while process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.005)
                process.kill()
                _, errors = process.communicate(timeout=30)
            interrupted += process.returncode == -signal.SIGKILL
            taken_over += is_quoted(errors, "of the visits that an ended sweep was at")
            assert process.returncode in {0, -signal.SIGKILL}, errors
            assert left_behind(tmp_path) == {}
            assert named_memory() <= shared
            found = stored(journal)
            assert {number: found.get(number) for number in kept} == kept
            kept = found
        done = sweep(tmp_path, name, "--quiet")
        assert done.returncode == 0, done.stderr
        found = stored(journal)
        assert {number: found.get(number) for number in kept} == kept
        table = load_table(tmp_path / "runs" / name / "table.yaml")
        assert table.evidence["trials"] == len(found) == len(results(tmp_path, name))
        left = {path.name for path in (tmp_path / "runs" / name).iterdir()} - {"study.journal.torn"}
        assert left == {"study.journal", "study.journal.owner", "study.copy", "study.copy.owner", "table.yaml", "logs"}
    print(f"{turn} moments, {interrupted} of them before the end; {taken_over} runs took trials over")  # noqa: T201
    assert interrupted > 0


def test_a_half_written_table_is_never_seen(tmp_path: Path) -> None:
    """A process that replaces a table again and again is killed at random moments: there is always a whole one."""
    code = (
        "import sys\n"
        "from made_tables import make_table, make_cell\n"
        "from ccl_dispatch.runtime.vocabulary import Cell\n"
        "from ccl_dispatch.tuner.emit.text import render\n"
        "from ccl_dispatch.tuner.files import write_in_one_step\n"
        "cells = [Cell('all_gather', 'eager', 'first', 'bfloat16', ranks) for ranks in range(2, 32)]\n"
        "cells = tuple(make_cell(cell, 16, [4096, 65536], ['aiter', 'rccl']) for cell in cells)\n"
        "tables = [make_table(cells, name) for name in ('even', 'odd')]\n"
        "texts = [render(table) for table in tables]\n"
        "write_in_one_step(sys.argv[1], texts[0])\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for text in texts:\n"
        "        write_in_one_step(sys.argv[1], text)\n"
    )
    rng = random.Random(5)
    target = tmp_path / "table.yaml"
    seen, parts, turn = set(), 0, 0
    while turn < 6 or (not parts and turn < 40):
        turn += 1
        command = [sys.executable, "-c", code, str(target)]
        path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.3))
            writer.kill()
        seen.add(load_table(target).name)  # refuses what does not fit its digest
        left = len(list(tmp_path.glob(".*.part")))
        assert left <= 1  # the next writer has removed what the one before it left
        parts += left
    assert seen <= {"even", "odd"}
    print(f"{parts} of {turn} writers were killed in the midst of writing")  # noqa: T201
    assert parts > 0


def test_stopped_and_let_go_on(tmp_path: Path) -> None:
    """SIGSTOP of the sweep, then of its workers as well, for longer than a point may take: no fault, no odd times."""
    write_config(
        tmp_path,
        "paused",
        "baseline: steady\ncandidates: [shm]",
        "sizes: {min: 64 B, max: 512 B, per_octave: 1}\nbudget: {executions: 10000, seconds: 60}\n"
        "measure: {min_seconds: 0.8, max_seconds: 1.2, timeout: 2}",
    )
    with running(tmp_path, "paused") as process:
        wait_for_points(tmp_path, "paused", 1, process)
        time.sleep(0.5)  # in the midst of the next point
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.kill(process.pid, signal.SIGCONT)
        wait_for_points(tmp_path, "paused", 2, process)
        rank_process(tmp_path, 0)
        time.sleep(0.5)
        everyone = [process.pid, *processes(tmp_path)]
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2.5)
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "fault" not in out
    assert "this process was stopped for" in errors
    for result in results(tmp_path, "paused"):
        assert result.faults == ()
        assert result.wall_seconds < 3
