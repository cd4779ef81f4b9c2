"""How much of the host's processors is used by what is not ours: what is measured beside other work may not hold."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

# From that share of all processors on other work disturbs: a tenth of one core of two, six of a hundred and twenty.
DISTURBING = 0.05
#: Where the `condition` of a result has that share, as far as known.
OTHERS = "others"
# Seconds between two readings at least, and in proportion to what a reading takes.
_SHORTEST_PAUSE = 1.0
_PART_FOR_READING = 100


@dataclass(frozen=True)
class Usage:
    """Processor seconds since boot of all processes, and of this one with its descendants; and when that was."""

    everybody: float
    ours: float
    at: float

    @classmethod
    def now(cls) -> Usage | None:
        """The usage at this moment; None where Linux's /proc does not tell."""
        try:
            return cls(_busy(), _own(), time.monotonic())
        except (OSError, ValueError, IndexError):
            return None


def others_share(before: Usage | None, after: Usage | None) -> float | None:
    """The share of all processors (0 to 1) that others used between the two; None when unknown."""
    if before is None or after is None or after.at <= before.at:
        return None
    used = (after.everybody - before.everybody) - (after.ours - before.ours)
    return max(used / (after.at - before.at) / (os.cpu_count() or 1), 0.0)


class Watch:
    """The share that others use, while one measures: read now and then, since reading takes time itself."""

    def __init__(self) -> None:
        self._last = Usage.now()
        self._pause = _SHORTEST_PAUSE
        self._share: float | None = None

    def share(self) -> float | None:
        """The share (0 to 1) of all processors that others used of late; None while it is not known."""
        began = time.monotonic()
        if self._last is not None and began - self._last.at >= self._pause:
            now = Usage.now()
            self._share = others_share(self._last, now)
            self._last = now
            self._pause = max(_SHORTEST_PAUSE, _PART_FOR_READING * (time.monotonic() - began))
        return self._share


def _busy() -> float:
    """All but idle and waiting for devices (the fourth and fifth figure of /proc/stat's first line)."""
    first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    ticks = [int(word) for word in first.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    used: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        fields = text.rpartition(") ")[2].split()
        pid = int(folder.name)
        children.setdefault(int(fields[1]), []).append(pid)
        # With what ended children had used (cutime and cstime), so that a worker that is replaced is not lost.
        used[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, waiting = 0.0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0.0)
        waiting += children.get(pid, ())
    return total
