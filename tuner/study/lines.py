"""The lines of a journal, each with a checksum: a bit that changed on a disk is found before it changes a table.

A line is what Optuna writes and one key more, which Optuna passes over. Lines without it, of Optuna's own or of before
it was kept, are read as they are.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

SUM = "sum"
_BEFORE = b',"sum":"'
_BEHIND = b'"}'


def to_line(log: Mapping[str, Any]) -> str:
    """The line of an operation, with its checksum and a line end."""
    text = json.dumps(log, separators=(",", ":"))
    return f"{text[:-1]}{_BEFORE.decode()}{_sum(text.encode())}{_BEHIND.decode()}\n"


def checked(found: Any, line: bytes) -> dict[str, Any]:
    """The operation of a line, without the checksum.

    Args:
        found: its JSON data.
        line: as it lies there: two lines of which the middle is gone may have the data of the second.

    Raises:
        ValueError: it is no operation, or its checksum is of another one.
    """
    if not isinstance(found, dict) or not isinstance(found.get("op_code"), int):
        raise ValueError("it has no op_code")  # noqa: TRY004 - what the text says is wrong, not what was passed
    if SUM not in found:
        return found
    body, _, kept = line.rstrip().removesuffix(_BEHIND).rpartition(_BEFORE)
    if kept.decode() != (there := _sum(body + b"}")):
        raise ValueError(f"its checksum is {there}, and was {found[SUM]} when it was written")
    return {key: value for key, value in found.items() if key != SUM}


class CheckedJournal(JournalFileBackend):
    """Optuna's journal file, whose lines are checked when they are read.

    Attributes:
        line: the number, from 1, of the line that was read last.
        summed: whether that one has a checksum, which is right.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self.line = 0
        self.summed = False

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """See JournalFileBackend.

        Raises:
            ValueError: a line is damaged.
        """
        with self._path.open("rb") as file:
            for self.line, found in enumerate(super().read_logs(log_number_from), log_number_from + 1):
                if self.line == log_number_from + 1:
                    file.seek(self._log_number_offset[log_number_from])
                operation = checked(found, file.readline())
                self.summed = SUM in found
                yield operation


def _sum(text: bytes) -> str:
    return f"{zlib.crc32(text):08x}"
