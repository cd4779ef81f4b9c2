"""Finding the table for this machine: $CCL_DISPATCH_TABLE, the search path, the tables in the package."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from ccl_dispatch.runtime.errors import (
    AbsentTableError,
    AmbiguousTableError,
    NoTableError,
    PlatformMismatchError,
    TableError,
)
from ccl_dispatch.runtime.load import read_file
from ccl_dispatch.runtime.patience import SECONDS, within
from ccl_dispatch.runtime.platform import Verdict, judge
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.table import Platform, Table
from ccl_dispatch.runtime.telling import warn_once
from ccl_dispatch.runtime.units import counted

VARIABLE = "CCL_DISPATCH_TABLE"
SYSTEM_FOLDER = "/etc/ccl-dispatch/tables"


class Considered(NamedTuple):
    """One file that was looked at: its table and verdict, or the problem that kept it from being read."""

    path: str
    table: Table | None
    verdict: Verdict | None
    problem: str

    def lines(self) -> list[str]:
        """Why the file was or was not taken, for a reader."""
        if self.verdict is None:
            return [f"{self.path}: not valid: {self.problem}"]
        if self.verdict.fits:
            return [f"{self.path}: fits, {counted(len(self.verdict.unknown), 'value')} unknown"]
        return [f"{self.path}: does not fit:", *(f"  {finding.line()}" for finding in self.verdict.differs)]


def search_path(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The folders that are looked through, in order: the user's, the system's, the package's."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "/", ".config")
    return (f"{home}/ccl-dispatch/tables", SYSTEM_FOLDER, *package_folders())


def package_folders() -> tuple[str, ...]:
    """Where the package's own tables lie; nothing when it was installed without them."""
    from importlib.resources import files

    try:
        # Anchored on the package itself: `ccl_dispatch` is a namespace and has no place of its own.
        return (str(files("ccl_dispatch.tables")),)
    except ModuleNotFoundError:
        return ()


class Search(NamedTuple):
    """What was looked at, in order, and what came of it: a table, or the reason why there is none."""

    folders: tuple[str, ...]
    considered: tuple[Considered, ...]
    table: Table | None
    problem: NoTableError | PlatformMismatchError | TableError | None


def find_table(
    environ: Mapping[str, str] | None = None,
    probe: Callable[[str], Platform] | None = None,
    *,
    edited: str = "refuse",
) -> Table:
    """The table for this machine.

    `$CCL_DISPATCH_TABLE` names it, or it is the best of the first folder of the search path that holds one that fits:
    the one that leaves the fewest values unknown.

    Args:
        environ: the environment variables; this process's own by default.
        probe: gives the platform of a device type; `probe.this_platform` by default.
        edited: `refuse` or `warn`, as for `load_table`.

    Raises:
        TableError: `$CCL_DISPATCH_TABLE` names no valid table.
        PlatformMismatchError: it names a table that was made for another platform.
        AbsentTableError: it is not set, and no table fits.
        AmbiguousTableError: several fit equally well.
    """
    found = search(environ, probe, edited=edited)
    if found.table is None:
        raise found.problem or NoTableError("no table was found")
    return found.table


def search(
    environ: Mapping[str, str] | None = None,
    probe: Callable[[str], Platform] | None = None,
    *,
    edited: str = "refuse",
) -> Search:
    """What `find_table` looks at and finds; raises nothing, so that a reader can be told the whole of it."""
    environ = os.environ if environ is None else environ
    here = _once(probe or (lambda device_type: this_platform(device_type, environ)))
    # A block of YAML or a file that a variable was taken from has a line's end.
    named = environ.get(VARIABLE, "").strip()
    if named:
        return _named(named, here, edited)
    looked_at: list[Considered] = []
    folders = search_path(environ)
    for folder in folders:
        considered = consider(folder, here, edited)
        looked_at.extend(considered)
        try:
            best = _best(considered)
        except NoTableError as problem:
            return Search(folders, tuple(looked_at), None, problem)
        if best is not None:
            return Search(folders, tuple(looked_at), best, None)
    lines = [f"\n  {line}" for item in looked_at for line in item.lines()]
    others = any(not item.path.startswith(package_folders()) for item in looked_at)
    return Search(
        folders,
        tuple(looked_at),
        None,
        AbsentTableError(
            f"no table fits this machine. Looked in {', '.join(folders)}:{''.join(lines) or ' no tables there'}\n"
            f"Measure one with `ccl-dispatch sweep`, and name it in ${VARIABLE} or put it into one of these folders",
            others=others,
        ),
    )


def _named(path: str, here: Callable[[str], Platform], edited: str) -> Search:
    try:
        table = read_file(path, edited, SECONDS)
    except TableError as problem:
        return Search((), (Considered(path, None, None, str(problem)),), None, problem)
    verdict = judge(table, here(table.platform.device_type))
    considered = Considered(path, table, verdict, "")
    if verdict.fits:
        return Search((), (considered,), table, None)
    lines = "".join(f"\n  {finding.line()}" for finding in verdict.differs)
    mismatch = PlatformMismatchError(
        f"{path}, which ${VARIABLE} names, was made for another platform:{lines}\n"
        f"Measure this machine with `ccl-dispatch sweep`, or unset ${VARIABLE}"
    )
    return Search((), (considered,), None, mismatch)


def consider(folder: str, here: Callable[[str], Platform], edited: str = "refuse") -> list[Considered]:
    """Every table file in `folder` with its verdict; an absent folder holds none. What can't be read is also logged."""
    try:
        names = within(SECONDS, partial(_names, folder))
    except OSError as unread:
        problem = f"the folder can't be read: {unread.strerror}"
        warn_once(f"{folder}, where tables are looked for, is left out: {problem}")
        return [Considered(folder, None, None, problem)]
    considered = []
    for name in names:
        if not name.endswith((".yaml", ".yml")):
            continue
        path = f"{folder}/{name}"
        try:
            table = read_file(path, edited, SECONDS)
        except TableError as problem:
            warn_once(f"a table on the search path is left out: {problem}")
            considered.append(Considered(path, None, None, str(problem)))
        else:
            considered.append(Considered(path, table, judge(table, here(table.platform.device_type)), ""))
    return considered


def _names(folder: str) -> list[str]:
    """What is in `folder`, in order.

    Raises:
        OSError: it is there and can't be read.
    """
    try:
        return sorted(os.listdir(folder))
    except OSError:
        # Of one whose very being is hidden, such as another user's, nobody expects a table.
        if not os.path.lexists(folder):
            return []
        raise


def _best(considered: Iterable[Considered]) -> Table | None:
    # What a table knows and this machine does not speaks no more against it than silence would.
    fitting = sorted(
        (sum(not finding.table for finding in item.verdict.unknown), item.path, item.table)
        for item in considered
        if item.verdict and item.verdict.fits
    )
    if not fitting:
        return None
    fewest, _, table = fitting[0]
    equal = [(path, other) for unknown, path, other in fitting if unknown == fewest]
    # Two copies of one table are no question.
    if len({other.digest for _, other in equal if other}) > 1:
        raise AmbiguousTableError(
            f"{len(equal)} tables fit this machine equally well ({counted(fewest, 'value')} unknown in each): "
            f"{', '.join(path for path, _ in equal)}. Name one in ${VARIABLE}, or take the others away"
        )
    return table


def _once(probe: Callable[[str], Platform]) -> Callable[[str], Platform]:
    """`probe`, asked once per device type."""
    known: dict[str, Platform] = {}

    def here(device_type: str) -> Platform:
        if device_type not in known:
            known[device_type] = probe(device_type)
        return known[device_type]

    return here
