from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path

import optuna
import pytest
from postgres import missing, running_server
from sqlalchemy.exc import OperationalError, PendingRollbackError

from ccl_dispatch.runtime.errors import StorageGoneError
from ccl_dispatch.tuner import interrupts
from ccl_dispatch.tuner.study import open_storage
from ccl_dispatch.tuner.study.patience import DEFAULT_PATIENCE, PatientStorage, passing


def test_a_server_that_restarts_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Reads and writes that meet a stopped server are carried out once it runs again; both are told.

    One that stays away is an error after the time given; the next operation does not wait again, and works once it can.
    """
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with running_server() as server, open_storage(server.database(), write=True, patience=20) as storage:
        study = optuna.create_study(storage=storage.optuna, study_name="s")
        trial = study.ask()
        server.stop(at_once=True)
        back = threading.Timer(1.0, server.start)
        back.start()
        with caplog.at_level(logging.WARNING):
            trial.set_user_attr("kept", 1)
        back.join()
        assert study.trials[0].user_attrs == {"kept": 1}
        told = " ".join(record.getMessage() for record in caplog.records)
        assert "does not answer" in told
        assert "answers again" in told

        assert isinstance(storage.optuna, PatientStorage)
        storage.optuna.seconds = 0.5
        server.stop()
        with pytest.raises(StorageGoneError, match="has not answered for"):
            study.ask()
        began = time.monotonic()
        with pytest.raises(StorageGoneError):
            study.set_user_attr("x", 1)
        assert time.monotonic() - began < 0.5
        server.start()
        study.set_user_attr("x", 2)
        assert study.user_attrs == {"x": 2}


def test_who_is_to_end_does_not_wait() -> None:
    """After SIGTERM a storage that is away is asked once more and not again: half a minute later SIGKILL comes."""
    asked = []

    class Away(optuna.storages.InMemoryStorage):
        def create_new_study(self, directions: object, study_name: str | None = None) -> int:
            asked.append(study_name)
            raise OperationalError("connect", None, Exception("no route to host"))

    storage = PatientStorage(Away())
    with interrupts.handled():
        with pytest.raises(interrupts.TerminatedError):
            signal.raise_signal(signal.SIGTERM)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(StorageGoneError):
                optuna.create_study(storage=storage, study_name="s")
        assert time.monotonic() - began < 1.0
    assert asked == ["s"]


def test_a_broken_transaction_passes() -> None:
    """What Optuna makes of a connection that went in the midst of a query that it then asks again."""
    problem = optuna.exceptions.StorageInternalError("An exception is raised during the commit. ")
    problem.__cause__ = PendingRollbackError("Can't reconnect until invalid transaction is rolled back.")
    assert passing(problem) == "Can't reconnect until invalid transaction is rolled back."
    assert passing(optuna.exceptions.StorageInternalError("An exception is raised during the commit. ")) is None


def test_what_will_not_pass_is_not_waited_for(tmp_path: Path) -> None:
    """A database that takes no writes fails at once: waiting would not mend it."""
    url = f"sqlite:///{tmp_path}/s.db"
    with open_storage(url, write=True) as storage:
        optuna.create_study(storage=storage.optuna, study_name="s")
    with open_storage(f"sqlite:///file:{tmp_path}/s.db?mode=ro&uri=true", write=False) as storage:
        study = optuna.load_study(storage=storage.optuna, study_name="s")
        began = time.monotonic()
        with pytest.raises(optuna.exceptions.StorageInternalError):
            study.set_user_attr("x", 1)
        assert time.monotonic() - began < DEFAULT_PATIENCE / 10
