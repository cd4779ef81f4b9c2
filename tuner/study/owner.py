"""Whose a running trial is: a process, so named that no other, on any machine or in any container, has its name."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from ccl_dispatch.runtime.errors import UsageError

DEFAULT_GRACE = 60.0
# Below, a process that a busy machine keeps waiting could be taken for dead.
MIN_GRACE = 1.0
# As long as Linux lets a host's name be. The characters are those that are harmless in a file's name and a terminal.
MAX_NODE_NAME = 64
_OTHER_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Node:
    """This node among those that share a study.

    Attributes:
        name: how trials and tables call it; empty for the host's name where the storage is shared, and none elsewhere.
        ranks: the most ranks that it measures with.
        grace: seconds without a sign of life after which another node's trial is taken back.

    Raises:
        UsageError: the name has other characters than letters, digits, `.`, `_` and `-`, or more than 64.
    """

    name: str = ""
    ranks: int = 0
    grace: float = DEFAULT_GRACE

    def __post_init__(self) -> None:
        if _OTHER_CHARACTERS.search(self.name) or len(self.name) > MAX_NODE_NAME:
            shown = self.name if len(self.name) <= MAX_NODE_NAME else f"{self.name[:MAX_NODE_NAME]}..."
            raise UsageError(
                f"a node can't be called {shown!r}: expected at most {MAX_NODE_NAME} letters (A to Z), digits, "
                "'.', '_' and '-', as its name goes into tables and names of files. Give another --node, such as "
                "rack1-node7"
            )

    def named(self) -> str:
        """The name, or the host's with `-` for what a node's must not have: nobody chose that one for us."""
        return self.name or _OTHER_CHARACTERS.sub("-", socket.gethostname())[:MAX_NODE_NAME]


def this_process() -> str:
    """`place:pid:start`, where the place is a boot of a kernel and a space of process ids on it."""
    return _own_name(os.getpid())


def is_gone(owner: str) -> bool:
    """Whether the process has certainly ended; what runs elsewhere can only be known by its signs of life.

    A host's name would not do: containers may share one and have process ids of their own.
    """
    place, _, rest = owner.partition(":")
    pid, _, start = rest.partition(":")
    if place != _place() or not pid.isdigit():
        return False
    # Another process may have been given the same id since.
    return _start(int(pid)) != start


@lru_cache(maxsize=1)
def _own_name(pid: int) -> str:
    """A child has a name of its own; it is asked for at every point."""
    return f"{_place()}:{pid}:{_start(pid)}"


@cache
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        # Where there is no /proc: the host's name and a number of this process alone, so that nobody else is judged.
        return f"{socket.gethostname()}/{os.getpid()}"


def _start(pid: int) -> str:
    """When the process began, in ticks since boot; empty when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # After the name in brackets: the state is the third field of all, the start the 22nd. Z and X have ended.
    fields = stat.rpartition(b") ")[2].split()
    return "" if fields[0] in {b"Z", b"X"} else fields[19].decode()
