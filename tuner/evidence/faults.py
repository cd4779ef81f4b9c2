"""What went wrong in a study, joined for readers: a table's evidence, and back from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.evidence.merged import rows_at
from ccl_dispatch.tuner.samples import PointFault, PointResult
from ccl_dispatch.tuner.sizes import span_text

#: A table's evidence has at most so many groups, the most frequent ones; a study has all of them.
MAX_GROUPS = 64
#: Lines of a log in a table, half of them from its beginning: a stack begins, an exception ends with what matters. A
#: study keeps more.
LOG_LINES = 12
_LINE_CHARACTERS = 160
#: The key of a table's evidence.
KEY = "faults"


@dataclass(frozen=True)
class FaultGroup:
    """Faults of one kind in one cell.

    Attributes:
        backend: what they are put down to; empty when no backend was running.
        reason: `crashed`, `hung`, `raised` or `wrong_output`.
        excluded: whether a candidate was excluded for them; else they went away when the point was measured again.
        times: how many there were.
        low, high: the sizes between which they were, in per-rank input bytes.
        detail, log: what happened and the end of the rank's log, of one at the smallest size.
    """

    cell: str
    backend: str
    reason: str
    excluded: bool
    times: int
    low: int
    high: int
    detail: str
    log: str

    @property
    def sizes(self) -> str:
        """The sizes in words."""
        return span_text(self.low, self.high)

    def lines(self, prefix: str) -> Iterator[str]:
        """What happened, behind `prefix`, then the log."""
        who = self.backend or "no backend"
        end = "excluded for it" if self.excluded else "went away when it was measured again"
        times = "once" if self.times == 1 else f"{self.times} times"
        yield f"{prefix}{who} {self.reason.replace('_', ' ')} {times} at {self.sizes}, {end}: {self.detail}"
        yield from (f"    | {line}".rstrip() for line in self.log.splitlines())


def group_faults(results: Sequence[PointResult]) -> list[FaultGroup]:
    """The faults of a study by cell, backend, reason and outcome; the order of `results` does not matter."""
    found: dict[tuple[str, str, str, bool], list[tuple[int, PointFault]]] = {}
    for result in results:
        for fault in result.faults:
            key = (result.cell.name, fault.culprit, fault.reason, bool(fault.blamed))
            found.setdefault(key, []).append((result.size, fault))
    groups = []
    for key, faults in sorted(found.items()):
        sizes = [size for size, _ in faults]
        # One that left something in the log says most; of several ranks that tell the same it is the first.
        _, first = min(faults, key=lambda item: (not item[1].log, item[0], item[1].detail, item[1].log, item[1].rank))
        detail = f"rank {first.rank}: {first.detail}"
        groups.append(FaultGroup(*key, len(faults), min(sizes), max(sizes), detail, _shortened(first.log)))
    return groups


def fault_evidence(results: Sequence[PointResult]) -> dict[str, Any]:
    """What a table's evidence says of faults; empty when there were none."""
    groups = group_faults(results)
    if not groups:
        return {}
    kept = sorted(sorted(groups, key=lambda group: -group.times)[:MAX_GROUPS], key=_place)
    rows = [
        {
            "cell": group.cell,
            "backend": group.backend,
            "reason": group.reason,
            "outcome": "excluded" if group.excluded else "went away",
            "times": group.times,
            "low": group.low,
            "high": group.high,
            "detail": group.detail,
            "log": group.log,
        }
        for group in kept
    ]
    return {"faults_in_all": sum(group.times for group in groups), KEY: rows}


def faults_of(table: Table) -> list[FaultGroup]:
    """The faults in a table's evidence, as far as they can be read."""
    return [group for row in rows_at(table.evidence, KEY) if (group := _read(row))]


def count_faults(results: Iterable[PointResult]) -> dict[str, Any]:
    """Figures for a summary: all faults, by what they are put down to and how, and those that went away."""
    faults = [fault for result in results for fault in result.faults]
    by_kind = Counter(f"{fault.culprit or 'no backend'} {fault.reason}" for fault in faults)
    return {
        "total": len(faults),
        "went_away": sum(not fault.blamed for fault in faults),
        "by_kind": dict(sorted(by_kind.items())),
    }


def faults_in_words(counts: Mapping[str, Any]) -> str:
    """`12 faults (shm crashed 9, no backend hung 3), 3 of them went away when measured again`; empty for none."""
    total, away = counts["total"], counts["went_away"]
    if not total:
        return ""
    kinds = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in counts["by_kind"].items())
    text = f"{counted(total, 'fault')} while measuring ({kinds})"
    return f"{text}, {away} of which went away when measured again" if away else text


def _shortened(log: str) -> str:
    lines = [line[:_LINE_CHARACTERS] for line in log.splitlines()]
    if len(lines) > LOG_LINES:
        lines = [*lines[: LOG_LINES // 2], "...", *lines[-LOG_LINES // 2 :]]
    return "\n".join(lines)


def _place(group: FaultGroup) -> tuple[str, str, str, bool]:
    return group.cell, group.backend, group.reason, group.excluded


def _read(row: Any) -> FaultGroup | None:
    if not isinstance(row, Mapping):
        return None
    try:
        return FaultGroup(
            str(row["cell"]),
            str(row["backend"]),
            str(row["reason"]),
            row["outcome"] == "excluded",
            int(row["times"]),
            int(row["low"]),
            int(row["high"]),
            str(row["detail"]),
            str(row["log"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
