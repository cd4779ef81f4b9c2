"""A storm of random faults in one sweep: it ends in the same bands as a calm one, and nothing is lost."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from sweeping import FULL, results, sweep, write_config

from ccl_dispatch.runtime import Table, load_table
from ccl_dispatch.runtime.table import CellTable
from ccl_dispatch.tuner.samples import PointResult

# The whole storm is `make storm`; without it the same sweep of one cell, with a few faults.
DTYPES = "[bfloat16, float16, float32, float64, int64, int32, int8, uint8]" if os.environ.get(FULL) else "[bfloat16]"
FAULTS = 200 if os.environ.get(FULL) else 3  # which of the few are drawn is up to who comes first
ODDS = "0.6" if os.environ.get(FULL) else "0.4"
SIZES = [256 << step for step in range(9)] if os.environ.get(FULL) else [512 << step for step in range(6)]


@pytest.mark.storm
def test_a_storm_changes_nothing(tmp_path: Path) -> None:
    """SIGSEGV, SIGABRT, SIGKILL, SIGSTOP, exits, exceptions and hangs of baseline and candidate, drawn from a seed.

    Beside them a candidate flips a bit in every call. Every attempt is a point or a recorded fault,
    every sample that is stored is in the table's evidence, and each size of each cell gets the calm sweep's backend.
    """
    storm = tmp_path / "storm"
    storm.mkdir()
    _, calm = _sweep(tmp_path, storm, "calm", "0")
    found, table = _sweep(tmp_path, storm, "stormy", ODDS)
    faults = [fault for result in found for fault in result.faults]
    drawn = Counter((storm / "done").read_text().split())
    gone = [fault for fault in faults if not fault.blamed]
    print(f"{len(found)} points, {len(faults)} faults, {len(gone)} of them the storm's: {dict(drawn)}")  # noqa: T201
    assert len(gone) >= FAULTS
    assert len(gone) == len(faults)  # nobody was excluded for what the storm did
    # Each attempt draws once per rank and backend: none is missing, and none was counted twice.
    assert len((storm / "drawn").read_bytes()) >= 4 * (len(found) + len(gone))
    assert [_uses(cell, SIZES) for cell in table.cells] == [_uses(cell, SIZES) for cell in calm.cells]
    assert {tuple(band.use for band in cell.bands) for cell in table.cells} == {("stormy", "shaken")}


def _sweep(folder: Path, storm: Path, name: str, odds: str) -> tuple[list[PointResult], Table]:
    (storm / "odds").write_text(odds)
    for file in ("drawn", "done"):
        (storm / file).write_bytes(b"")
    write_config(
        folder,
        name,
        "baseline: shaken\ncandidates: [stormy, flipping]",
        f"dtypes: {DTYPES}\nsizes: {{min: {SIZES[0]} B, max: {SIZES[-1]} B, per_octave: 1}}\n"
        "budget: {executions: 100000}\n"
        "measure: {timeout: 1.5, max_seconds: 0.3, min_samples: 3, max_samples: 4, retries: 100, max_faults: 100000}",
    )
    done = sweep(folder, name, timeout=1200, variables={"FAULTY_STORM": str(storm)})
    assert done.returncode == 0, done.stderr
    found, table = results(folder, name), load_table(folder / f"runs/{name}/table.yaml")
    _check_nothing_is_lost(found, table)
    return found, table


def _check_nothing_is_lost(found: list[PointResult], table: Table) -> None:
    """The table's evidence counts every point and every sample once."""
    assert table.evidence["trials"] == len(found)
    samples = sum(max(map(len, result.latencies_us.values()), default=0) for result in found)
    assert table.evidence["samples"] == samples > 0
    assert table.evidence.get("faults_in_all", 0) == sum(len(result.faults) for result in found)


def _uses(cell: CellTable, sizes: list[int]) -> list[str]:
    return [next(band.use for band in cell.bands if size <= band.up_to) for size in sizes]
