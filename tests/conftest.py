"""What holds for every test: it leaves no process behind and no lock taken. And the one server that tests share."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from postgres import PostgresServer

# Before numpy is loaded: for the small matrices of search and fit threads of BLAS only get in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_GRACE_SECONDS = 3.0
# Started once and kept until the interpreter ends: two by Python, one by `ranks`.
_HELPERS = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver", b"support/forking.py")


def pytest_configure() -> None:
    """Make orphaned grandchildren ours, so that they are seen as well as children."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that an earlier test has caused would not be given again."""
    from ccl_dispatch.runtime import telling

    monkeypatch.setattr(telling, "_told", set())


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    """Fail a test whose processes outlive it by more than a short grace."""
    before = _running_children()
    yield
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := _running_children() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    if left:
        named = ", ".join(f"{pid} ({_command(pid).decode(errors='replace')})" for pid in sorted(left))
        pytest.fail(f"processes left behind: {named}")


@pytest.fixture(autouse=True)
def _logging_left_free() -> Iterator[None]:
    """Fail a test that an interrupt made leave the lock of `logging` to this thread: later ones would wait for ever."""
    yield
    free: list[bool] = []

    def take() -> None:
        if lock.acquire(timeout=_GRACE_SECONDS):
            free.append(True)
            lock.release()

    lock = vars(logging)["_lock"]  # of which mypy does not know
    taker = threading.Thread(target=take)
    taker.start()
    taker.join()
    if not free:
        lock.release()
        pytest.fail("the lock of logging is left taken")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole run; each test takes a database of its own from it."""
    import postgres

    reason = postgres.missing()
    if reason is not None:
        pytest.skip(reason)
    with postgres.running_server() as server:
        yield server


def _running_children() -> set[int]:
    """Process ids of all children that have not ended, but for Python's own helpers."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for pid in _read(task / "children").split():
            # The third field of stat, after the name in brackets, is the state; Z has ended and waits to be asked for.
            state = _read(Path(f"/proc/{int(pid)}/stat")).rpartition(b") ")[2][:1]
            if state not in (b"", b"Z", b"X") and not any(helper in _command(int(pid)) for helper in _HELPERS):
                found.add(int(pid))
    return found


def _command(pid: int) -> bytes:
    return _read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").strip()


def _read(path: Path) -> bytes:
    """The contents of a file in /proc, empty when its thread or process is gone."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
