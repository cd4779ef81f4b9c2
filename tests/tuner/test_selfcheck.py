"""The pass of `doctor` finds what is wrong, and goes on without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ccl_dispatch.tuner.device import Placement
from ccl_dispatch.tuner.selfcheck import check_backends


def test_a_wrong_and_a_crashing_backend_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale output is wrong at every point; a crash is told once and left out; the others are right everywhere."""
    support = str(Path(__file__).parents[1] / "support")
    monkeypatch.setenv("PYTHONPATH", support, prepend=os.pathsep)
    monkeypatch.syspath_prepend(support)
    names = ["gloo", "stale", "crashing"]
    faulty = {name: f"faulty:{name.title()}" for name in names[1:]}
    checks = check_backends(names, Placement(), tmp_path, faulty)
    assert (checks["gloo"].right, checks["gloo"].problems) == (12, [])
    assert checks["stale"].right == 0
    assert len(checks["stale"].problems) == 12
    assert "bytes are wrong" in checks["stale"].problems[0]
    (crash,) = checks["crashing"].problems
    assert "SIGSEGV" in crash
