"""Whose fault is it? The candidate's, the machine's, or nobody's: done to real sweeps."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from command import ccl_dispatch
from sweeping import is_quoted, rank_process, results, running, stored, sweep, wait_for_points, write_config

from ccl_dispatch.runtime import load_table


def test_the_one_who_poisons_is_excluded_not_the_baseline(tmp_path: Path) -> None:
    """A candidate after whose calls the baseline raises is found and excluded from there on; the others stay.

    All of its own calls are right, so that nothing but what happens without it tells that it is guilty.
    """
    write_config(
        tmp_path,
        "poison",
        "baseline: gloo\ncandidates: [poisoning, shm]",
        "sizes: {min: 128 B, max: 1 KiB, per_octave: 1}",
    )
    done = sweep(tmp_path, "poison")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path, "poison")
    faults = [fault for result in found for fault in result.faults]
    # At one size or two: twice the baseline's, to all looks, then once beside the guilty; then it is not tried again.
    assert len(faults) in {3, 6}
    assert {fault.backend for fault in faults} == {"gloo"}
    assert {(fault.reason, fault.rank, fault.blamed) for fault in faults} == {("raised", 1, "poisoning")}
    exclusions = load_table(tmp_path / "runs/poison/table.yaml").cells[0].exclusions
    assert {(exclusion.backend, exclusion.reason) for exclusion in exclusions} == {("poisoning", "raised")}
    assert exclusions[-1].high >= 512
    details = [item.detail for result in found for item in result.exclusions]
    assert "while gloo ran in a process that had run poisoning; without poisoning nothing fails" in details[0]
    # Excluded at two sizes it is not tried at any, be it one at which it was right before: another run in the table.
    assert all(exclusion.high >= 512 for exclusion in exclusions) or len(faults) == 6
    for result in found:
        assert result.latencies_us["gloo"]
        assert result.latencies_us["shm"]
        assert "poisoning" not in result.latencies_us or result.size < 512
    assert "gloo" not in done.stdout.partition("faults while measuring")[2].partition(")")[0]


def test_an_abort_that_comes_late_falls_on_nobody_else(tmp_path: Path) -> None:
    """A candidate that lets a thread abort some time later is excluded, not who happens to run at that moment."""
    write_config(
        tmp_path,
        "late",
        "baseline: gloo\ncandidates: [undermining, shm]",
        "sizes: {min: 256 B, max: 1 KiB, per_octave: 1}",
    )
    done = sweep(tmp_path, "late")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path, "late")
    faults = [fault for result in found for fault in result.faults]
    assert any("gloo::EnforceNotMet" in fault.log for fault in faults)
    assert {fault.blamed for fault in faults} <= {"undermining", ""}
    assert {item.backend for result in found for item in result.exclusions} == {"undermining"}
    assert all(result.latencies_us["shm"] for result in found)


def test_a_stopped_worker_is_nobodys_fault(tmp_path: Path) -> None:
    """SIGSTOP of a worker is told as that, blamed on no backend, and costs a retry."""
    write_config(
        tmp_path,
        "stop",
        "baseline: steady\ncandidates: [shm]",
        "measure: {min_seconds: 0.5, max_seconds: 1, timeout: 3}\nbudget: {executions: 10000}",
    )
    with running(tmp_path, "stop") as process:
        wait_for_points(tmp_path, "stop", 1, process)
        os.kill(rank_process(tmp_path, 1), signal.SIGSTOP)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    (fault,) = [fault for result in results(tmp_path, "stop") for fault in result.faults]
    assert (fault.backend, fault.reason, fault.rank, fault.blamed) == ("", "hung", 1, "")
    assert fault.detail.endswith("it is stopped (SIGSTOP)")
    assert "1 fault while measuring (no backend hung 1), 1 of which went away when measured again" in out
    table = load_table(tmp_path / "runs/stop/table.yaml")
    assert table.cells[0].exclusions == ()
    assert table.evidence["faults"][0]["outcome"] == "went away"
    shown = ccl_dispatch("show", "--details", "runs/stop/table.yaml", folder=tmp_path).stdout
    assert "fault: no backend hung once at" in shown
    assert "went away when it was measured again: rank 1" in shown


def test_a_candidate_that_keeps_workers_from_starting_is_left_out(tmp_path: Path) -> None:
    """A constructor that crashes costs the candidate, everywhere, and not the sweep."""
    sizes = "sizes: {min: 64 B, max: 512 B, per_octave: 1}"
    write_config(tmp_path, "unborn", "baseline: gloo\ncandidates: [unborn, shm]", sizes)
    done = sweep(tmp_path, "unborn")
    assert done.returncode == 0, done.stderr
    table = load_table(tmp_path / "runs/unborn/table.yaml")
    (exclusion,) = table.cells[0].exclusions
    assert (exclusion.backend, exclusion.reason) == ("unborn", "crashed")
    assert (exclusion.low, exclusion.high) == (64, 512)
    assert "SIGSEGV" in exclusion.detail
    found = results(tmp_path, "unborn")
    assert [len(result.faults) for result in found] == [2] + [0] * (len(found) - 1)
    assert all(result.latencies_us["shm"] for result in found)


def test_a_failing_baseline_is_the_machine_and_the_same_command_continues(tmp_path: Path) -> None:
    """A baseline that fails alone ends the sweep with exit code 3 and its log; once mended the sweep goes on, whole."""
    storm = tmp_path / "storm"
    storm.mkdir()
    (storm / "odds").write_text("0")
    more = "measure: {max_seconds: 0.2, max_samples: 6, timeout: 1}\nbudget: {executions: %s}"
    write_config(tmp_path, "sick", "baseline: shaken\ncandidates: [shm]", more % 40)
    variables = {"FAULTY_STORM": str(storm)}
    assert sweep(tmp_path, "sick", variables=variables).returncode == 0
    journal = tmp_path / "runs/sick/study.journal"
    before = stored(journal)
    assert before
    table = (tmp_path / "runs/sick/table.yaml").read_bytes()
    write_config(tmp_path, "sick", "baseline: shaken\ncandidates: [shm]", more % 4000)
    (storm / "odds").write_text("1")
    failed = sweep(tmp_path, "sick", variables=variables)
    assert failed.returncode == 3
    assert is_quoted(failed.stderr, "the baseline ... fails without any candidate")
    assert is_quoted(failed.stderr, "all points measured so far are kept in")
    assert stored(journal) == before
    assert (tmp_path / "runs/sick/table.yaml").read_bytes() == table
    (storm / "odds").write_text("0")
    assert sweep(tmp_path, "sick", variables=variables).returncode == 0
    after = stored(journal)
    assert len(after) > len(before)
    assert {number: after[number] for number in before} == before


def test_workers_that_do_not_start_are_the_set_ups_fault(tmp_path: Path) -> None:
    """A baseline that can't be constructed ends the sweep with exit code 3, after as many starts as retries allow."""
    write_config(tmp_path, "down", "baseline: unmade\ncandidates: [shm]")
    done = sweep(tmp_path, "down")
    assert done.returncode == 3
    assert is_quoted(done.stderr, "the workers could not be started")
    assert "could not be started 2 times" in done.stderr
    assert "RuntimeError: no peer access" in done.stderr


def test_patience_has_an_end(tmp_path: Path) -> None:
    """More faults that nobody can be blamed for than `max_faults` end the sweep with exit code 3."""
    storm = tmp_path / "storm"
    storm.mkdir()
    (storm / "odds").write_text("0.9")
    write_config(
        tmp_path,
        "patient",
        "baseline: steady\ncandidates: [stormy]",
        "measure: {timeout: 1, retries: 50, max_faults: 4}",
    )
    began = time.monotonic()
    done = sweep(tmp_path, "patient", variables={"FAULTY_STORM": str(storm)})
    assert done.returncode == 3
    assert time.monotonic() - began < 30
    assert is_quoted(done.stderr, "... faults in this run that no exclusion explains")
