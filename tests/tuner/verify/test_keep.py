"""Keeping visits: one process at a time adds to a reference, whatever becomes of the others."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from verifying import verify

from ccl_dispatch.runtime.errors import OutputError
from ccl_dispatch.tuner.verify import keep
from ccl_dispatch.tuner.verify.keep import keep_reference
from ccl_dispatch.tuner.verify.run import Verified

# Holds the file that it is given, by itself, until it is killed.
HOLDER = """
import fcntl, os, sys, time
file = open(sys.argv[1], "a+b", buffering=0)
fcntl.flock(file, fcntl.LOCK_EX)
file.write(str(os.getpid()).encode())
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def right(made: tuple[Path, dict[str, Path]]) -> Verified:
    """A verification that is still right."""
    table, configs = made
    return verify(table, configs["same"], seed=1)


def _holder(lock: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _sets(target: Path) -> int:
    found = json.loads(target.read_text())["sets"]
    assert isinstance(found, int)
    return found


def test_runs_that_keep_at_once_lose_none_of_their_visits(right: Verified, tmp_path: Path) -> None:
    """Eight processes that add four times each leave what 32 additions one by one leave, and no other file."""
    target = tmp_path / "r.json"
    sets = 1 + max(visit.set for own in right.visits.values() for visit in own)
    children = []
    for _ in range(8):
        child = os.fork()
        if not child:
            code = 1
            try:
                for _ in range(4):
                    keep_reference(right, target)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert _sets(target) == 32 * sets
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_a_reference_that_a_killed_process_held_is_free(right: Verified, tmp_path: Path) -> None:
    """While it is held others wait; a SIGKILL of the holder lets the next go on, which removes what was left."""
    target, lock = tmp_path / "r.json", tmp_path / ".r.json.lock"
    with _holder(lock) as holder:
        child = os.fork()
        if not child:
            try:
                keep_reference(right, target)
            finally:
                os._exit(0)
        time.sleep(0.3)
        assert not target.exists()
        holder.send_signal(signal.SIGKILL)
    os.waitpid(child, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_a_reference_that_somebody_keeps_is_not_waited_for_without_end(
    right: Verified, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the process, and nothing is added; its lock stays with it."""
    monkeypatch.setattr(keep, "_WAIT_SECONDS", 0.2)
    target, lock = tmp_path / "r.json", tmp_path / ".r.json.lock"
    with _holder(lock) as holder:
        try:
            with pytest.raises(OutputError, match=rf"process {holder.pid} has held it for .* nothing was added"):
                keep_reference(right, target)
            assert lock.exists()
        finally:
            holder.kill()
    assert not target.exists()


def test_without_locks_visits_are_added_and_it_is_said(
    right: Verified, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that has no flock nothing is waited for; that two at once would lose some is told."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    target = tmp_path / "r.json"
    assert "its file system has no locks: two runs that --keep at once" in keep_reference(right, target)
    assert target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_a_folder_that_takes_no_files_is_told(right: Verified) -> None:
    """As an error of a result that can't be written, with the reference's name."""
    with pytest.raises(OutputError, match=r"/proc/r\.json: can't be added to: "):
        keep_reference(right, Path("/proc/r.json"))


def _on(right: Verified, architecture: str) -> Verified:
    """As if it had been made on devices of that architecture."""
    platform = right.setup.platform._replace(architecture=architecture)
    return replace(right, setup=replace(right.setup, platform=platform))


@pytest.mark.parametrize("what", ["verdict", "platform", "reference"])
def test_only_what_is_like_the_table_is_kept(right: Verified, tmp_path: Path, what: str) -> None:
    """Nothing of a run that found a change, nor of another platform: later runs would be held against that."""
    target = tmp_path / "r.json"
    keep_reference(_on(right, "gfx942") if what == "reference" else right, target)
    before = target.read_bytes()
    changed = {
        "verdict": lambda: replace(
            right,
            verification=replace(
                right.verification,
                cells=tuple(replace(cell, verdict="not sure") for cell in right.verification.cells),
            ),
        ),
        "platform": lambda: replace(right, setup=replace(right.setup, differs=("link: xgmi, here pcie",))),
        "reference": lambda: _on(right, "gfx950"),
    }[what]()
    assert f"nothing was added to {target}: " in keep_reference(changed, target)
    assert target.read_bytes() == before
