from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from command import ccl_dispatch
from postgres import PostgresServer
from sqlalchemy.exc import OperationalError

from ccl_dispatch.runtime.errors import StorageError, StorageGoneError
from ccl_dispatch.tuner.study import open_storage
from ccl_dispatch.tuner.study.databases import without_password


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://tuner:s3cret@db/tuning",
        "postgresql+psycopg://tuner:s3@cret@db:5432/tuning",
        "mysql+pymysql://tuner:p:s3cret@db/tuning",
        "postgresql://db/tuning?user=tuner&password=s3cret&sslmode=require",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    """A URL's password is replaced wherever it stands, and the rest of the URL is kept."""
    shown = without_password(f"the storage {url} can't be opened")
    assert "cret" not in shown
    assert "***" in shown
    assert "tuner" in shown
    assert "db" in shown


def test_a_url_without_password_is_shown_as_it_is() -> None:
    """Nothing is taken from a URL that holds no secret."""
    url = "postgresql://tuner@db:5432/tuning?sslmode=require"
    assert without_password(url) == url


def test_a_server_that_starts_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses for that reason is asked again, any other refusal is told at once."""
    refusals = ["FATAL:  the database system is starting up", "the database system is not yet accepting connections"]

    class Starting(optuna.storages.RDBStorage):
        def __init__(self, url: str, **more: Any) -> None:
            if refusals:
                raise OperationalError("connect", None, Exception(refusals.pop()))
            super().__init__(url, **more)

    monkeypatch.setattr(optuna.storages, "RDBStorage", Starting)
    with open_storage(f"sqlite:///{tmp_path}/s.db", write=True) as storage:
        assert optuna.get_all_study_names(storage.optuna) == []
    assert refusals == []
    refusals += ["FATAL:  no such role"] * 2
    with (
        pytest.raises(StorageError, match="no such role"),
        open_storage(f"sqlite:///{tmp_path}/other.db", write=True),
    ):
        pass
    assert len(refusals) == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://tuner@127.0.0.1:1/tuning",
        "postgresql://tuner@absent.invalid/tuning",
        "mysql://tuner@127.0.0.1:1/tuning",
        "mysql://tuner@absent.invalid/tuning",
    ],
)
def test_a_server_that_is_not_reached_may_be_asked_again(url: str) -> None:
    """A network or a server may be down for a moment: exit code 3, upon which a Job begins anew, and not 2."""
    with pytest.raises(StorageGoneError, match="can't be opened") as told, open_storage(url, write=True):
        pass
    assert told.value.exit_code == 3


def test_what_a_server_refuses_is_wrong_use(postgres_server: PostgresServer) -> None:
    """A database that is not there, or a role, will not be there the next time either: exit code 2."""
    url = postgres_server.database()
    base, _, query = url.partition("?")
    with (
        pytest.raises(StorageError, match="does not exist") as told,
        open_storage(f"{base}_absent?{query}", write=True),
    ):
        pass
    assert told.value.exit_code == 2


def test_a_failing_command_shows_no_password(tmp_path: Path) -> None:
    """What a verb prints about a database that can't be reached holds no password, and says which storage was meant."""
    url = f"postgresql://tuner:s3cret@/tuning?host={tmp_path}"
    done = ccl_dispatch("build", "--storage", url, "--out", "t.yaml", folder=tmp_path)
    assert done.returncode == 3
    assert "s3cret" not in done.stdout + done.stderr
    assert "tuner:***@" in done.stderr
    assert "can't be opened" in done.stderr


def test_a_plain_url_takes_the_driver_that_is_there(postgres_server: PostgresServer) -> None:
    """`postgresql://` works with psycopg 3, and what is written by one opening is read by the next."""
    url = postgres_server.database()
    with open_storage(url, write=True) as storage:
        assert not storage.exclusive
        optuna.create_study(storage=storage.optuna, study_name="kept")
    with open_storage(url.replace("postgresql://", "postgres://"), write=False) as storage:
        assert optuna.get_all_study_names(storage.optuna) == ["kept"]


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("postgresql://db/x", ("psycopg", "psycopg2")),
        ("mysql://db/x", ("pymysql", "MySQLdb")),
        ("grpc://db", ("grpc",)),
    ],
)
def test_a_missing_driver_says_what_to_install(url: str, hidden: tuple[str, ...]) -> None:
    """Without a driver the error names the extra that brings one."""
    code = (
        "import sys\n"
        f"for name in {hidden!r}: sys.modules[name] = None\n"
        "import importlib.util as util\n"
        "real = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name in {hidden!r} else real(name, *rest)\n"
        "from ccl_dispatch.tuner.study.databases import open_shared\n"
        f"open_shared({url!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StorageError" in done.stderr
    assert "pip install 'ccl-dispatch[fleet]'" in done.stderr


def test_an_unknown_scheme_says_what_is_expected() -> None:
    """A URL that no driver knows is refused with examples of those that work."""
    with (
        pytest.raises(StorageError, match="postgresql://user@host/name, or grpc://host:13000"),
        open_storage("nosuch://db/x", write=True),
    ):
        pass
