"""A read that never ends keeps nobody waiting."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ccl_dispatch.runtime import installation
from ccl_dispatch.runtime.installation import install
from ccl_dispatch.runtime.patience import within


def test_what_is_read_in_time_is_given_and_what_is_raised_is_raised() -> None:
    """Within its time a read is as if it had been called."""

    def fail() -> None:
        raise FileNotFoundError(2, "there is no such file")

    assert within(30.0, lambda: "text") == "text"
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        within(30.0, fail)


def test_a_pipe_that_nobody_writes_to_is_left(tmp_path: Path) -> None:
    """The error is one of the operating system's, as for any file that can't be read."""
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    with pytest.raises(OSError, match=r"no answer within 0\.1 s"):
        within(0.1, (tmp_path / "pipe").read_bytes)
    assert time.monotonic() - began < 20


def test_without_a_thread_it_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a container allows no more threads a table is still found."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert within(0.1, lambda: "text") == "text"


def test_a_table_that_is_a_pipe_does_not_keep_the_other_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`install` with the file of a table that never comes goes on without a table, and says why."""
    import torch.distributed as dist

    monkeypatch.setattr(installation, "SECONDS", 0.1)
    os.mkfifo(tmp_path / "table.yaml")

    class Communicator:
        world_size = 1

        def should_custom_ag(self, inp: object) -> bool:
            return inp is not None

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        done = install(Communicator(), tmp_path / "table.yaml", dist.group.WORLD)
    finally:
        dist.destroy_process_group()
    assert done.state == "baseline"
    assert "table.yaml: can't be read: [Errno 110] no answer within 0.1 s" in done.reason
