"""What this process may take of the machine: memory, and the time of processors, which limits of a container bound.

Linux tells both of the machine as a whole, in a container as well. Limits are those of control groups (versions 1 and
2): of the one that this process is in and of all above it, as far as they can be seen from here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SELF = Path("/proc/self")
# Version 1 has a number of about 2^63 where there is no limit.
_NO_LIMIT = 1 << 60


class Memory(NamedTuple):
    """Bytes that can be taken, None where that is unknown; and whose they are, for messages."""

    available: int | None
    whose: str


def host_memory(proc: Path = _SELF) -> Memory:
    """The memory that can be taken without swapping: what Linux estimates, or what a limit leaves where that is less.

    Args:
        proc: what /proc tells of the process.
    """
    machine = _of_the_machine()
    limited = min(_left(proc), default=None)
    if limited is None or (machine is not None and machine <= limited):
        return Memory(machine, "this machine")
    return Memory(limited, "this container (by its memory limit)")


def processors_at_once(proc: Path = _SELF) -> float | None:
    """Of how many processors this process and its children may use the time, where a limit makes that fewer than
    they may run on; else None. With less than they ask for they are all stopped for the rest of each 0.1 s.
    """
    allowed = min(_quotas(proc), default=None)
    return None if allowed is None or allowed >= len(os.sched_getaffinity(0)) else allowed


def _of_the_machine() -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _left(proc: Path) -> Iterator[int]:
    """What each limit of memory leaves; what files hold of it is given back where it is needed."""
    for group in _groups("memory", proc):
        for limit, usage, files in (
            ("memory.max", "memory.current", ("inactive_file", "active_file")),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
        ):
            with contextlib.suppress(OSError, ValueError):  # the other version, or `max`: no limit
                most = int((group / limit).read_text(encoding="ascii"))
                used = int((group / usage).read_text(encoding="ascii"))
                lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
                held = sum(int(line.split()[1]) for line in lines if line.split()[0] in files)
                if most < _NO_LIMIT:
                    yield max(most - used + held, 0)


def _quotas(proc: Path) -> Iterator[float]:
    for group in _groups("cpu", proc):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
            yield int(quota) / int(period)
        with contextlib.suppress(OSError, ValueError):
            quota, period = ((group / f"cpu.cfs_{each}_us").read_text(encoding="ascii") for each in ("quota", "period"))
            if int(quota) > 0:
                yield int(quota) / int(period)


def _groups(controller: str, proc: Path) -> Iterator[Path]:
    """The folders of the control groups whose limits hold for this process."""
    try:
        own: dict[str, str] = {}
        for line in (proc / "cgroup").read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            own |= dict.fromkeys(names.split(","), path)  # the name of version 2 is empty
        mounts = [line.partition(" - ") for line in (proc / "mountinfo").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return
    for place, _, kind in mounts:
        root, point = place.split()[3:5]
        system, _, options = kind.split()[:3]
        name = "" if system == "cgroup2" else controller
        if system not in ("cgroup", "cgroup2") or name not in own or (name and name not in options.split(",")):
            continue
        # Without a name space of its own a container sees its group as the mount's root, and the whole path in `own`.
        below = os.path.relpath(own[name], root)
        group = Path(point) if below.startswith("..") else Path(point, below)
        yield from (each for each in (group, *group.parents) if each.is_relative_to(point))
