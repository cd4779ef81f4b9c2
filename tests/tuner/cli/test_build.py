"""`build` says whether the study that it was given has come to its end."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, ccl_dispatch
from fleets import write_config

ENDLESS = "measure: {min_samples: 20}\nbudget: {regret: 1.0e-9}\n"
SWEEP = ("sweep", "fleet.yaml", "--out", "table.yaml", "--common", "0", "--quiet", "--storage")


def _cut_short(folder: Path, storage: str) -> None:
    """Begin a sweep at a slow pace and end it once it has measured three points."""
    write_config(folder, 1, replay="noise: 0.2, pace: 60", more=ENDLESS)
    command = [*COMMAND, *SWEEP, storage, "--events", "-"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert any('"event":"point"' in line.replace(" ", "") for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 143


def _built(folder: Path, storage: str) -> str:
    done = ccl_dispatch("build", "--storage", storage, "--out", "built.yaml", folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("storage", ["s.journal", "sqlite:///s.db"])
def test_a_study_that_was_cut_short_is_told_from_one_that_has_ended(tmp_path: Path, storage: str) -> None:
    """Cut short it says so, with the points so far; once the same sweep has come to its end it does not."""
    _cut_short(tmp_path, storage)
    told = _built(tmp_path, storage)
    assert "the study has not ended: this is what its " in told
    assert " so far say. " in told
    write_config(tmp_path, 1, replay="noise: 0.2", more=ENDLESS.replace("1.0e-9", "0.5"))
    done = ccl_dispatch(*SWEEP, storage, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _built(tmp_path, storage).count("\n") == 1
    # An end that was, of a search that goes on: with a smaller regret there is something to measure again.
    _cut_short(tmp_path, storage)
    assert "the study has not ended" in _built(tmp_path, storage)


def test_of_imported_points_nothing_is_said(tmp_path: Path) -> None:
    """They were never searched for, so there is no end to miss."""
    write_config(tmp_path, 1)
    arguments = ("import", "fleet.csv", "--storage", "s.journal", "--baseline", "base")
    assert ccl_dispatch(*arguments, folder=tmp_path).returncode == 0
    assert _built(tmp_path, "s.journal").count("\n") == 1
