"""Host memory as a device: graphs of host calls keep what makes capturing hard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import pytest

from ccl_dispatch.tuner.device import HostDevice, Placement
from ccl_dispatch.tuner.device.condition import joined_conditions
from ccl_dispatch.tuner.device.host import capturing, launch


def test_nothing_runs_at_capture_and_everything_at_replay() -> None:
    """Captured calls run in order at each replay; the first one also runs once before, inside what is around."""
    device = HostDevice(graphs=True)
    journal: list[str] = []
    device.before_capture(partial(journal.append, "before"))

    @contextmanager
    def around() -> Iterator[None]:
        journal.append("in")
        yield
        journal.append("out")

    first, second = (device.recordable(partial(journal.append, name)) for name in ("a", "b"))
    both, one = device.capture([[first, second], [second]], around)
    assert journal == ["in", "a", "before", "out"]
    journal.clear()
    both.replay()
    one.replay()
    both.replay()
    assert journal == ["a", "b", "b", "a", "b"]
    assert not capturing()


def test_a_failed_capture_is_over() -> None:
    """When a call raises at capture, later calls are made again, not noted."""
    device = HostDevice(graphs=True)

    def failing() -> None:
        if device.capturing():
            raise RuntimeError("not in a capture")

    with pytest.raises(RuntimeError, match="not in a capture"):
        device.capture([[failing]], nullcontext)
    made: list[int] = []
    launch(lambda: made.append(1))
    assert made == [1]


def test_the_cache_is_told_and_flushed() -> None:
    """This machine's last cache has a size, and a buffer of twice that is written."""
    device = HostDevice()
    assert device.cache_bytes >= 1 << 18
    device.flush()
    assert device.empty(48).numel() == 48
    before = device.mark()
    assert device.seconds_between(before, device.mark()) >= 0


def test_ranks_that_share_gpus_are_told_apart_and_noted() -> None:
    """Each rank says that it is a host of its own; the table's settings and note say that devices were shared.

    Variables that a config gives are every rank's and the table's, but for what sharing needs.
    """
    placement = Placement("cuda", 1, shared=True)
    assert [placement.environment(rank)["NCCL_HOSTID"] for rank in (0, 1)] == ["rank0", "rank1"]
    assert placement.settings()["NCCL_HOSTID"] == "one per rank"
    assert placement.settings()["CCL_DISPATCH_SHARED_DEVICES"] == "1"
    assert "say nothing about speed" in placement.note
    given = Placement("cuda", 1, shared=True, variables={"NCCL_HOSTID": "mine", "AITER_ONE": "1"})
    assert [given.environment(rank)["NCCL_HOSTID"] for rank in (0, 1)] == ["rank0", "rank1"]
    assert (given.settings()["NCCL_HOSTID"], given.settings()["AITER_ONE"]) == ("one per rank", "1")
    given = Placement("cuda", 8, variables={"AITER_ONE": "1"})
    assert (given.environment(3), given.settings()) == ({"AITER_ONE": "1"}, {"AITER_ONE": "1"})
    plain = Placement("cuda", 8)
    assert (plain.environment(3), plain.settings(), plain.note) == ({}, {}, "")


def test_conditions_are_joined_to_ranges() -> None:
    """Of several ranks the lowest and highest are kept, and every reason to throttle; the unknown stays out."""
    seen: list[dict[str, float | str]] = [
        {"clock_mhz": 1980, "temperature_c": 40, "throttle": ""},
        {"clock_mhz": 1755, "throttle": "power cap"},
        {},
    ]
    assert joined_conditions(seen) == {
        "clock_mhz": [1755, 1980],
        "temperature_c": [40, 40],
        "throttle": "power cap",
    }
    assert joined_conditions([{}, {}]) == {}
