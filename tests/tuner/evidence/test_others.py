"""Whose work the processors do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ccl_dispatch.tuner.evidence import others
from ccl_dispatch.tuner.evidence.others import Usage, Watch, others_share

# Ends by itself, should the test not get to it.
_SPIN = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"


def test_what_a_child_uses_is_ours() -> None:
    """The seconds of a spinning child count as this process's own, and as everybody's."""
    with subprocess.Popen([sys.executable, "-c", _SPIN]) as child:
        before, began = Usage.now(), time.monotonic()
        assert before is not None
        after = before
        # On a busy machine the child gets little of a second; it spins for longer than this waits.
        while after.ours - before.ours < 0.2 and time.monotonic() - began < 15:
            time.sleep(0.5)
            after = Usage.now() or after
        child.kill()
    # The child and this process could use a core and a bit.
    assert 0.2 <= after.ours - before.ours < 1.5 * (time.monotonic() - began)
    assert after.everybody - before.everybody >= 0.2


def test_what_is_unknown_is_not_guessed() -> None:
    """Without a reading, or without time between two, there is no share."""
    now = Usage.now()
    assert others_share(None, now) is None
    assert others_share(now, None) is None
    assert others_share(now, now) is None


def test_a_share_is_of_all_processors() -> None:
    """Half a core of others' work in a second is half of one core's share, whatever we did meanwhile."""
    cores = os.cpu_count() or 1
    share = others_share(Usage(10.0, 4.0, 0.0), Usage(11.5, 5.0, 1.0))
    assert share is not None
    assert abs(share - 0.5 / cores) < 1e-9
    assert others_share(Usage(10.0, 4.0, 0.0), Usage(10.5, 5.0, 1.0)) == 0.0


def test_a_watch_reads_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known at first; then what others used between two readings, which are a second apart at least, and
    further where a reading takes long. Without readings nothing is known again.
    """
    cores = os.cpu_count() or 1
    clock, readings, costs = [0.0], [0], [0.0]

    def now() -> Usage:
        readings[0] += 1
        usage = Usage(everybody=clock[0] * 0.75 * cores, ours=clock[0] * 0.25 * cores, at=clock[0])
        clock[0] += costs[0]
        return usage

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Usage, "now", now)
    watch = Watch()
    for moment, share, read in ((0.5, None, 1), (1.0, 0.5, 2), (1.5, 0.5, 2), (2.0, 0.5, 3)):
        clock[0] = moment
        assert (watch.share(), readings[0]) == (share, read)
    clock[0], costs[0] = 3.0, 0.05
    assert (watch.share(), readings[0]) == (0.5, 4)
    for moment, read in ((7.9, 4), (8.0, 5)):
        clock[0] = moment
        assert (watch.share(), readings[0]) == (0.5, read)
    clock[0] = 30.0
    monkeypatch.setattr(Usage, "now", lambda: None)
    assert watch.share() is None


def test_waiting_for_a_disk_is_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the figures of all processors all count but idle and waiting, and those of guests, which are in others."""
    monkeypatch.setattr(
        Path, "read_text", lambda *_, **__: "cpu  1 2 4 800 1600 8 16 32 64 128\ncpu0 9 9 9 9 9 9 9 9 9 9\n"
    )
    assert others._busy() == 63 / os.sysconf("SC_CLK_TCK")
