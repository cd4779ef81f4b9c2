"""Finding the processes that measure: the nursery is a child of the sweep, the workers are children of the nursery."""

from __future__ import annotations

import os
from pathlib import Path

NURSERY = b"ccl_dispatch.tuner.launch.nursery"


def nursery_pids(parent: int | None = None) -> list[int]:
    """The nurseries of `parent`, this process unless it is named."""
    return [pid for pid in children(os.getpid() if parent is None else parent) if NURSERY in _read(pid, "cmdline")]


def worker_pids(parent: int | None = None) -> list[int]:
    """The running workers of `parent`'s nurseries, in the order of their start, which is that of their ranks."""
    return [pid for nursery in nursery_pids(parent) for pid in children(nursery) if runs(pid)]


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    return _read(pid, "stat").rpartition(b") ")[2][:1] not in {b"", b"Z", b"X"}


def children(pid: int) -> list[int]:
    """The child processes of `pid`, in the order of their numbers."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        return sorted(int(word) for task in tasks.iterdir() for word in (task / "children").read_bytes().split())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
