"""How the pool gets a process for each rank: from whoever can start one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.tuner.launch import wire
from ccl_dispatch.tuner.launch.interpreter import python
from ccl_dispatch.tuner.launch.link import ANSWER_SECONDS, Link, NurseryLost, RunningWorker, ended_in_words
from ccl_dispatch.tuner.torch_import import no_torch

__all__ = ["Launcher", "NurseryLost", "OwnRanks", "RunningWorker", "log_note", "once_more"]

logger = logging.getLogger(__name__)

NURSERY_MODULE = "ccl_dispatch.tuner.launch.nursery"
# torch from a busy network filesystem takes minutes.
IMPORT_SECONDS = 180.0
_CLOSE_SECONDS = 5.0
_LOG_TAIL = 2000

Answer = TypeVar("Answer")


class Launcher(Protocol):
    """Starts workers. The pool asks for one rank after the other, and again after a fault."""

    def prepare(self, log_folder: Path) -> None:
        """Begin with what takes long before the first start, and return at once."""

    def unavailable(self, backend: str, log_folder: Path) -> str | None:
        """Why this machine can't run a backend, None when it can: asked where torch is imported for the workers.

        Raises:
            NurseryLost, UsageError: as by `start`.
        """

    def start(self, rank: int, environment: Mapping[str, str], fds: Sequence[int], log_folder: Path) -> RunningWorker:
        """Start the worker of `rank`.

        Args:
            environment: of the worker, beside this process's.
            fds: of its channel, its board and its log.
            log_folder: for the logs of whatever starts it.

        Raises:
            NurseryLost: it could not be started because what starts it is gone; all workers of it end. Calling again
                starts anew.
            UsageError: torch can't be imported.
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
        return self._ask(log_folder, lambda link, seconds: link.start(rank, environment, fds, seconds))

    def unavailable(self, backend: str, log_folder: Path) -> str | None:
        """See `Launcher`."""
        return self._ask(log_folder, lambda link, seconds: link.unavailable(backend, seconds))

    def _ask(self, log_folder: Path, question: Callable[[Link, float], Answer]) -> Answer:
        """What the nursery answers to a question, which gets its link and the seconds to wait; a new one if need be."""
        if self._link is not None and self._link.lost:
            self.drop()
        if self._link is None:
            self._link = self._begin(log_folder)
        try:
            answer = question(self._link, ANSWER_SECONDS if self._imported else IMPORT_SECONDS)
        except NurseryLost as lost:
            code = self._end()
            if code == wire.NO_TORCH:
                raise no_torch(_tail(self._log).rpartition("\n")[2]) from None
            told = str(lost) if code is None else ended_in_words(code)
            raise NurseryLost(f"the process that starts the workers {told}. {log_note(self._log)}") from None
        self._imported = True
        return answer

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

    def _end(self) -> int | None:
        """End the nursery and its workers; its exit code when it had ended by itself."""
        process, self._process = self._process, None
        if process is None or self._link is None:
            return None
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
        return code


def once_more(action: Callable[[], Answer]) -> Answer:
    """What an action gives for which a nursery is needed, tried again where that was lost.

    Raises:
        MeasuringError: the next one was lost as well.
    """
    try:
        return action()
    except NurseryLost as lost:
        logger.warning("%s; it is replaced", lost)
        try:
            return action()
        except NurseryLost as again:
            raise MeasuringError(f"the workers can't be started: {again}") from None


def log_note(log: Path) -> str:
    """Where the log of a process is, and how it ends."""
    tail = _tail(log)
    return f"Its log is {log}" + (f", which ends:\n{tail}" if tail else "")


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return log.read_bytes()[-_LOG_TAIL:].strip().decode("utf-8", "replace")
    return ""
