"""Each way in which a backend fails, done to a real sweep: recorded as what it was, told where a person looks."""

from __future__ import annotations

import json
from pathlib import Path

from command import ccl_dispatch
from sweeping import is_quoted, results, sweep, write_config

from ccl_dispatch.runtime import Table, load_table

CELL = "all_gather/eager/first/bfloat16/ws2"
# The reason, the rank that failed, what is said of it, and what its log must have kept.
BROKEN = {
    "hanging": ("hung", 0, "no answer within the time limit from rank 0, 1", "faulty.py"),
    "crashing": ("crashed", 1, "its process was ended by SIGSEGV", "Fatal Python error: Segmentation fault"),
    "aborting": ("crashed", 1, "its process was ended by SIGABRT", "Assertion `peer_ptr != nullptr` failed."),
    "dying": ("crashed", 0, "its process was ended by SIGKILL", ""),
    "exiting": ("crashed", 1, "its process ended with exit code 7", ""),
    "raising": ("raised", None, "RuntimeError: out of handles", 'raise RuntimeError("out of handles")'),
}
WRONG = {
    "silent": "128 of 128 bytes are wrong (128 of them unwritten)",
    "garbling": "of 128 bytes are wrong",
    "stale": "bytes are wrong",
    "flipping": "rank 1: 1 of 128 bytes are wrong (0 of them unwritten), the first at byte 127",
    "decaying": "rank 1: 128 of 128 bytes are wrong (128 of them unwritten)",
}


def test_every_fault_is_recorded_as_what_it_was(tmp_path: Path) -> None:
    """Hang, SIGSEGV, SIGABRT, SIGKILL, exit, exception, nothing, garbage, one bit on one rank: each with rank and log.

    The sweep ends with a table that excludes each of them for its reason, and the good candidate is measured all along.
    """
    names = ", ".join([*BROKEN, "unmade", *WRONG, "shm"])
    write_config(
        tmp_path,
        "broken",
        f"baseline: gloo\ncandidates: [{names}]",
        "sizes: {min: 64 B, max: 512 B, per_octave: 1}\nmeasure: {timeout: 2, max_seconds: 0.3}",
    )
    done = sweep(tmp_path, "broken")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path, "broken")
    excluded = {(item.backend, item.reason) for result in found for item in result.exclusions}
    assert excluded == {
        *((name, expected[0]) for name, expected in BROKEN.items()),
        *((name, "wrong_output") for name in WRONG),
        ("unmade", "unsupported"),
    }
    assert all(result.latencies_us["shm"] for result in found)
    for name, (reason, rank, detail, log) in BROKEN.items():
        faults = [fault for result in found for fault in result.faults if fault.backend == name]
        # Twice at each of two sizes, then it is not tried any more.
        assert len(faults) == 4, name
        details = {(fault.reason, fault.detail, fault.blamed) for fault in faults}
        if name == "aborting":
            # Python's own handler, which writes the stacks of all threads then, may be hit itself: seen once.
            details.discard((reason, "its process was ended by SIGSEGV", name))
        assert details == {(reason, detail, name)}
        assert rank is None or {fault.rank for fault in faults} == {rank}
        assert all(log in fault.log for fault in faults), faults
        assert all(len(fault.log) <= 2000 for fault in faults)
    table = load_table(tmp_path / "runs/broken/table.yaml")
    _check_told(tmp_path, table, done.stdout)


def _check_told(folder: Path, table: Table, end: str) -> None:
    """The table, `show`, `explain` and the sweep's end all tell of the faults."""
    details = {item.backend: item.detail for item in table.cells[0].exclusions if item.low == 64}
    for name, detail in WRONG.items():
        assert detail in details[name]
    assert details["unmade"] == "rank 1: it can't be set up at world size 2: RuntimeError: no peer access"
    assert table.evidence["faults_in_all"] == 24
    assert {row["backend"] for row in table.evidence["faults"]} == {*BROKEN}
    assert "24 faults while measuring (aborting crashed 4, " in end
    assert "ccl-dispatch show --details runs/broken/table.yaml" in end
    path = str(table.source)
    assert "24 faults while measuring (--details)" in ccl_dispatch("show", path, folder=folder).stdout
    shown = ccl_dispatch("show", "--details", path, folder=folder).stdout
    call = ("explain", path, "--size", "64", "--dtype", "bfloat16", "--world-size", "2")
    explained = ccl_dispatch(*call, folder=folder).stdout
    for text in (shown, explained):
        assert is_quoted(text, "fault: hanging hung")
        assert "    | Fatal Python error: Segmentation fault" in text
        assert "    | Assertion `peer_ptr != nullptr` failed." in text
    asked = json.loads(ccl_dispatch(*call, "--json", folder=folder).stdout)
    assert {item["backend"] for item in asked["faults"]} == {*BROKEN}


def test_a_slow_rank_is_named(tmp_path: Path) -> None:
    """A candidate that is slow on rank 1 alone counts as slow, and table, summary and `show` say which rank it was."""
    write_config(
        tmp_path,
        "limp",
        "baseline: steady\ncandidates: [limping]",
        "dtypes: [bfloat16, float32, int64]\nmeasure: {max_seconds: 0.3, min_samples: 3, max_samples: 6}\n",
    )
    done = sweep(tmp_path, "limp", "--summary", "summary.json")
    assert done.returncode == 0, done.stderr
    table = load_table(tmp_path / "runs/limp/table.yaml")
    assert {band.use for cell in table.cells for band in cell.bands} == {"steady"}
    (slow,) = table.evidence["slow_ranks"]
    assert (slow["backend"], slow["world_size"], slow["rank"]) == ("limping", 2, 1)
    assert 0.5 < slow["at_least"] <= slow["slower"] < 15  # 30 ms against 2 ms, and what a busy machine adds to both
    shown = ccl_dispatch("show", "runs/limp/table.yaml", folder=tmp_path).stdout
    assert is_quoted(done.stdout, "a slow rank: ")
    assert is_quoted(shown, "a slow rank: ")
    assert json.loads((tmp_path / "summary.json").read_text())["slow_ranks"][0] in shown
