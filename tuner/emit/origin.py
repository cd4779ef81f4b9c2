"""Was a table made from these samples? By what its evidence says of them, so that nothing has to be fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ccl_dispatch.runtime.errors import TableError, UsageError
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.tuner.emit.build import evidence_of
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study.meta import StudyMeta

# What no other study has by accident. The rest of the evidence (faults, slow ranks) may be told otherwise by a later
# version of this package.
_MARKS = ("study", "trials", "samples", "executions", "measured_from", "measured_to")
# Of several nodes that share a study some measure while a table is made: their points are missing from the midst of it.
_SHARED = "nodes"


def foreign(table: Table, meta: StudyMeta, results: Sequence[PointResult]) -> str:
    """What the table's evidence says that this study can't have given, in words; empty where it may be its table.

    A study goes on after a table was made, so what it holds besides does not matter. Cells that `verify --update` tuned
    anew are not asked about: see `tuned_anew`.
    """
    told = table.evidence
    if "config_digest" not in told:
        return "its evidence names no study"
    if told["config_digest"] != meta.digest:
        return f"its config is {str(told['config_digest'])[:19]}, that of study {meta.name!r} {meta.digest[:19]}"
    count = told.get("trials")
    if isinstance(count, int) and _marks(told) == _marks(evidence_of(meta, results[: max(count, 0)])):
        return ""
    found = evidence_of(meta, results)
    if _SHARED in told and _may_be_part(told, found):
        return ""
    other = "" if told.get("study") == meta.name else f" of study {told.get('study')!r}"
    return f"it tells of {_points(told)}{other}, study {meta.name!r} holds {_points(found) if results else 'no points'}"


def updates_of(table: Table) -> list[Mapping[str, Any]]:
    """What the evidence tells of each `verify --update` that has tuned some of its cells anew."""
    updates = table.evidence.get("updates")
    return [entry for entry in updates if isinstance(entry, Mapping)] if isinstance(updates, list) else []


def tuned_anew(table: Table) -> frozenset[str]:
    """The names of the cells whose bands come from samples of such an update."""
    listed = (entry.get("cells") for entry in updates_of(table))
    return frozenset(str(name) for names in listed if isinstance(names, list) for name in names)


def check_replaceable(
    out: Path, own: tuple[StudyMeta, Sequence[PointResult]], *others: tuple[StudyMeta, Sequence[PointResult]]
) -> None:
    """See that what lies at `out`, if anything does, is a table of this study, which its next one may replace.

    Args:
        out: where the table goes because nobody named another place.
        own: the study, and what it holds by now.
        others: further studies whose tables may be replaced.

    Raises:
        UsageError: it is something else; it was left as it is.
    """
    if not out.is_file():
        return
    advice = f"Give --out another file, or move {out.name} away"
    try:
        table = load_table(out, edited="refuse")
    except TableError as problem:
        raise UsageError(
            f"{out} would be replaced, and is no table that a sweep has written ({problem}). {advice}"
        ) from problem
    found = [foreign(table, *study) for study in (own, *others)]
    why = found[0] if all(found) else ""
    if not why and tuned_anew(table):
        why = "`verify --update` has tuned cells of it anew, with samples of a study of their own"
    if why:
        raise UsageError(f"{out} would be replaced, and was not made from this sweep's study: {why}. {advice}")


def _marks(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {key: evidence.get(key) for key in _MARKS}


def _may_be_part(told: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether what a table tells of is some of what a study holds, by counts and by when it began and ended."""
    if any(told.get(key) != found.get(key) for key in ("study", "measured_from")):
        return False
    if str(told.get("measured_to", "")) > str(found.get("measured_to", "")):
        return False
    there = _numbers(found)
    return all(isinstance(number, int) and number <= there.get(name, 0) for name, number in _numbers(told).items())


def _numbers(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """How many points, samples, executions and points of each node; by a name of their own."""
    named = {key: evidence.get(key) for key in ("trials", "samples")}
    for key in ("executions", _SHARED):
        counts = evidence.get(key)
        named |= {f"{key}.{name}": count for name, count in counts.items()} if isinstance(counts, Mapping) else {}
    return named


def _points(evidence: Mapping[str, Any]) -> str:
    count = evidence.get("trials")
    text = f"{count} point{'' if count == 1 else 's'} with {evidence.get('samples')} samples"
    if "measured_from" in evidence:
        text += f" ({evidence['measured_from']} to {evidence.get('measured_to')})"
    return text
