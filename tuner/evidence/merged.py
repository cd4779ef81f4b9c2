"""A table's evidence, or those of the tables that it was merged from: what it says of how well things went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: The key under which a table that was merged from tables has theirs, by their names.
MERGED = "merged"


def evidences(evidence: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """`evidence` itself, and what it holds of tables that were merged into its table, theirs included."""
    yield evidence
    merged = evidence.get(MERGED)
    for other in merged.values() if isinstance(merged, Mapping) else ():
        if isinstance(other, Mapping):
            yield from evidences(other)


def rows_at(evidence: Mapping[str, Any], key: str) -> Iterator[Any]:
    """The rows that stand there under `key`, in any of `evidences`: evidence is free, and an older table has none."""
    for part in evidences(evidence):
        rows = part.get(key)
        if isinstance(rows, (list, tuple)):
            yield from rows
