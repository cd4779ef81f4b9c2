"""What a container's limits leave of the machine's memory and processors, and who is told of it."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import COMMAND
from made_configs import SMALL

from ccl_dispatch.tuner.allowance import Memory, host_memory, processors_at_once

MIB = 1 << 20
V1 = {
    "memory.limit_in_bytes": f"{300 * MIB}",
    "memory.usage_in_bytes": f"{100 * MIB}",
    "memory.stat": f"cache 1\ninactive_file 1\ntotal_inactive_file {20 * MIB}\ntotal_active_file {10 * MIB}",
    "cpu.cfs_quota_us": "50000",
    "cpu.cfs_period_us": "100000",
}
V2 = {
    "memory.max": f"{300 * MIB}",
    "memory.current": f"{100 * MIB}",
    "memory.stat": f"anon 1\ninactive_file {20 * MIB}\nactive_file {10 * MIB}",
    "cpu.max": "50000 100000",
}
NONE_1 = {"memory.limit_in_bytes": "9223372036854771712", "cpu.cfs_quota_us": "-1"}
NONE_2 = {"memory.max": "max", "cpu.max": "max 100000"}


@pytest.mark.parametrize(
    ("kind", "own", "root", "limited", "free"),
    [
        pytest.param("cgroup2 cgroup rw", "0::/", "/", ".", NONE_2, id="version 2"),
        pytest.param("cgroup2 cgroup rw", "0::/pods/one/two", "/", "pods/one", NONE_2, id="version 2, one above"),
        pytest.param("cgroup cgroup rw,memory,cpu", "4:cpu,memory:/pods/one", "/pods/one", ".", NONE_1, id="version 1"),
        pytest.param("cgroup cgroup rw,memory,cpu", "4:cpu,memory:/p", "/", "p", NONE_1, id="version 1, a path"),
        pytest.param("cgroup cgroup rw,memory,cpu", "4:cpu,memory:/p", "/other", ".", NONE_1, id="of another mount"),
    ],
)
def test_the_least_limit_counts(
    tmp_path: Path, kind: str, own: str, root: str, limited: str, free: dict[str, str]
) -> None:
    """The limit of any group above counts, less what is used and not held by files; so does that of processors."""
    point = tmp_path / "cgroup.d"
    (point / own.rpartition(":")[2].strip("/")).mkdir(parents=True)
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/x\n{own}\n")
    (tmp_path / "mountinfo").write_text(f"24 1 0:5 / /proc rw - proc proc rw\n36 35 0:29 {root} {point} rw - {kind}\n")

    def put(folder: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")

    put(point, free)
    assert host_memory(tmp_path).whose == "this machine"
    assert processors_at_once(tmp_path) is None
    put(point / limited, V2 if "cgroup2" in kind else V1)
    assert host_memory(tmp_path) == Memory(230 * MIB, "this container (by its memory limit)")
    assert processors_at_once(tmp_path) == 0.5


def test_without_control_groups_it_is_the_machine(tmp_path: Path) -> None:
    """Where /proc does not tell of any nothing is limited."""
    assert host_memory(tmp_path).whose == "this machine"
    assert processors_at_once(tmp_path) is None


@contextlib.contextmanager
def _group(controller: str, limits: dict[str, str]) -> Iterator[Path]:
    """A control group of this machine with limits of its own.

    It is skipped where this user can't make one.
    """
    base = Path("/sys/fs/cgroup")
    one = (base / controller).is_dir()
    folder = (base / controller if one else base) / f"ccl-dispatch-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made here: {problem}")
    try:
        try:
            for name, text in limits.items():
                if name.startswith(f"{controller}.") and (folder / name).exists():
                    (folder / name).write_text(text)
            assert one or (folder / f"{controller}.max").exists()
        except (OSError, AssertionError) as problem:
            pytest.skip(f"no control group with limits of {controller} can be made here: {problem}")
        yield folder
    finally:
        folder.rmdir()


def _within(group: Path, words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = f"echo $$ > {group}/cgroup.procs && exec {shlex.join(COMMAND)} {words}"
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_a_sweep_that_does_not_fit_into_its_container_is_refused(tmp_path: Path) -> None:
    """Exit code 2 before anything is started, as the kernel would end its workers; a retry would change nothing."""
    (tmp_path / "c.yaml").write_text(SMALL)
    most = str(400 * MIB)
    with _group("memory", {"memory.limit_in_bytes": most, "memory.max": most}) as group:
        done = _within(group, "sweep c.yaml", tmp_path)
        told = _within(group, "doctor --no-check", tmp_path).stdout
    assert done.returncode == 2, done.stderr
    assert "of memory, this container (by its memory limit) has " in done.stderr
    assert "enough for about 1 ranks" in told or "enough for about 0 ranks" in told
    assert list(tmp_path.iterdir()) == [tmp_path / "c.yaml"]


def test_ranks_that_a_limit_stops_are_told(tmp_path: Path) -> None:
    """Fewer processors at once than ranks: a warning, as it is measured as time of whatever runs; `doctor` tells it."""
    (tmp_path / "c.yaml").write_text(SMALL + "budget: {executions: 60}\n")
    with _group("cpu", {"cpu.cfs_quota_us": "150000", "cpu.max": "150000 100000"}) as group:
        done = _within(group, "sweep c.yaml", tmp_path)
        told = _within(group, "doctor --no-check", tmp_path).stdout
    assert done.returncode == 0, done.stderr
    assert "the time of 1.5 processors (its CPU limit), and 2 ranks" in done.stderr
    assert "of which a limit allows the time of 1.5" in told
