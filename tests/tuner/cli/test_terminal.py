"""What is told to whoever waits at a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, ccl_dispatch
from fleets import write_config

TOLD = {"doctor": "checking gloo, shm on cpu; without: --no-check", "report": "drawing the curves of 1 cell"}


@pytest.mark.parametrize("verb", TOLD)
def test_what_takes_seconds_says_so_at_a_terminal_alone(tmp_path: Path, verb: str) -> None:
    """On standard error, in a line before the result; where that goes elsewhere there is none."""
    words = [verb]
    if verb == "report":
        pytest.importorskip("matplotlib")
        write_config(tmp_path, 1)
        assert ccl_dispatch("sweep", "fleet.yaml", "--storage", "s.journal", folder=tmp_path).returncode == 0
        words += ["--storage", "s.journal", "--out", "r.html"]
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=100, check=False
        )
        assert done.returncode == 0
        assert os.read(ours, 1000).decode() == f"{TOLD[verb]}\r\n"
    finally:
        os.close(ours)
        os.close(theirs)
    assert TOLD[verb] not in done.stdout
    elsewhere = ccl_dispatch(*words, folder=tmp_path)
    assert (elsewhere.returncode, elsewhere.stderr) == (0, "")
