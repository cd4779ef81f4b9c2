"""A storage that may be gone for a while: what fails for that reason is tried again with growing pauses."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container, Iterator
from typing import TypeVar

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ccl_dispatch.runtime.errors import StorageGoneError
from ccl_dispatch.tuner import interrupts
from ccl_dispatch.tuner.study.databases import without_password
from ccl_dispatch.tuner.study.operations import WholeOperations

logger = logging.getLogger(__name__)

DEFAULT_PATIENCE = 300.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_PASSING_GRPC = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")

_T = TypeVar("_T")


class PatientStorage(WholeOperations):
    """Any storage of Optuna, asked again while it does not answer.

    A trial whose creation was not confirmed may stay behind; it never beats and is failed.

    Attributes:
        seconds: for how long it is asked again, each time it goes.
    """

    def __init__(self, inner: BaseStorage, seconds: float = DEFAULT_PATIENCE) -> None:
        super().__init__(inner)
        self.seconds = seconds
        self._given_up = False
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._gone_since: float | None = None
        self._moment = threading.local()

    @contextlib.contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Within it, and on this thread, the trials are those of the first look: one look is enough for a decision."""
        self._moment.trials = {}
        try:
            yield
        finally:
            self._moment.trials = None

    def close(self) -> None:
        """Wait no longer, in any thread: from now on a failure is final."""
        self._closed.set()

    def _call(self, ask: Callable[[], _T]) -> _T:
        if self._given_up and interrupts.have_come():
            # Even to ask takes seconds where a server is silent.
            raise StorageGoneError("the storage has not answered, and nobody waits for it any more")
        began = time.monotonic()
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = super()._call(ask)
            except Exception as problem:
                reason = passing(problem)
                if reason is None:
                    raise
                self._note_gone(reason)
                waited = time.monotonic() - began
                # Who has waited once in vain does not wait again for each thing that is still to be written, and who is
                # to end has half a minute before it is killed.
                hurried = self._given_up or self._closed.is_set() or interrupts.have_come()
                left = 0.0 if hurried else self.seconds - waited
                if left <= 0:
                    self._given_up = True
                    raise StorageGoneError(
                        f"the storage has not answered for {waited:.0f} s: {reason}. Once it is back the same command "
                        "continues"
                    ) from problem
                self._closed.wait(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._note_back()
                return answer

    def _note_gone(self, reason: str) -> None:
        with self._lock:
            if self._gone_since is None:
                self._gone_since = time.monotonic()
                logger.warning(
                    "the storage does not answer (%s); it is asked again for up to %.0f s, what was measured is kept",
                    reason,
                    self.seconds,
                )

    def _note_back(self) -> None:
        if self._gone_since is not None:
            with self._lock:
                since, self._gone_since = self._gone_since, None
                self._given_up = False
            if since is not None:
                logger.warning("the storage answers again, after %.0f s", time.monotonic() - since)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See BaseStorage, and `at_one_moment`."""
        seen: dict[int, list[FrozenTrial]] | None = getattr(self._moment, "trials", None)
        if seen is None or deepcopy:
            return super().get_all_trials(study_id, deepcopy, states)
        if study_id not in seen:
            seen[study_id] = super().get_all_trials(study_id, deepcopy=False)
        return [trial for trial in seen[study_id] if states is None or trial.state in states]


def words_of(problem: BaseException) -> str:
    """In one line why an operation failed: the driver's words, where there is one behind it.

    Optuna's own error of a failed commit speaks of values that are too long, whatever the reason was.
    """
    from sqlalchemy import exc

    seen: BaseException | None = problem
    while seen is not None:
        if isinstance(seen, exc.DBAPIError):
            return without_password(_first_line(seen.orig or seen))
        seen = seen.__cause__
    return without_password((problem.strerror if isinstance(problem, OSError) else None) or _first_line(problem))


def passing(problem: BaseException) -> str | None:
    """In one line why an operation failed for a reason that may pass by itself; None when it will not."""
    seen: BaseException | None = problem
    while seen is not None:
        reason = _passing_in_database(seen) or _passing_in_proxy(seen)
        if reason:
            return without_password(reason)
        seen = seen.__cause__
    return None


def _passing_in_database(problem: BaseException) -> str:
    from sqlalchemy import exc

    # After Optuna has passed over an error of a query, asking again in that transaction says only that it is broken.
    if isinstance(problem, (exc.TimeoutError, exc.PendingRollbackError)):
        return _first_line(problem)
    if not isinstance(problem, (exc.OperationalError, exc.InterfaceError)):
        return _first_line(problem) if isinstance(problem, exc.DBAPIError) and problem.connection_invalidated else ""
    text = _first_line(problem.orig or problem)
    # SQLite also calls a full disk and a file that may not be written operational, and those stay.
    if type(problem.orig).__module__ == "sqlite3" and not ("locked" in text or "busy" in text):
        return ""
    return text


def _passing_in_proxy(problem: BaseException) -> str:
    if not type(problem).__module__.startswith("grpc"):
        return ""
    code, details = getattr(problem, "code", None), getattr(problem, "details", None)
    if not callable(code) or not callable(details) or code() is None:
        return ""
    text = str(details() or code().name).partition("\n")[0]
    # What its database raises reaches us as UNKNOWN with the words of Optuna's StorageInternalError.
    behind = code().name == "UNKNOWN" and "raised during the commit" in text
    return f"gRPC proxy: {text}" if behind or code().name in _PASSING_GRPC else ""


def _first_line(problem: BaseException) -> str:
    return str(problem).strip().partition("\n")[0] or type(problem).__name__
