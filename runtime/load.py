"""Finding and reading a table file."""

from __future__ import annotations

import os
from functools import partial

from ccl_dispatch.runtime.document import MAX_BYTES
from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.patience import within
from ccl_dispatch.runtime.schema import read_table
from ccl_dispatch.runtime.switch import read_switch
from ccl_dispatch.runtime.table import Table

#: How Optuna begins every line of a study's journal.
JOURNAL_OPENING = b'{"op_code":'


def are_measurements(head: bytes) -> bool:
    """Whether a file that begins so is a measurement CSV, by the heading of its columns."""
    return b",latency_us" in head.partition(b"\n")[0]


def load_table(path: str | os.PathLike[str] | None = None, *, edited: str | None = None) -> Table:
    """The table in the file `path`, or without one the table for this machine.

    A path is read and nothing else: whether its table fits this machine is not asked. Without a path the table is that
    of `$CCL_DISPATCH_TABLE` when the variable is set, else the one that fits this machine best among the files of the
    search path and the tables in the package (see `runtime.find`).

    Args:
        path: the file; None to look for one.
        edited: `refuse` or `warn`: what to do with a table that was edited by hand, so that its digest does not belong
            to it; by default what $CCL_DISPATCH_EDITED says, or `refuse`, and always `refuse` where $CCL_DISPATCH is
            strict.

    Raises:
        TableError: the file is missing, unreadable or not a valid table.
        PlatformMismatchError: the table of `$CCL_DISPATCH_TABLE` was made for another platform.
        NoTableError: no table fits (AbsentTableError), or several fit equally well (AmbiguousTableError).
    """
    if edited is None:
        edited = read_switch().served_edited
    if path is None:
        from ccl_dispatch.runtime.find import find_table

        return find_table(edited=edited)
    return read_file(os.fspath(path), edited)


def read_file(path: str, edited: str = "refuse", patience: float | None = None) -> Table:
    """The table in the file `path`; `edited` as for `load_table`.

    With `patience`, a file that gives nothing for so many seconds is unreadable.

    Raises:
        TableError: the file is missing, unreadable or not a valid table.
    """
    try:
        data = _read(path) if patience is None else within(patience, partial(_read, path))
    except IsADirectoryError:
        raise TableError(
            "this is a folder, expected a table file", source=path, fix="Name a .yaml file in it"
        ) from None
    except FileNotFoundError:
        raise TableError("there is no such file", source=path, fix="Check the path") from None
    except (OSError, ValueError) as problem:
        raise TableError(f"can't be read: {problem}", source=path) from None
    if data.startswith(JOURNAL_OPENING):
        import shlex  # for this message alone: serving imports the module and never needs it

        storage = f"--storage {shlex.quote(path)}"
        raise TableError(
            "this is the journal of a study, which has the samples that a table is made from; expected a table",
            source=path,
            fix=f"`ccl-dispatch build {storage} --out table.yaml` makes its table, "
            f"`ccl-dispatch report {storage} --out report.html` shows it",
        )
    if are_measurements(data):
        raise TableError(
            "these are measurements, expected a table",
            source=path,
            fix="`ccl-dispatch evaluate TABLE MEASUREMENTS` judges one by them; `ccl-dispatch import`, then `build`, "
            "makes one",
        )
    lines = b"\n" + data
    # The schema first: every table has it near its head, and is not searched any further.
    if b"\nschema:" not in lines and b"\ncandidates:" in lines and (b"\nsizes:" in lines or b"\nreplay:" in lines):
        raise TableError(
            "this is a config, expected a table", source=path, fix="`ccl-dispatch sweep` with this file makes its table"
        )
    if len(data) > MAX_BYTES:
        raise TableError(f"larger than the {MAX_BYTES} bytes that are read", source=path, fix="This is no table")
    try:
        return read_table(data.decode("utf-8"), path, edited)
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise TableError("not UTF-8", source=path, line=line, fix="Save it as UTF-8") from None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_BYTES + 1)
