"""Finding the table for this machine: $CCL_DISPATCH_TABLE, the search path, the tables in the package."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ccl_dispatch.runtime.errors import NoTableError, PlatformMismatchError, TableError
from ccl_dispatch.runtime.load import read_file
from ccl_dispatch.runtime.platform import Verdict, judge
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.table import Platform, Table

VARIABLE = "CCL_DISPATCH_TABLE"
SYSTEM_FOLDER = "/etc/ccl-dispatch/tables"

_log = logging.getLogger("ccl_dispatch")


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
            return [f"{self.path}: fits, {len(self.verdict.unknown)} values unknown"]
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


def find_table(environ: Mapping[str, str] | None = None, probe: Callable[[str], Platform] | None = None) -> Table:
    """The table for this machine.

    `$CCL_DISPATCH_TABLE` names it, or it is the best of the first folder of the search path that holds one that fits:
    the one with the fewest unknown values.

    Args:
        environ: the environment variables; this process's own by default.
        probe: gives the platform of a device type; `probe.this_platform` by default.

    Raises:
        TableError: `$CCL_DISPATCH_TABLE` names no valid table.
        PlatformMismatchError: it names a table that was made for another platform.
        NoTableError: it is not set, and no table fits or several fit equally well.
    """
    environ = os.environ if environ is None else environ
    here = _once(probe or this_platform)
    named = environ.get(VARIABLE)
    if named:
        table = read_file(named)
        verdict = judge(table, here(table.platform.device_type))
        if not verdict.fits:
            reasons = "".join(f"\n  {finding.line()}" for finding in verdict.differs)
            raise PlatformMismatchError(
                f"{named} (from ${VARIABLE}) was made for another platform:{reasons}\n"
                "Measure one here with `ccl-dispatch sweep`, or name a table of this platform"
            )
        return table
    looked_at: list[Considered] = []
    folders = search_path(environ)
    for folder in folders:
        considered = consider(folder, here)
        looked_at.extend(considered)
        best = _best(considered)
        if best is not None:
            return best
    lines = [f"\n  {line}" for item in looked_at for line in item.lines()]
    raise NoTableError(
        f"no table fits this machine. Looked in {', '.join(folders)}:{''.join(lines) or ' no tables there'}\n"
        f"Measure one with `ccl-dispatch sweep`, and name it in ${VARIABLE} or put it into one of these folders"
    )


def consider(folder: str, here: Callable[[str], Platform]) -> list[Considered]:
    """Every table file in `folder` with its verdict; an absent folder holds none. A broken file is also logged."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    considered = []
    for name in names:
        if not name.endswith((".yaml", ".yml")):
            continue
        path = f"{folder}/{name}"
        try:
            table = read_file(path)
        except TableError as problem:
            _log.warning("ccl-dispatch: a table on the search path is left out: %s", problem)
            considered.append(Considered(path, None, None, str(problem)))
        else:
            considered.append(Considered(path, table, judge(table, here(table.platform.device_type)), ""))
    return considered


def _best(considered: Iterable[Considered]) -> Table | None:
    fitting = sorted(
        (len(item.verdict.unknown), item.path, item.table) for item in considered if item.verdict and item.verdict.fits
    )
    if not fitting:
        return None
    fewest, _, table = fitting[0]
    equal = [(path, other) for unknown, path, other in fitting if unknown == fewest]
    # Two copies of one table are no question.
    if len({other.digest for _, other in equal if other}) > 1:
        raise NoTableError(
            f"{len(equal)} tables fit this machine equally well ({fewest} values unknown in each): "
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
