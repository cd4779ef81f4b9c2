"""The lines of a journal, each with a checksum: a bit that changed on a disk is found before it changes a table.

A line is what Optuna writes and one key more, which Optuna passes over. Lines without it, of Optuna's own or of before
it was kept, are read as they are.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Generator, Mapping
from typing import Any

from optuna.storages.journal import JournalFileBackend

SUM = "sum"


def to_line(log: Mapping[str, Any]) -> str:
    """The line of an operation, with its checksum and a line end."""
    text = _text(log)
    return f'{text[:-1]},"{SUM}":"{_sum(text)}"}}\n'


def from_line(found: Any) -> dict[str, Any]:
    """The operation of a line's JSON data, without the checksum.

    Raises:
        ValueError: it is no operation, or its checksum is of another one.
    """
    if not isinstance(found, dict) or not isinstance(found.get("op_code"), int):
        raise ValueError("it has no op_code")  # noqa: TRY004 - what the text says is wrong, not what was passed
    log = dict(found)
    kept = log.pop(SUM, None)
    if kept is not None and kept != (there := _sum(_text(log))):
        raise ValueError(f"its checksum is {there}, and was {kept} when it was written")
    return log


class CheckedJournal(JournalFileBackend):
    """Optuna's journal file, whose lines are checked when they are read.

    Attributes:
        line: the number, from 1, of the line that was read last.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.line = 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """See JournalFileBackend.

        Raises:
            ValueError: a line is damaged.
        """
        for self.line, found in enumerate(super().read_logs(log_number_from), log_number_from + 1):
            yield from_line(found)


def _text(log: Mapping[str, Any]) -> str:
    return json.dumps(log, separators=(",", ":"))


def _sum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
