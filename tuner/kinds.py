"""What a file is, by how it begins: whoever has one at hand easily gives it where another is asked for."""

from __future__ import annotations

import os
import re

from ccl_dispatch.runtime.load import JOURNAL_OPENING, are_measurements
from ccl_dispatch.runtime.table import SCHEMA

JOURNAL, DATABASE, TABLE = "the journal of a study", "an SQLite database", "a table"
CONFIG, MEASUREMENTS = "a config", "measurements"
#: What holds samples: nothing is ever written over it.
SAMPLES = (JOURNAL, DATABASE)

_HEAD = 1 << 16
_TABLE = SCHEMA.rpartition("v")[0].encode()


def kind_of(head: bytes) -> str:
    """What a file that begins so is, one of the words above; empty for anything else."""
    if head.startswith(JOURNAL_OPENING):
        return JOURNAL
    if head.startswith(b"SQLite format 3\0"):
        return DATABASE
    if are_measurements(head):
        return MEASUREMENTS
    if _has_key(head, b"schema", _TABLE):
        return TABLE
    return CONFIG if _has_key(head, b"baseline") and _has_key(head, b"candidates") else ""


def what_lies_at(path: str) -> str:
    """The `kind_of` the file there; empty where there is none, or no plain one.

    Raises:
        OSError: it can't be read.
    """
    if not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        return kind_of(file.read(_HEAD))


def _has_key(head: bytes, key: bytes, value: bytes = b"") -> bool:
    """Whether a line begins with that key, and its value with `value`: in YAML at any indentation, or in JSON."""
    pattern = rb"""^[{\s]*["']?""" + key + rb"""["']?\s*:\s*["']?""" + value
    return re.search(pattern, head, re.MULTILINE) is not None
