"""After a verification: what drifted is tuned anew, on a file that is replayed, where the truth is known."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_curves import write_config, write_curves
from verifying import swept, verify

from ccl_dispatch.runtime import Table, load_table
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.plan import Plan, make_measurer
from ccl_dispatch.tuner.progress import SilentProgress
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study import SweepStudy, open_storage
from ccl_dispatch.tuner.study.sweep_study import studies_in
from ccl_dispatch.tuner.verify.run import Verified
from ccl_dispatch.tuner.verify.update import Update, _is_recent, update_path, update_table

MIB = 1 << 20
ROOT = Path(__file__).parents[3]
SUPPORT = str(Path(__file__).parents[2] / "support")


def _updated(verified: Verified, out: Path) -> Update:
    return update_table(verified, out, out.parent / "logs", SilentProgress())


def _stored(journal: Path) -> dict[str, list[PointResult]]:
    """The samples of each study of a journal."""
    with open_storage(str(journal), write=False) as storage:
        return {name: SweepStudy.load(storage, name).results() for name in studies_in(storage)}


def test_an_update_tunes_what_drifted_and_keeps_the_rest(tmp_path: Path) -> None:
    """Of two cells of which one moved its crossover, that one is tuned anew; the other's bands stay, to the letter.

    The given table and its samples are as they were; the new table says what was done, and is right by a verification.
    """
    both = write_config(tmp_path, "both", dtypes=("bfloat16", "float32"))
    table = swept(tmp_path, both)
    before = {path: path.read_bytes() for path in (table, table.parent / "study.journal")}
    moved = write_config(tmp_path, "changed", dtypes=("bfloat16", "float32"))
    rows = (tmp_path / "changed.csv").read_text().splitlines()
    other = write_curves(tmp_path / "x.csv", crossover=8192, dtypes=("float32",)).read_text().splitlines()
    kept = [row for row in rows if ",float32," not in row]
    (tmp_path / "changed.csv").write_text("\n".join([*kept, *other[1:]]) + "\n")
    verified = verify(table, moved)
    verdicts = {entry.cell.dtype: entry.verdict for entry in verified.verification.cells}
    assert verdicts == {"bfloat16": "still right", "float32": "now wrong"}
    out = update_path(table)
    update = _updated(verified, out)
    assert out.name == "table.updated.yaml"
    assert [cell.dtype for cell in update.tuned] == ["float32"]
    assert {path: path.read_bytes() for path in before} == before
    old, new = ({cell.cell.dtype: cell for cell in load_table(path).cells} for path in (table, out))
    assert new["bfloat16"] == old["bfloat16"]
    assert new["float32"].bands[0].up_to < 16384 < old["float32"].bands[0].up_to
    (entry,) = load_table(out).evidence["updates"]
    assert entry["cells"] == [cell.name for cell in update.tuned]
    assert entry["replaces"]["digest"] == load_table(table).digest
    assert entry["trials"] > 0
    again = verify(out, moved, seed=1)
    assert again.verification.verdict == "still right"
    # What is known of the cell that stayed serves, and not what was true of the other one before.
    assert again.setup.reference is not None
    assert {place.cell.dtype for place in again.setup.reference.visits} == {"bfloat16"}
    (note,) = again.verification.notes
    assert "table.updated.journal has the samples of cells that were tuned anew" in note


def _cut_short(points: int, end: Callable[[], object]) -> Callable[[Plan, Path], Measurer]:
    """A measurer that measures so many points and then does `end`."""

    def make(plan: Plan, folder: Path) -> Measurer:
        measurer = make_measurer(plan, folder)
        measure = measurer.measure
        left = points

        def few(*arguments: Any, **more: Any) -> PointResult:
            nonlocal left
            left -= 1
            if left < 0:
                end()
            return measure(*arguments, **more)

        measurer.measure = few  # type: ignore[method-assign]
        return measurer

    return make


def _interrupted() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_update_goes_on(
    made: tuple[Path, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same update again takes up the study of the one that was cut short, and loses none of its samples.

    One after that, or one a day later, measures anew.
    """
    table, configs = made
    verified = verify(table, configs["moved"])
    out = tmp_path / "new.yaml"
    cut_short = _cut_short(5, _interrupted)
    with pytest.raises(KeyboardInterrupt):
        update_table(verified, out, tmp_path / "logs", SilentProgress(), measurer=cut_short)
    ((name, first),) = _stored(tmp_path / "new.journal").items()
    assert len(first) == 5
    assert _updated(verified, out).table is not None
    ((again, all_of_them),) = _stored(tmp_path / "new.journal").items()
    assert again == name
    assert all_of_them[:5] == first
    assert len(all_of_them) > 5
    time.sleep(1)  # studies are told apart by the second in which they began
    _updated(verified, out)
    assert len(_stored(tmp_path / "new.journal")) == 2

    time.sleep(1)
    with pytest.raises(KeyboardInterrupt):
        update_table(verified, out, tmp_path / "logs", SilentProgress(), measurer=_cut_short(0, _interrupted))
    assert len(_stored(tmp_path / "new.journal")) == 3
    monkeypatch.setattr("ccl_dispatch.tuner.verify.update._STALE_SECONDS", 0.0)
    time.sleep(1)
    _updated(verified, out)
    assert len(_stored(tmp_path / "new.journal")) == 4


def test_an_update_that_is_killed_leaves_its_samples_and_nothing_else(
    made: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    """After a SIGKILL in the midst of its search only its journal lies beside the table that it would have written."""
    table, configs = made
    verified = verify(table, configs["moved"])
    out = tmp_path / "new.yaml"
    child = os.fork()
    if not child:
        killed = _cut_short(5, lambda: os.kill(os.getpid(), signal.SIGKILL))
        try:
            update_table(verified, out, tmp_path / "logs", SilentProgress(), measurer=killed)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (first,) = _stored(tmp_path / "new.journal").values()
    assert len(first) == 5
    left = {"new.journal", "new.journal.owner"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert _updated(verified, out).table is not None
    assert {path.name for path in tmp_path.iterdir()} == {*left, "new.yaml"}


@pytest.mark.parametrize(("ahead", "goes_on"), [(60, True), (-23 * 3600, True), (-25 * 3600, False), (600, False)])
def test_an_update_of_unknown_age_is_not_gone_on_with(ahead: float, goes_on: bool) -> None:
    """What began more than a day ago is not, nor what began later than now by more than clocks differ.

    A clock that was set ahead would make samples count as new until it is reached: for ever, by one of 2099.
    """
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead))
    assert _is_recent(f"t, update of {began}", "t") == goes_on
    assert not _is_recent("t, update of 2099-01-01T00:00:00Z", "t")


def test_an_update_that_ends_before_its_table_is_written_goes_on(
    made: tuple[Path, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same update again measures nothing, and writes the table."""
    table, configs = made
    verified = verify(table, configs["moved"])
    out = tmp_path / "new.yaml"

    def interrupted(*_: object) -> Table:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ccl_dispatch.tuner.verify.update.write_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _updated(verified, out)
    before = _stored(tmp_path / "new.journal")
    assert not out.exists()
    assert _updated(verified, out).table is not None
    assert _stored(tmp_path / "new.journal") == before
    assert out.exists()


def test_an_update_of_what_is_right_writes_nothing(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """Nothing drifted, nothing is tuned, no file appears."""
    table, configs = made
    update = _updated(verify(table, configs["same"]), tmp_path / "new.yaml")
    assert (update.table, update.tuned) == (None, ())
    assert list(tmp_path.iterdir()) == []


def test_on_another_platform_an_update_claims_nothing_of_the_old_one(
    made: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    """Every cell is tuned anew, also those that are right; cells that can't be measured there are not taken along."""
    table, configs = made
    verified = verify(table, configs["same"])
    setup = replace(verified.setup, differs=("versions.torch: the table has 1, this machine has 2",))
    gone = load_table(table).cells[0].cell._replace(dtype="float32")
    more = setup.table.cells[0]._replace(cell=gone)
    setup = replace(setup, table=setup.table._replace(cells=(*setup.table.cells, more)))
    update = _updated(replace(verified, setup=setup), tmp_path / "new.yaml")
    assert update.table is not None
    assert (update.kept, update.dropped) == ((), (gone,))
    assert len(update.tuned) == len(update.table.cells) == 1
    assert update.table.evidence["replaces"]["digest"] == load_table(table).digest
    assert update.table.evidence["trials"] > 0
    assert "another platform" in update.why
