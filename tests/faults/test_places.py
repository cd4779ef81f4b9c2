"""The disk, the folder, the clock and the machine change under a sweep: done for real, with mounts where root may."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from command import COMMAND, ccl_dispatch
from sweeping import environment, is_quoted, results, running, stored, sweep, wait_for_points, write_config

from ccl_dispatch.runtime import load_table
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study import SweepStudy, open_storage

BACKENDS = "baseline: gloo\ncandidates: [shm]"
SHORT = "measure: {max_seconds: 0.2, min_samples: 3, max_samples: 20}"
DAY = 86400


@contextmanager
def _mounted(folder: Path, *words: str) -> Iterator[Path]:
    """A folder on which something is mounted; skips where that needs rights that the tests don't have."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting needs root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_the_disk_fills_up(tmp_path: Path) -> None:
    """On a full file system the sweep ends with exit code 3 and keeps its points; with room again it goes on."""
    with _mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m", "none") as small:
        write_config(small, "full", BACKENDS, SHORT)
        filler = small / "filler"
        with running(small, "full", "--quiet") as process:
            wait_for_points(small, "full", 1, process)
            with filler.open("wb") as file:
                _fill(file.fileno())
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert is_quoted(errors, "the storage takes no more samples")
        filler.unlink()
        journal = small / "runs/full/study.journal"
        kept = stored(journal)
        assert kept
        done = sweep(small, "full", "--quiet")
        assert done.returncode == 0, done.stderr
        found = stored(journal)
        assert {number: found.get(number) for number in kept} == kept
        assert load_table(small / "runs/full/table.yaml").evidence["trials"] == len(results(small, "full"))


def _fill(descriptor: int) -> None:
    """Write until nothing more fits, to the last byte."""
    for size in (65536, 1):
        try:
            while True:
                os.write(descriptor, b"\0" * size)
        except OSError:
            continue


def test_a_quota_is_met(tmp_path: Path) -> None:
    """Where files may not grow any more, without root's help, it is the same: exit code 3, and the next run goes on."""
    # Not `shm`, whose segments are files to the kernel as well.
    write_config(tmp_path, "quota", "baseline: steady\ncandidates: [brisk]", SHORT)
    limit = 10 * 1024
    done = subprocess.run(
        [*COMMAND, "sweep", "quota.yaml", "--quiet"],
        cwd=tmp_path,
        # What Python keeps of modules that it compiles would be cut off as well, and no later run could import them.
        env=environment(tmp_path) | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 3, done.stderr
    assert "the storage takes no more samples: File too large" in done.stderr
    kept = stored(tmp_path / "runs/quota/study.journal")
    done = sweep(tmp_path, "quota", "--quiet")
    assert done.returncode == 0, done.stderr
    found = stored(tmp_path / "runs/quota/study.journal")
    assert {number: found.get(number) for number in kept} == kept


def test_there_is_no_room_for_the_table(tmp_path: Path) -> None:
    """A table that can't be written costs no samples: exit code 3, the old one untouched, `build` makes it later."""
    write_config(tmp_path, "late", BACKENDS, SHORT + "\nsizes: {min: 64 B, max: 256 B, per_octave: 1}")
    with _mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=128k", "none") as small:
        out = small / "table.yaml"
        out.write_text("of yesterday")
        with running(tmp_path, "late", "--quiet", "--out", str(out), "--storage", "late.journal") as process:
            _wait_for_file(tmp_path / "late.journal", process)
            (small / "logs").mkdir(exist_ok=True)
            _wait_for_file(small / "logs" / "nursery.log", process)
            with (small / "filler").open("wb") as file:
                _fill(file.fileno())
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert is_quoted(errors, "the table can't be written")
        assert out.read_text() == "of yesterday"
        assert list(small.glob(".*")) == []
        (small / "filler").unlink()
        built = ccl_dispatch("build", "--storage", "late.journal", "--out", str(out), folder=tmp_path)
        assert built.returncode == 0, built.stderr
        assert load_table(out).cells


def _wait_for_point(database: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
        ):
            if connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]:
                return
        time.sleep(0.02)
    raise AssertionError(f"no point came: {process.communicate()}")


def _wait_for_file(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_read_only_folder_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    """On a read-only mount neither storage nor table is begun: exit code 2 with words, within a moment."""
    write_config(tmp_path, "fixed", BACKENDS)
    place = tmp_path / "place"
    place.mkdir()
    with _mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        told = sweep(tmp_path, "fixed", "--storage", "place/study.journal", "--out", "table.yaml")
        assert told.returncode == 2
        assert is_quoted(told.stderr, "the journal ... can't be opened")
        told = sweep(tmp_path, "fixed", "--out", "place/table.yaml")
        assert told.returncode == 2
        assert is_quoted(told.stderr, "the folder")
    assert list(place.iterdir()) == []


def test_an_sqlite_file_that_takes_no_writes_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    """On a read-only mount and on a full one: exit code 2, and one line with what SQLite says about it.

    It is read there all the same.
    """
    write_config(tmp_path, "lite", BACKENDS, SHORT)
    url = "sqlite:///place/s.db"
    with _mounted(tmp_path / "place", "-t", "tmpfs", "-o", "size=2m", "none") as place:
        done = sweep(tmp_path, "lite", "--storage", url, "--quiet")
        assert done.returncode == 0, done.stderr
        # The file itself has room left: what SQLite needs besides has none.
        with (place / "filler").open("wb") as file:
            _fill(file.fileno())
        full = sweep(tmp_path, "lite", "--storage", url, "--quiet")
        (place / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        fixed = sweep(tmp_path, "lite", "--storage", url, "--quiet")
        built = ccl_dispatch("build", "--storage", url, "--out", "built.yaml", folder=tmp_path)
    for told, reason in ((full, "full"), (fixed, "attempt to write a readonly database")):
        assert told.returncode == 2, told.stderr
        assert "place/s.db can't be written: " in told.stderr
        assert reason in told.stderr
        assert told.stderr.count("\n") == 1
    assert is_quoted(fixed.stderr, "the storage sqlite:///")
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "built.yaml").read_bytes() == (tmp_path / "runs/lite/table.yaml").read_bytes()


def test_the_disk_under_an_sqlite_file_fills_up(tmp_path: Path) -> None:
    """The sweep ends with exit code 3 and SQLite's own reason, and with room again it goes on."""
    write_config(tmp_path, "lite", BACKENDS, SHORT)
    url = "sqlite:///place/s.db"
    with _mounted(tmp_path / "place", "-t", "tmpfs", "-o", "size=2m", "none") as place:
        with running(tmp_path, "lite", "--storage", url, "--quiet") as process:
            _wait_for_point(place / "s.db", process)
            with (place / "filler").open("wb") as file:
                _fill(file.fileno())
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert "full" in errors.partition("takes no more samples: ")[2], errors
        assert "exceeding max length" not in errors
        assert "Traceback" not in errors
        (place / "filler").unlink()
        done = sweep(tmp_path, "lite", "--storage", url, "--quiet")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_journal_that_is_taken_away_is_kept(tmp_path: Path, how: str) -> None:
    """The sweep ends with exit code 3 and names the file with all points; moved back, the same command goes on."""
    write_config(tmp_path, "away", BACKENDS, SHORT)
    journal = tmp_path / "runs/away/study.journal"
    with running(tmp_path, "away", "--quiet") as process:
        wait_for_points(tmp_path, "away", 2, process)
        before = journal.read_bytes()
        if how == "replaced":
            (tmp_path / "other").write_bytes(b"")
            (tmp_path / "other").rename(journal)
        else:
            journal.unlink()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert f"was {how}" in errors
    if how == "removed":
        assert is_quoted(errors, "the journal ... was removed")
    (kept,) = journal.parent.glob("study.journal.rescued-*")
    assert f"is kept in {kept.relative_to(tmp_path)}" in errors
    assert kept.read_bytes().startswith(before[: before.rfind(b"\n")])
    kept.rename(journal)
    points = stored(journal)
    assert len(points) >= 2
    done = sweep(tmp_path, "away", "--quiet")
    assert done.returncode == 0, done.stderr
    found = stored(journal)
    assert {number: found.get(number) for number in points} == points


@pytest.mark.parametrize("left", [0, 1000])
def test_a_journal_that_is_cut_is_told_of(tmp_path: Path, left: int) -> None:
    """The sweep ends with exit code 3 and says what was done to the file; with what is left it can be run again."""
    write_config(tmp_path, "cut", BACKENDS, SHORT)
    journal = tmp_path / "runs/cut/study.journal"
    with running(tmp_path, "cut", "--quiet") as process:
        wait_for_points(tmp_path, "cut", 1, process)
        os.truncate(journal, left)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert re.search(r"study.journal was cut from \d+ to \d+ bytes by somebody else", errors)
    done = sweep(tmp_path, "cut", "--quiet")
    assert done.returncode == 0, done.stderr


CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long shift(void) {
    char text[32] = {0};
    int file = open(getenv("CLOCK_SHIFT"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *into) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (into) *into = exact.tv_sec;
    return exact.tv_sec;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="setting the clock of a process needs a C compiler")
def test_the_clock_jumps_by_days(tmp_path: Path) -> None:
    """The system's clock, as sweep and workers see it, is set three days ahead and nine back: only dates show it."""
    source, library, shift = (tmp_path / name for name in ("clock.c", "clock.so", "shift"))
    source.write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    shift.write_text("0")
    write_config(
        tmp_path,
        "clock",
        "baseline: steady\ncandidates: [shm]",
        "measure: {min_seconds: 0.3, max_seconds: 1, timeout: 10}\nbudget: {executions: 10000, seconds: 40}",
    )
    variables = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}
    with running(tmp_path, "clock", "--json", "--quiet", variables=variables) as process:
        for count, days in ((1, 3), (2, -6), (3, 0)):
            wait_for_points(tmp_path, "clock", count, process)
            shift.write_text(str(days * DAY))
        out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    found = results(tmp_path, "clock")
    moments = [datetime.fromisoformat(result.measured_at.replace("Z", "+00:00")).timestamp() for result in found]
    assert max(moments) - min(moments) > 8 * DAY  # the jumps were seen
    assert all(result.faults == () and 0 < result.wall_seconds < 10 for result in found)
    assert '"stopped_by": "seconds"' not in out
    assert load_table(tmp_path / "runs/clock/table.yaml").evidence["trials"] == len(found)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core, which can't become fewer")
def test_fewer_devices_than_yesterday(tmp_path: Path) -> None:
    """On a machine that has lost a device the samples of before stay as they are, and a study of its own begins.

    Here the devices are cores. GPUs are compared by the same code.
    """
    write_config(tmp_path, "fewer", BACKENDS, SHORT + "\nbudget: {executions: 60}")
    assert sweep(tmp_path, "fewer").returncode == 0
    journal = tmp_path / "runs/fewer/study.journal"
    before = stored(journal)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, list(cores)[:1])  # what this process starts inherits it
    try:
        told = sweep(tmp_path, "fewer")
    finally:
        os.sched_setaffinity(0, cores)
    assert told.returncode == 0, told.stderr
    assert is_quoted(told.stderr, "study ... in ... is of another platform")
    assert f"device_count: {len(cores)} against 1" in told.stderr
    with open_storage(str(journal), write=False) as storage:
        old, new = sorted(optuna.get_all_study_names(storage.optuna), key=len)
        kept, others = (SweepStudy.load(storage, name).results() for name in (old, new))
    assert old == "fewer"
    assert kept == [PointResult.from_json(json.loads(text)) for text in before.values()]
    table = load_table(tmp_path / "runs/fewer/table.yaml")
    assert table.platform.device_count == 1
    assert table.evidence["trials"] == len(others)
