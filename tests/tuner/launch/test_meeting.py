"""Where the ranks of a node meet: whose place it is, and who is missed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccl_dispatch.runtime.errors import MeasuringError, UsageError
from ccl_dispatch.runtime.table import Platform
from ccl_dispatch.tuner.cli.sweep import config_path
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.launch import given as given_ranks
from ccl_dispatch.tuner.launch import wire
from ccl_dispatch.tuner.launch.given import GivenRanks
from ccl_dispatch.tuner.launch.launched import Launched
from ccl_dispatch.tuner.launch.meeting import connect, listen, meeting_place
from ccl_dispatch.tuner.machine import _of_all_ranks, sweep_platform
from ccl_dispatch.tuner.plan import make_plan

JOB = Launched("srun", "--ntasks-per-node", 1, 3, 0, 1, "srun scratch 17 0 0")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert len(os.fsencode(str(tmp_path))) < 80  # or the fallback to /tmp would be what was tested


def test_a_socket_that_nobody_listens_at_is_replaced() -> None:
    """What a killed sweep left behind does not keep the next one of the same job from starting."""
    place = meeting_place(JOB)
    listen(place).close()
    assert place.exists()
    with listen(place), connect(JOB, place, 1.0):
        pass


def test_old_sockets_are_cleared_away() -> None:
    """What killed sweeps left behind does not pile up: after a day the next one removes it, and nothing else."""
    place = meeting_place(JOB)
    old, new, used = (place.with_name(name) for name in ("old", "new", "used"))
    listen(old).close()
    listen(new).close()
    with listen(used):
        for path in (old, used):
            os.utime(path, (0, 0))
        listen(place).close()
        assert {path.name for path in place.parent.iterdir()} == {place.name, "new", "used"}


def test_two_sweeps_of_one_job_are_refused() -> None:
    """While a sweep listens a second one of the same job is told so."""
    place = meeting_place(JOB)
    with listen(place), pytest.raises(UsageError, match="another sweep of the same job"):
        listen(place)


def test_a_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    """The folder of the sockets must be this user's alone; else somebody else's processes could pose as ranks."""
    folder = meeting_place(JOB).parent
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(UsageError, match="this user alone"):
        meeting_place(JOB)


def test_a_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rank waits for the others and names those that are missing; one that comes twice counts once."""
    monkeypatch.setattr(given_ranks, "_LEAVE_SECONDS", 0.1)
    given = GivenRanks(replace(JOB, local_rank=0))
    lines = [connect(JOB, meeting_place(JOB), 1.0) for _ in range(2)]
    for line in lines:
        wire.send(line, {"host": 1, "process": 0, "cpus": [0]})
    with pytest.raises(MeasuringError, match=r"of the 3 ranks that srun gave this node, local rank 2 did not come"):
        given.gather(2, 0.2)
    given.release(0, at_once=True)
    assert not meeting_place(JOB).exists()
    for line in lines:
        line.close()


def test_a_first_rank_that_does_not_come_is_named() -> None:
    """The others say whom they waited for, and where."""
    place = meeting_place(JOB)
    with pytest.raises(MeasuringError, match=rf"local rank 1 of 3 waited 0\.1 s for local rank 0, .* open {place}"):
        connect(JOB, place, 0.1)


def test_the_platform_is_that_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that are bound to processors of their own are as many of them together; so are ranks that see one GPU each.

    Their GPUs' links are then unknown rather than none; ranks that were meant to share a GPU stay on one.
    """
    monkeypatch.setattr(given_ranks, "_LEAVE_SECONDS", 0.1)
    given = GivenRanks(replace(JOB, local_rank=0))
    with connect(JOB, meeting_place(JOB), 1.0) as second, connect(JOB, meeting_place(JOB), 1.0) as third:
        wire.send(second, {"host": 1, "process": 0, "cpus": [1001, 1002]})
        wire.send(third, {"host": 2, "process": 0, "cpus": [1002, 1003]})
        given.gather(1, 1.0)
        plan = make_plan(replace(load_config(config_path("cpu")), world_sizes=(2, 3)), given)
        assert sweep_platform(plan).device_count == len(os.sched_getaffinity(0)) + 3
        gpu = Platform("cuda", "gfx942", "AMD Instinct MI300X", 1, "none", {}, {})
        assert _of_all_ranks(gpu, given, shared=False) == gpu._replace(device_count=3, link="")
        assert _of_all_ranks(gpu, given, shared=True) == gpu
        given.release(0, at_once=True)
