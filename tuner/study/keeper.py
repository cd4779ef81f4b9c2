"""Signs of life: a counter in each running trial that its process keeps raising, and an eye on those of the others.

Optuna's own heartbeats compare clocks and exist for databases alone. Here nothing but the change of a number counts,
and each process waits for it by its own clock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from ccl_dispatch.runtime.errors import StorageGoneError

logger = logging.getLogger(__name__)

BEAT = "beat"
# So many signs fit into the time after which a trial without any is taken back.
_BEATS_PER_GRACE = 12
# Who has not looked for so many beats (stopped, or without a storage) has not seen the others' and begins anew.
_LONGEST_GAP = 3


class Watch:
    """How long the counters of running trials have stood still, by this process's own clock."""

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = grace / _BEATS_PER_GRACE
        self._grace = grace
        self._clock = clock
        self._looked: float | None = None
        self._seen: dict[int, tuple[object, float]] = {}

    def silent(self, running: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Those whose counter has not moved for the whole grace. Called at least once in an interval."""
        now = self._clock()
        if self._looked is not None and now - self._looked > _LONGEST_GAP * self.interval:
            self._seen = {}
        self._looked = now
        before, self._seen = self._seen, {}
        found = []
        for trial in running:
            value = trial.user_attrs.get(BEAT)
            known = before.get(trial.number, (value, now))
            self._seen[trial.number] = known if known[0] == value else (value, now)
            if now - self._seen[trial.number][1] >= self._grace:
                found.append(trial)
        return found


class Keeper:
    """A thread that beats for the trial which this process holds, and hands over those that have fallen silent.

    Args:
        storage: where the trials are; its methods are called on a thread of its own.
        running: the running trials.
        settle: called with a trial of another process that has given no sign for `grace` seconds.
        grace: in seconds.
    """

    def __init__(
        self,
        storage: BaseStorage,
        running: Callable[[], Iterable[FrozenTrial]],
        settle: Callable[[FrozenTrial], None],
        grace: float,
    ) -> None:
        self._storage = storage
        self._running = running
        self._settle = settle
        self._watch = Watch(grace)
        self._held: int | None = None
        self._beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # It may be waiting for a storage that is gone; it is a daemon and ends with the process then.
        self._thread.join(1.0)

    def hold(self, trial_id: int | None) -> None:
        """Beat for this trial from now on, or for none."""
        self._held = trial_id

    def _run(self) -> None:
        while not self._stop.wait(self._watch.interval):
            try:
                self._beat()
                for trial in self._watch.silent(self._running()):
                    if trial._trial_id != self._held:  # noqa: SLF001 - Optuna's storages know trials by it alone
                        self._settle(trial)
            except StorageGoneError:
                return  # the sweep meets the same and tells
            except Exception:
                if self._stop.is_set():
                    return
                logger.exception("a sign of life could not be given; it is tried again")

    def _beat(self) -> None:
        held = self._held
        if held is not None:
            self._beats += 1
            # It may have been finished just now, by us or as lost.
            with contextlib.suppress(UpdateFinishedTrialError):
                self._storage.set_trial_user_attr(held, BEAT, self._beats)
