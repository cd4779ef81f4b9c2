"""Whether a table may be shipped: beyond being valid it must be canonical and measured, with its samples beside it."""

from __future__ import annotations

import os
from pathlib import Path

from ccl_dispatch.runtime.errors import StorageError, TableError, UsageError
from ccl_dispatch.runtime.schema import read_table
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.tuner.emit.text import render

# What `build` writes of every measured sweep.
EVIDENCE = ("study", "config_digest", "trials", "samples", "executions", "measured_from", "measured_to")
# Beside the table, under its name: the journal of the study that it was built from.
SAMPLES = ".journal"
KNOWN = ("device_type", "architecture", "device", "device_count")


def shipping_problems(path: str | os.PathLike[str]) -> list[str]:
    """Everything that keeps the table at `path` from being shipped, as sentences; empty when it may be.

    Raises:
        TableError: it is no valid table, or can't be read.
    """
    source = os.fspath(path)
    try:
        text = Path(source).read_bytes().decode("utf-8")
    except OSError as problem:
        raise TableError(f"can't be read: {problem.strerror or problem}", source=source) from None
    except UnicodeDecodeError as problem:
        raise TableError(f"not UTF-8: {problem.reason}", source=source, fix="Save the file as UTF-8") from None
    table = read_table(text, source)
    problems = []
    if render(table) != text:
        problems.append("not in the form that this version writes: write it again with `ccl-dispatch build`")
    if table.provenance != "measured":
        problems.append(f"its figures are {table.provenance}: only measured tables are shipped")
    problems += _evidence_problems(table)
    unknown = [key for key in KNOWN if not getattr(table.platform, key)]
    unknown += [] if table.platform.versions else ["versions"]
    if unknown:
        problems.append(f"platform has no {', '.join(unknown)}: nobody can tell which machines it is for")
    if not table.cells:
        problems.append("it has no cells")
    # Of a platform that is not known nobody can say how it has to be called.
    if not unknown and Path(source).name != shipped_name(table):
        problems.append(f"it must be called {shipped_name(table)}, after its platform")
    return problems + _samples_problems(table, Path(source).with_suffix(SAMPLES))


def shipped_name(table: Table) -> str:
    """The file name of a shipped table: architecture, link where there is one, device count; in lower case."""
    platform = table.platform
    parts = [platform.architecture.partition(":")[0], platform.link, str(platform.device_count)]
    words = "-".join(part for part in parts if part).lower()
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in words) + ".yaml"


def _evidence_problems(table: Table) -> list[str]:
    missing = [key for key in EVIDENCE if not table.evidence.get(key)]
    problems = [f"evidence has no {', '.join(missing)}"] if missing else []
    executions = table.evidence.get("executions")
    if isinstance(executions, dict):
        used = {band.use for cell in table.cells for band in cell.bands} | {table.baseline}
        idle = sorted(name for name in used if not executions.get(name))
        if idle:
            problems.append(f"evidence.executions has none of {', '.join(idle)}, which the table uses")
    return problems


def _samples_problems(table: Table, journal: Path) -> list[str]:
    """Whether the study beside the table is the one that its evidence tells of: as many points, samples, executions,
    of the same config, at the same time. Not whether it is built to the same bytes: a fit may get better.
    """
    # Here, because the rest of this module needs no Optuna.
    from ccl_dispatch.tuner.emit.build import evidence_of
    from ccl_dispatch.tuner.study import SweepStudy, open_storage

    if not journal.is_file():
        return [f"its samples are missing: put the study's journal beside it, as {journal.name}"]
    try:
        with open_storage(str(journal), write=False) as storage:
            study = SweepStudy.load(storage, None)
            found = evidence_of(study.meta, study.table_results())
    except (StorageError, UsageError) as problem:
        return [f"its samples can't be read: {problem}"]
    told = dict(table.evidence)
    differing = [key for key in {**told, **found} if told.get(key) != found.get(key)]
    if differing:
        return [f"evidence and the samples in {journal.name} differ in {', '.join(sorted(differing))}"]
    return []
