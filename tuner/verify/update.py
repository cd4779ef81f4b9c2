"""After a verification: what drifted or went wrong is tuned anew, the rest of the table stays as it was."""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.runtime.version import version
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.config.model import BudgetConfig, SweepConfig
from ccl_dispatch.tuner.emit.text import write_table
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.plan import Plan, make_measurer
from ccl_dispatch.tuner.progress import Progress
from ccl_dispatch.tuner.study import SweepStudy, open_storage
from ccl_dispatch.tuner.study.platforms import of_config
from ccl_dispatch.tuner.study.sweep_study import described_studies
from ccl_dispatch.tuner.sweep import SweepOutcome, run_sweep
from ccl_dispatch.tuner.verify.run import Verified
from ccl_dispatch.tuner.verify.verdict import DRIFTED, WRONG

# What a search without a budget of its own ends with.
_REGRET = 0.005
# Of a study: the digest of the table that its update has come to.
_WRITTEN = "updated_table"
_UPDATE_OF = ", update of "
_TIME = "%Y-%m-%dT%H:%M:%SZ"
# What an update has measured before it was interrupted longer ago than this may not be true any more: it begins anew.
_STALE_SECONDS = 24 * 3600.0
# A study that began later than now by more than clocks are set apart is of a clock that was wrong: its age is unknown.
_CLOCK_SECONDS = 300.0
# What a study's evidence in a table says of the cells that were tuned anew.
_KEPT_EVIDENCE = ("study", "config_digest", "trials", "samples", "measured_from", "measured_to", "host")


@dataclass(frozen=True)
class Update:
    """What an update did.

    Attributes:
        table: the new table, None when there was nothing to do.
        path: where it is.
        storage: the study with the new samples; the old one is untouched.
        tuned, kept, dropped: the cells that were tuned anew, those that stayed, and those that the new table has not.
        why: what was done, in a sentence.
    """

    table: Table | None
    path: Path
    storage: str
    tuned: tuple[Cell, ...]
    kept: tuple[Cell, ...]
    dropped: tuple[Cell, ...]
    why: str

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "table": None if self.table is None else str(self.path),
            "digest": None if self.table is None else self.table.digest,
            "storage": self.storage,
            "tuned": [cell.name for cell in self.tuned],
            "kept": [cell.name for cell in self.kept],
            "dropped": [cell.name for cell in self.dropped],
            "why": self.why,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        yield self.why
        if self.table is not None:
            tuned = counted(len(self.tuned), "cell")
            yield f"{self.path}: {tuned} tuned anew, {len(self.kept)} kept, {self.table.digest}"
            yield f"new samples: {self.storage}"
        if self.dropped:
            yield f"not in it: {', '.join(cell.name for cell in self.dropped)}"


def update_path(table: Path) -> Path:
    """Where an update goes unless told otherwise: `TABLE.updated.yaml` beside the table, which is not overwritten."""
    return table.with_name(f"{table.name.removesuffix(table.suffix)}.updated{table.suffix or '.yaml'}")


def update_table(
    verified: Verified,
    out: Path,
    log_folder: Path,
    progress: Progress,
    *,
    measurer: Callable[[Plan, Path], Measurer] = make_measurer,
) -> Update:
    """Tune anew and write the new table.

    On the table's own platform the cells that drifted or are wrong are searched again, with none of their old samples;
    the others keep their bands and evidence. On another platform every cell is: what an old cell says was measured
    where it may not be true any more, and a table must not claim a platform for samples of another. Cells that can't be
    measured here are then left out.

    Args:
        out: where the new table goes; its samples go into a journal beside it, in a study of their own.
        progress: of the search.

    Raises:
        StorageError, MeasuringError, OutputError: see `run_sweep`; completed points are in the journal.
    """
    setup = verified.setup
    old = setup.table
    amiss = [entry.cell for entry in verified.verification.cells if entry.verdict in (DRIFTED, WRONG)]
    there = [cell.cell for cell in old.cells]
    storage = str(out.with_name(f"{out.name.removesuffix(out.suffix)}.journal"))
    if not setup.differs and not amiss:
        why = "nothing was tuned anew: no cell is known to have drifted or to be wrong"
        return Update(None, out, storage, (), tuple(there), (), why)
    tuned = [cell.cell for cell in setup.cells] if setup.differs else amiss
    now = time.strftime(_TIME, time.gmtime())
    config = _config(setup.plan.config, tuned)
    config = replace(config, name=_cut_short(storage, config, old.name) or f"{old.name}{_UPDATE_OF}{now}")
    found = _tuned(config, storage, log_folder, progress, measurer)
    verdicts = {entry.cell.name: entry.verdict for entry in verified.verification.cells}
    if setup.differs:
        kept: list[Cell] = []
        table = found._replace(name=old.name, evidence={**found.evidence, "replaces": _replaced(old, now, verdicts)})
        why = "every cell was tuned anew: what the table says was measured on another platform"
    else:
        kept = [cell for cell in there if cell not in tuned]
        table = _merged(old, found, tuned, now, verdicts)
        why = f"{len(tuned)} of {len(there)} cells were tuned anew"
    table = write_table(table, out)
    with open_storage(storage, write=True) as opened:
        for name in of_config(described_studies(opened), config.name):
            SweepStudy.load(opened, name).study.set_user_attr(_WRITTEN, table.digest)
    dropped = tuple(cell for cell in there if cell not in {*kept, *tuned})
    return Update(table, out, storage, tuple(tuned), tuple(kept), dropped, why)


def _tuned(
    config: SweepConfig,
    storage: str,
    log_folder: Path,
    progress: Progress,
    measurer: Callable[[Plan, Path], Measurer],
) -> Table:
    """The table of the cells of `config`, by an ordinary sweep, which makes no file of it that a kill could leave."""
    outcome: SweepOutcome | None = None
    problem: BaseException | None = None
    try:
        outcome = run_sweep(config, storage, Path(os.devnull), log_folder, progress, measurer=measurer)
    except BaseException as found:
        problem = found
        raise
    finally:
        progress.end(outcome, problem)
    return outcome.table


def _cut_short(storage: str, config: SweepConfig, name: str) -> str | None:
    """The study of an update of these cells that was interrupted lately, to go on with; else there is to be a new one.

    One that was completed stays what it is: who tunes anew wants new samples.
    """
    if not Path(storage).exists():
        return None
    wanted = config.identity()
    with open_storage(storage, write=False) as opened:
        for study_name in reversed(described_studies(opened)):
            if _is_recent(study_name, name):
                study = SweepStudy.load(opened, study_name)
                if study.meta.identity == wanted and _WRITTEN not in study.study.user_attrs:
                    return study_name
    return None


def _is_recent(study_name: str, name: str) -> bool:
    """Whether this is the study of an update of the table `name` that began not long ago."""
    table, _, began = study_name.rpartition(_UPDATE_OF)
    try:
        moment = calendar.timegm(time.strptime(began, _TIME))
    except ValueError:  # no update, or one on another platform, which has a mark behind the time
        return False
    return table == name and -_CLOCK_SECONDS <= time.time() - moment < _STALE_SECONDS


def _config(config: SweepConfig, cells: Sequence[Cell]) -> SweepConfig:
    budget = config.budget
    if budget == BudgetConfig():
        budget = BudgetConfig(regret=_REGRET)
    return replace(config, only=tuple(cells), budget=budget)


def _merged(old: Table, found: Table, tuned: Sequence[Cell], now: str, verdicts: Mapping[str, str]) -> Table:
    cells = tuple(cell for cell in old.cells if cell.cell not in tuned) + found.cells
    update = {key: found.evidence[key] for key in _KEPT_EVIDENCE if key in found.evidence}
    entry = {"cells": [cell.name for cell in tuned], **update, "replaces": _replaced(old, now, verdicts)}
    before = old.evidence.get("updates")
    updates = [*(before if isinstance(before, list) else []), entry]
    return old._replace(
        cells=cells, generated_by=f"ccl-dispatch {version()}", evidence={**old.evidence, "updates": updates}
    )


def _replaced(old: Table, now: str, verdicts: Mapping[str, str]) -> dict[str, Any]:
    """Which table was verified, when, and with what outcome: evidence of the one that takes its place."""
    return {"digest": old.digest, "verified": now, "verdicts": dict(verdicts)}
