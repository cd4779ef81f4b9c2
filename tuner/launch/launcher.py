"""How the pool gets a process for each rank: from whoever can start one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ccl_dispatch.tuner.launch import wire
from ccl_dispatch.tuner.launch.interpreter import python
from ccl_dispatch.tuner.launch.link import ANSWER_SECONDS, Link, NurseryLost, RunningWorker, ended_in_words

__all__ = ["Launcher", "NurseryLost", "OwnRanks", "RunningWorker", "log_note"]

NURSERY_MODULE = "ccl_dispatch.tuner.launch.nursery"
# torch from a busy network filesystem takes minutes.
IMPORT_SECONDS = 180.0
_CLOSE_SECONDS = 5.0
_LOG_TAIL = 2000


class Launcher(Protocol):
    """Starts workers. The pool asks for one rank after the other, and again after a fault."""

    def prepare(self, log_folder: Path) -> None:
        """Begin with what takes long before the first start, and return at once."""

    def start(self, rank: int, environment: Mapping[str, str], fds: Sequence[int], log_folder: Path) -> RunningWorker:
        """Start the worker of `rank`.

        Args:
            environment: of the worker, beside this process's.
            fds: of its channel, its board and its log.
            log_folder: for the logs of whatever starts it.

        Raises:
            NurseryLost: it could not be started because what starts it is gone; all workers of it end. Calling again
                starts anew.
            OSError: the system refuses another process.
        """

    def drop(self) -> None:
        """Give up what is gone or does not answer, with all its workers. The next `start` begins anew."""

    def close(self, *, at_once: bool) -> None:
        """End all that was started; `at_once` without waiting for what it is doing."""


class OwnRanks:
    """All ranks from one nursery that this process starts."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._imported = False
        self._log = Path()
        self._made_log = False

    def prepare(self, log_folder: Path) -> None:
        """See `Launcher`: the nursery imports torch meanwhile."""
        if self._link is None:
            self._link = self._begin(log_folder)

    def start(self, rank: int, environment: Mapping[str, str], fds: Sequence[int], log_folder: Path) -> RunningWorker:
        """See `Launcher`."""
        seconds = ANSWER_SECONDS
        if self._link is not None and self._link.lost:
            self.drop()
        if self._link is None:
            self._link = self._begin(log_folder)
        if not self._imported:
            seconds = IMPORT_SECONDS
        try:
            worker = self._link.start(rank, environment, fds, seconds)
        except NurseryLost as lost:
            told = self._end() or str(lost)
            raise NurseryLost(f"the process that starts the workers {told}. {log_note(self._log)}") from None
        self._imported = True
        return worker

    def drop(self) -> None:
        """See `Launcher`."""
        if self._link is not None and self._link.lost:
            self._end()

    def close(self, *, at_once: bool) -> None:
        """See `Launcher`."""
        # One that is still importing would end when that is done.
        if self._link is not None and self._process is not None and self._imported and not at_once:
            self._link.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_SECONDS)
        self._end()
        if at_once and self._made_log:
            # A sweep that is refused leaves nothing behind.
            with contextlib.suppress(OSError):
                if not self._log.stat().st_size:
                    self._log.unlink()

    def _begin(self, log_folder: Path) -> Link:
        log_folder.mkdir(parents=True, exist_ok=True)
        self._log = log = log_folder / "nursery.log"
        self._made_log = self._made_log or not log.exists()
        self._imported = False
        ours, theirs = wire.pair()
        with theirs, log.open("ab") as output:
            # A session of its own: the terminal's Ctrl-C reaches this process alone.
            self._process = subprocess.Popen(
                python(NURSERY_MODULE, str(theirs.fileno()), str(os.getpid())),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        return Link(ours)

    def _end(self) -> str:
        """End the nursery and its workers; how it ended when it had done that by itself."""
        process, self._process = self._process, None
        if process is None or self._link is None:
            return ""
        try:
            code: int | None = process.wait(0.2 if self._link.lost else 0)
        except subprocess.TimeoutExpired:
            code = None
            # While it runs the numbers of its workers are theirs; when it has ended, so have they.
            for pid in self._link.running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            process.kill()
            process.wait()
        self._link.close()
        self._link = None
        return "" if code is None else ended_in_words(code)


def log_note(log: Path) -> str:
    """Where the log of a process is, and how it ends."""
    tail = b""
    with contextlib.suppress(OSError):
        tail = log.read_bytes()[-_LOG_TAIL:].strip()
    return f"Its log is {log}" + (f", which ends:\n{tail.decode('utf-8', 'replace')}" if tail else "")
