"""Storages that several nodes share: databases by Optuna's RDBStorage, and Optuna's gRPC proxy; drivers, passwords."""

from __future__ import annotations

import importlib.util
import random
import re
import sqlite3
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

import optuna

from ccl_dispatch.runtime.errors import StorageError, StorageGoneError

INSTALL = "pip install 'ccl-dispatch[fleet]'"
_GRPC = "grpc"
_GRPC_PORT = 13000
# Dialect: the modules that can drive it, the one that SQLAlchemy takes by itself first, and what names the other one.
_DRIVERS = {
    "postgresql": (("psycopg2", "postgresql"), ("psycopg", "postgresql+psycopg")),
    "mysql": (("MySQLdb", "mysql"), ("pymysql", "mysql+pymysql")),
}
# How these are also called. Optuna stores attributes by an upsert that it has for `mysql` alone.
_SAME_AS = {"postgres": "postgresql", "mariadb": "mysql"}
_ATTEMPTS = 8
# What one of several that make the tables at once is told: a table, a type or a row is there by then, or is not yet.
_AT_ONCE = ("exist", "unique", "duplicate", "locked", "no such table", "deadlock")
# A server that is started, or once more, says so (PostgreSQL); it is waited for.
_STARTING = (
    "the database system is starting up",
    "the database system is shutting down",
    "not yet accepting connections",
    "in recovery mode",
)
_STARTING_SECONDS = 60.0
# libpq's names: an unreachable server is noticed within seconds, not when TCP gives up after two hours.
_LIBPQ: dict[str, object] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
# A node that is stopped in the midst of a transaction would hold a lock that all others wait for.
_END_OF_IDLE_TRANSACTIONS = {"options": "-c idle_in_transaction_session_timeout=10000"}
# To the last @: a password may hold one.
_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@")
_PASSWORD_IN_QUERY = re.compile(r"(?i)([?&](?:password|passwd)=)[^&\s]*")


def without_password(text: str) -> str:
    """The text with the password of every URL in it replaced by `***`: what may be printed, logged and stored."""
    return _PASSWORD_IN_QUERY.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def open_shared(url: str, *, write: bool = True) -> tuple[optuna.storages.BaseStorage, Callable[[], None]]:
    """The storage behind the URL of a database (`postgresql://...`, `mysql://...`, `sqlite://...`) or `grpc://HOST:PORT`,
    and what closes its connections.

    Raises:
        StorageError: it can't be opened, it is an SQLite file that takes no writes though it is to be written, or the
            module that drives it is not installed.
        StorageGoneError: no server answers, which may pass: a network or a server that is down for a moment.
    """
    scheme, _, rest = url.partition("://")
    try:
        if scheme == _GRPC:
            return _proxy(rest)
        database = _database(_SAME_AS.get(scheme, scheme), rest)
    except StorageError:
        raise
    except ImportError as problem:
        reason = str(problem.__cause__ or problem)
        raise StorageError(
            f"the storage {without_password(url)} needs a module that is not installed ({reason}). "
            f"{INSTALL} brings drivers for PostgreSQL and MySQL and Optuna's gRPC proxy"
        ) from problem
    except Exception as problem:  # every driver has errors of its own
        text = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise (StorageGoneError if _no_answer(problem) else StorageError)(
            f"the storage {without_password(url)} can't be opened: {without_password(text)}. Expected a path to a "
            "journal file, a database URL such as sqlite:///study.db or postgresql://user@host/name, or "
            "grpc://host:13000"
        ) from problem
    if write and database.engine.dialect.name == "sqlite":
        try:
            _try_to_write(database)
        except sqlite3.Error as problem:
            database.engine.dispose()
            raise StorageError(
                f"the storage {url} can't be written: {problem}. Mend that, or give another --storage"
            ) from problem
    # Behind Optuna's cache, which reads finished trials once.
    return optuna.storages.get_storage(database), database.engine.dispose


def _no_answer(problem: BaseException) -> bool:
    """Whether a server was not reached; one that answers says what it refuses, which asking again does not change."""
    from sqlalchemy import exc

    if not isinstance(problem, exc.OperationalError) or problem.orig is None:
        return False
    # libpq puts the severity before the words of a server; PyMySQL numbers what its own side has met from 2000 on.
    driver, number = type(problem.orig).__module__.partition(".")[0], next(iter(problem.orig.args), None)
    if driver.startswith("psycopg"):
        told = str(problem.orig)
        return "FATAL:" not in told or any(words in told for words in _STARTING)
    return driver in ("pymysql", "MySQLdb") and isinstance(number, int) and 2000 <= number < 3000


def sqlite_path(url: str) -> Path | None:
    """The file behind the URL of an SQLite database; None for another database, one in memory, or SQLite's own URIs."""
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        name = make_url(url).database or ""
    except ArgumentError:  # opening it says what is wrong
        return None
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name)


def _try_to_write(database: optuna.storages.RDBStorage) -> None:
    """Change an SQLite file, and change it back. Opening one that can't be written does not fail: it is read, then.

    Raises:
        sqlite3.Error: it can't be changed.
    """
    pooled = database.engine.raw_connection()
    try:
        connection = cast("sqlite3.Connection", pooled.driver_connection)
        before, connection.isolation_level = connection.isolation_level, None  # a transaction is begun here, not by it
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                # Something is written only now: on a full disk this is what fails.
                connection.execute("CREATE TABLE ccl_dispatch_can_write (answer)")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        finally:
            connection.isolation_level = before
    except sqlite3.OperationalError as problem:
        # Somebody else writes: then it can be written.
        if "locked" not in str(problem):
            raise
    finally:
        pooled.close()


def _database(scheme: str, rest: str) -> optuna.storages.RDBStorage:
    known = _DRIVERS.get(scheme)
    if known is not None:
        there = [name for module, name in known if importlib.util.find_spec(module) is not None]
        if not there:
            raise StorageError(
                f"no driver for {scheme} is installed ({' or '.join(module for module, _ in known)}): {INSTALL}"
            )
        scheme = there[0]
    options: dict[str, object] = {}
    if not scheme.startswith("sqlite"):
        # A connection that a restarted server has closed is replaced before it is used.
        options["pool_pre_ping"] = True
    if scheme.startswith("postgresql"):
        options["connect_args"] = _LIBPQ if "options=" in rest else _LIBPQ | _END_OF_IDLE_TRANSACTIONS
    return _made(f"{scheme}://{rest}", options)


def _made(url: str, options: dict[str, object]) -> optuna.storages.RDBStorage:
    """The storage with its tables, once its server has started.

    Two processes that make the tables at once get in each other's way, for a moment.
    """
    from sqlalchemy import exc

    began, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=dict(options))
        except (exc.DBAPIError, optuna.exceptions.StorageInternalError) as problem:
            cause = problem if isinstance(problem, exc.DBAPIError) else problem.__cause__
            told = str(cause.orig if isinstance(cause, exc.DBAPIError) else cause)
            starts = any(words in told for words in _STARTING) and time.monotonic() - began < _STARTING_SECONDS
            if not starts and (attempt == _ATTEMPTS or not any(words in told.lower() for words in _AT_ONCE)):
                raise
            time.sleep(min(0.2 * attempt, 1.0) * random.uniform(0.5, 1.0))


def _proxy(address: str) -> tuple[optuna.storages.BaseStorage, Callable[[], None]]:
    host, _, port = address.strip("/").partition(":")
    if not host or not (port or str(_GRPC_PORT)).isdigit():
        raise StorageError(f"grpc://{address}: expected grpc://HOST:PORT, such as grpc://head-node:{_GRPC_PORT}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port or _GRPC_PORT))
    try:
        proxy.wait_server_ready(timeout=10)
    except ConnectionError:
        proxy.close()
        raise StorageGoneError(
            f"nothing answers at grpc://{address}. Start the proxy there with optuna.storages.run_grpc_proxy_server, "
            "or name another --storage"
        ) from None
    return proxy, proxy.close
