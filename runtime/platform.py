"""Does a table fit a machine: the two platforms compared key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ccl_dispatch.runtime.table import Platform, Table

PROVENANCE = "provenance"
_SCALARS = ("device_type", "architecture", "device", "device_count", "link")


class Finding(NamedTuple):
    """One key of a platform (`device`, `versions.rccl`) as the table has it and as this machine has it.

    An empty text is an unknown value; an absent setting is written as `not set`.
    """

    key: str
    table: str
    here: str

    def line(self) -> str:
        """The finding for a reader."""
        if self.table == self.here:
            return f"{self.key}: {self.table or 'unknown'}"
        if self.key == PROVENANCE:
            # Of the table alone: a machine has none.
            return f"{self.key}: the table's figures are {self.table or 'of unknown origin'}, expected {self.here} ones"
        return f"{self.key}: the table has {self.table or 'unknown'}, this machine has {self.here or 'unknown'}"


class Verdict(NamedTuple):
    """What agrees, what differs (any of it forbids the table), and what one side does not know."""

    same: tuple[Finding, ...]
    differs: tuple[Finding, ...]
    unknown: tuple[Finding, ...]

    @property
    def fits(self) -> bool:
        """Nothing differs. Unknown values do not forbid a table, but of two that fit the better known one is taken."""
        return not self.differs

    def lines(self) -> list[str]:
        """The verdict for a reader: what differs first, then what is unknown, then what agrees."""
        return [
            f"{word} {finding.line()}"
            for word, findings in (("differs:", self.differs), ("unknown:", self.unknown), ("same:   ", self.same))
            for finding in findings
        ]


def match(table_platform: Platform, here: Platform, *, provenance: str = "measured") -> Verdict:
    """Compare what a table is valid for with a machine.

    A value that both sides know must be equal. One that a side does not know is reported and forbids nothing. Settings
    are always known: one that is set on one side alone differs. A table whose `provenance` is not `measured` fits
    nowhere, since its figures come from no machine that could be this one.
    """
    found: dict[str, list[Finding]] = {"same": [], "differs": [], "unknown": []}

    def compare(key: str, table: str, machine: str) -> None:
        known = bool(table and machine)
        found["unknown" if not known else "same" if table == machine else "differs"].append(
            Finding(key, table, machine)
        )

    compare(PROVENANCE, provenance, "measured")
    for key in _SCALARS:
        compare(key, _text(getattr(table_platform, key)), _text(getattr(here, key)))
    for key in _union(table_platform.versions, here.versions):
        compare(f"versions.{key}", table_platform.versions.get(key, ""), here.versions.get(key, ""))
    for key in _union(table_platform.settings, here.settings):
        compare(f"settings.{key}", _setting(table_platform.settings, key), _setting(here.settings, key))
    return Verdict(*(tuple(found[field]) for field in Verdict._fields))


def judge(table: Table, here: Platform) -> Verdict:
    """`match` for a whole table."""
    return match(table.platform, here, provenance=table.provenance)


def _text(value: str | int) -> str:
    return str(value) if value else ""


def _union(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    return sorted({*first, *second})


def _setting(settings: Mapping[str, str], key: str) -> str:
    # Quoted, so that a variable set to nothing, or to the words "not set", is not taken for an absent one.
    return repr(settings[key]) if key in settings else "not set"
