"""The one error tree of ccl-dispatch.

Every message says what was found, where, what was expected, and what to do. `exit_code` is what the command line
returns when the error reaches it: 1 "the answer is no", 2 wrong use or bad input, 3 something failed while measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class CclDispatchError(Exception):
    """Base of every error that ccl-dispatch raises on purpose. Each goes whole from one process to another."""

    exit_code = 2

    def __reduce__(self) -> tuple[Callable[..., CclDispatchError], tuple[Any, ...], dict[str, Any]]:
        # An exception's own calls the class with its message, which is not what the classes here are made from. In the
        # receiving process of a pool that failed where nobody hears of it, and who waited for the answer did for ever.
        return _again, (type(self), self.args), self.__dict__


class UsageError(CclDispatchError):
    """A call or a command line that can't be carried out as given."""


class DocumentError(CclDispatchError):
    """A file (config, table, CSV, log) that can't be taken as it is.

    Args:
        problem: what was found and what was expected, with no full stop at the end.
        source: the file's name as the user gave it, or `<string>`.
        line: 1-based line of the finding, 0 when the file as a whole is meant.
        key: dotted path of the key (`cells[2].bands[0].up_to`), empty when there is none.
        fix: what to do about it.
    """

    def __init__(self, problem: str, *, source: str, line: int = 0, key: str = "", fix: str = "") -> None:
        self.problem = problem
        self.source = source
        self.line = line
        self.key = key
        self.fix = fix
        where = f"{source}:{line}" if line else source
        message = f"{where}: {key}: {problem}" if key else f"{where}: {problem}"
        super().__init__(f"{message}. {fix}" if fix else message)


class ConfigError(DocumentError):
    """A sweep config that is not valid."""


class TableError(DocumentError):
    """A dispatch table that is not valid."""


class MeasurementFileError(DocumentError):
    """A file of measurements (CSV, log) that can't be read."""


class NoTableError(CclDispatchError):
    """No table was found for this machine, or more than one fits equally well."""

    exit_code = 1


class AbsentTableError(NoTableError):
    """No table was named, and none that was found fits this machine.

    `others` is true when a user or an administrator put tables where they are looked for, so that somebody expects one.
    """

    def __init__(self, message: str, *, others: bool = False) -> None:
        self.others = others
        super().__init__(message)


class AmbiguousTableError(NoTableError):
    """Several tables fit this machine equally well."""


class PlatformMismatchError(CclDispatchError):
    """A table was measured on a platform that is not this one."""

    exit_code = 1


class InstallError(CclDispatchError):
    """The ranks of a job can't all use one table: all of them use the baseline, or are as they were."""

    exit_code = 1


class StorageError(CclDispatchError):
    """A study's storage that can't be opened, read or continued."""


class StorageWriteError(StorageError):
    """Samples that could not be kept; those of all points before are."""

    exit_code = 3


class StorageGoneError(StorageError):
    """A shared storage that does not answer, or not any more; what it holds is untouched."""

    exit_code = 3


class OutputError(CclDispatchError):
    """A result that could not be written; what was there before is untouched."""

    exit_code = 3


class MeasuringError(CclDispatchError):
    """Measuring failed: a worker died, hung or reported an error that is not a candidate's fault."""

    exit_code = 3


def _again(kind: type[CclDispatchError], values: tuple[Any, ...]) -> CclDispatchError:
    """An error with the `args` that one has; attributes come by `__setstate__`."""
    return kind.__new__(kind, *values)
