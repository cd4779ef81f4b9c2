"""What later measurements are compared with: visits of an earlier run, kept beside the table, or those of its study."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ccl_dispatch.runtime.errors import DocumentError, OutputError
from ccl_dispatch.runtime.table import Platform, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.files import write_in_one_step
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.verify.visits import Place, Visit, visit_of

SCHEMA = "ccl-dispatch/reference/v1"
SUFFIX = ".reference.json"
_LARGEST_FILE = 64 * 1024**2
# Visits of a study: it does not say how many sets of workers it had. They follow each other within seconds, and what
# the machine did meanwhile nobody looked at: that share of a visit's variance is taken to be common to all of them.
_OF_STUDY = 0
_STUDY_MOOD = 0.1
# So many samples contradict each other where one of them is off.
_LEAST_SAMPLES = 2


class ReferenceFileError(DocumentError):
    """A reference that is not valid, or not this table's."""


@dataclass(frozen=True)
class Reference:
    """Visits by place, from `sets` sets of workers on one platform.

    Attributes:
        digest: of the table whose reference it is.
        times: when the runs were, ISO 8601 in UTC; may be empty.
        mood: the share of a visit's variance that all visits are taken to have in common.
    """

    digest: str
    platform: Platform
    visits: Mapping[Place, tuple[Visit, ...]]
    sets: int
    times: tuple[str, ...] = ()
    mood: float = 0.0

    def known(self, cell: Cell) -> dict[int, int]:
        """Per size of a cell the number of its visits."""
        return {place.size: len(visits) for place, visits in self.visits.items() if place.cell == cell}


def of_study(table: Table, platform: Platform, results: Sequence[PointResult]) -> Reference | None:
    """The visits of the study that the table was made from, but for single calls; None when that leaves nothing."""
    visits: dict[Place, tuple[Visit, ...]] = {}
    for result in results:
        # A call alone, without even a first one to agree with, may be an outlier: whoever compares with it finds drift.
        alone = not result.first_us and max(map(len, result.latencies_us.values()), default=0) < _LEAST_SAMPLES
        visit = None if alone else visit_of(result, table.baseline, table.candidates, _OF_STUDY)
        if visit is not None:
            place = Place(result.cell, result.size)
            visits[place] = (*visits.get(place, ()), visit)
    times = sorted(result.measured_at for result in results if result.measured_at)
    return Reference(table.digest, platform, visits, 1, tuple(times[:1]), _STUDY_MOOD) if visits else None


def reference_path(table: str | Path) -> Path:
    """Where a table's reference is kept: beside it, `TABLE.reference.json` for `TABLE.yaml`."""
    path = Path(table)
    return path.with_name(path.name.removesuffix(path.suffix) + SUFFIX)


def joined(first: Reference, second: Reference) -> Reference:
    """Both references' visits; the second's sets of workers are counted on."""
    visits = dict(first.visits)
    for place, own in second.visits.items():
        visits[place] = (*visits.get(place, ()), *(replace(visit, set=visit.set + first.sets) for visit in own))
    return replace(first, visits=visits, sets=first.sets + second.sets, times=(*first.times, *second.times))


def write_reference(reference: Reference, path: Path) -> None:
    """Keep it in a file, in one step.

    Raises:
        OutputError: it can't be written.
    """
    names = sorted({name for own in reference.visits.values() for visit in own for name in visit.levels})
    cells: dict[str, Any] = {}
    for place in sorted(reference.visits):
        rows = [[visit.set, *(_rounded(visit.levels.get(name)) for name in names)] for visit in reference.visits[place]]
        cells.setdefault(place.cell.name, {"cell": list(place.cell), "sizes": {}})["sizes"][str(place.size)] = rows
    head = {
        "schema": SCHEMA,
        "note": "log of lower quintile latencies in microseconds, one row per visit: set of workers, then each backend",
        "table_digest": reference.digest,
        "platform": reference.platform._asdict(),
        "times": list(reference.times),
        "sets": reference.sets,
        "backends": names,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    body = [
        "    " + json.dumps({"cell": entry["cell"], "sizes": entry["sizes"]}, separators=(",", ":"))
        for entry in cells.values()
    ]
    text = "{\n" + ",\n".join([*lines, '  "cells": [\n' + ",\n".join(body) + "\n  ]"]) + "\n}\n"
    try:
        write_in_one_step(str(path), text)
    except OSError as problem:
        raise OutputError(f"{path}: the reference can't be written: {problem.strerror or problem}") from problem


def read_reference(path: Path, table: Table) -> Reference:
    """The reference in a file.

    Raises:
        ReferenceFileError: it can't be read, is none, or belongs to another table.
    """
    source = str(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ReferenceFileError(f"larger than {_LARGEST_FILE >> 20} MiB, which no reference is", source=source)
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        fix = "`verify --keep` makes it where it is not there" if isinstance(problem, FileNotFoundError) else ""
        raise ReferenceFileError(f"can't be read: {problem.strerror or problem}", source=source, fix=fix) from None
    except ValueError as problem:
        raise ReferenceFileError(f"not JSON: {problem}", source=source, fix="Make it again with --keep") from None
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
        fix = "Use the version of ccl-dispatch that made it, or move it away: `verify --keep` makes one"
        raise ReferenceFileError(f"found {found!r}, expected {SCHEMA}", source=source, key="schema", fix=fix)
    try:
        found = _from_json(data)
    except (KeyError, TypeError, ValueError, IndexError) as problem:
        raise ReferenceFileError(f"damaged: {problem!r}", source=source, fix="Make it again with --keep") from None
    if found.digest != table.digest:
        raise ReferenceFileError(
            f"it is the reference of the table {found.digest[:19]}, this one is {table.digest[:19]}",
            source=source,
            key="table_digest",
            fix="Move it away; `verify --keep`, on a machine where this table is right, makes one for it",
        )
    return found


def _from_json(data: Mapping[str, Any]) -> Reference:
    names = [str(name) for name in data["backends"]]
    sets = int(data["sets"])
    visits: dict[Place, tuple[Visit, ...]] = {}
    for entry in data["cells"]:
        cell = Cell(*entry["cell"])
        for size, rows in entry["sizes"].items():
            visits[Place(cell, int(size))] = tuple(_visit(row, names, sets) for row in rows)
    platform = Platform(**data["platform"])
    return Reference(str(data["table_digest"]), platform, visits, sets, tuple(map(str, data["times"])))


def _visit(row: Sequence[Any], names: Sequence[str], sets: int) -> Visit:
    number, *levels = row
    if not isinstance(number, int) or not 0 <= number < sets or len(levels) != len(names):
        raise ValueError(f"a row {row!r} of {sets} sets and {len(names)} backends")
    kept = {name: float(level) for name, level in zip(names, levels, strict=True) if level is not None}
    if not all(math.isfinite(level) for level in kept.values()):
        raise ValueError(f"a row {row!r}, expected finite numbers")
    return Visit(number, kept, {})


def _rounded(level: float | None) -> float | None:
    return None if level is None else round(level, 4)
