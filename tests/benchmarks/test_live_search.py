"""The comparison on a machine: what it measures, prints and keeps."""

from __future__ import annotations

import csv
from pathlib import Path

import live_search
import numpy as np
import pytest

# Sizes at which a call takes longer than the clock needs: of shorter ones a repetition times one or two, as it happens,
# and what a budget of executions has room for is not known beforehand.
CONFIG = """\
name: live
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2]
dtypes: [bfloat16]
sizes: {min: 64 KiB, max: 256 KiB}
"""


def test_a_curve_judges_choices_by_its_medians() -> None:
    """The slower backend at one of two sizes, by a half: a quarter on average."""
    curve = live_search.Curve(np.array([16, 32]), np.array([[10.0, 30.0], [12.0, 20.0]]))
    assert curve.regret(np.array([False, True])) == 0
    assert curve.regret(np.array([False, False])) == pytest.approx(0.25)


def test_all_methods_are_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One round on two real ranks: scans, grids and sweeps with their executions; both dense scans as measurements."""
    monkeypatch.setattr(live_search, "DENSE_SAMPLES", 5)
    monkeypatch.setattr(live_search, "EXHAUSTIVE_SAMPLES", 40)
    config = tmp_path / "live.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    assert live_search.main([str(config), "--rounds", "1", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    with (tmp_path / "out" / "runs.csv").open(encoding="utf-8") as file:
        spent = {row["method"]: int(row["executions"]) for row in csv.DictReader(file)}
    assert list(spent)[:3] == ["exhaustive", "even grid 9 x 2", "even grid 21 x 5"]
    assert all(method in printed for method in spent)
    for grid in ("even grid 9 x 2", "even grid 21 x 5"):
        assert 0 < spent[f"ours, as the {grid}"] <= spent[grid]
    with (tmp_path / "out" / "truth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Sizes of a quarter of an octave, two backends, two scans.
    assert len(rows) == 9 * 2 * 2


def test_a_replay_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Virtual times say nothing of this machine."""
    (tmp_path / "m.csv").write_text(
        "collective,mode,dtype,world_size,shape,bytes,backend,latency_us\n"
        "all_gather,,float32,2,,64,a,3\nall_gather,,float32,2,,64,b,2\n"
        "all_gather,,float32,2,,128,a,3\nall_gather,,float32,2,,128,b,2\n",
        encoding="utf-8",
    )
    config = tmp_path / "replay.yaml"
    config.write_text("name: r\nbaseline: a\ncandidates: [b]\nreplay: {file: m.csv}\n", encoding="utf-8")
    assert live_search.main([str(config)]) == 2
    assert "measured and not replayed" in capsys.readouterr().err
