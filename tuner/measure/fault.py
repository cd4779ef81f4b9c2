"""A point that no answer came to: what is known of it, and what the rank that failed left in its log."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from pathlib import Path

from ccl_dispatch.runtime.errors import MeasuringError

#: Characters of a rank's log that are kept with a fault.
TAIL = 2000
# A stack is written in a few milliseconds, by a process that can still take a signal.
_STACK_SECONDS = 0.3
# On the signal a worker writes what each of its threads is doing to its log, also while native code hangs.
_STACK_SIGNAL = signal.SIGUSR1
# What would crowd out the reason: a list of a hundred names with which faulthandler ends, and the frames of native code
# with which torch explains an abort.
_NOISE = ("Extension modules:", "frame #")
_READ_BYTES = 8 * TAIL


class WorkerFault(MeasuringError):
    """A point that no answer came to.

    Attributes:
        reason: `crashed` (a worker's process ended), `hung` (no answer in time), `raised` (an exception), or
            `wrong_output` (of the baseline).
        rank: the rank that failed.
        backend: what it was running, empty when it ran none.
        detail: what happened, in one line.
        tail: the end of what it wrote to its log at this point.
    """

    def __init__(self, reason: str, rank: int, backend: str, detail: str, log: Path, tail: str = "") -> None:
        self.reason = reason
        self.rank = rank
        self.backend = backend
        self.detail = detail
        self.tail = tail
        doing = f"while running {backend}" if backend else "while running no backend"
        said = f"Its log {log} ends:\n{tail}" if tail else f"It wrote nothing to its log {log}"
        super().__init__(f"rank {rank} {reason.replace('_', ' ')} {doing}: {detail}. {said}")


class RankLog:
    """The log of one rank, of which only what was written since `mark` is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._from = self._size()

    def mark(self) -> None:
        """Tell from here on."""
        self._from = self._size()

    def tail(self) -> str:
        """The end of what was written since the mark, at most TAIL of it."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(max(self._from, self._size() - _READ_BYTES))
            lines = file.read(_READ_BYTES).decode("utf-8", "replace").splitlines()
            return "\n".join(line.rstrip() for line in lines if not line.startswith(_NOISE)).strip()[-TAIL:]
        return ""

    def with_stacks(self, pid: int) -> str:
        """The tail, after the process `pid` was asked what its threads are doing; it must have called `explain_end`."""
        before = self._size()
        with contextlib.suppress(OSError):
            os.kill(pid, _STACK_SIGNAL)
        until = time.monotonic() + _STACK_SECONDS
        grown = before
        while time.monotonic() < until:
            time.sleep(0.02)
            size = self._size()
            if before < grown == size:
                break
            grown = size
        return self.tail()

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def explain_end() -> None:
    """Have this process write to standard error what it was doing when a signal ends it, or when it is asked to."""
    faulthandler.enable(file=sys.stderr, all_threads=True)
    faulthandler.register(_STACK_SIGNAL, file=sys.stderr, all_threads=True)


def process_state(pid: int) -> str:
    """The state of a process in words, where it explains that no answer comes; else empty."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1]
        return {
            "T": "it is stopped (SIGSTOP)",
            "t": "it is stopped by a debugger",
            "D": "it waits inside the kernel, most often for a driver or a disk",
        }.get(state, "")
    return ""
