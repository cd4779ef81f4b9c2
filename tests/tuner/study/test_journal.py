"""The journal of one sweep, which somebody may take away at any moment."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from interrupting import interrupted_at
from optuna.distributions import IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from ccl_dispatch.runtime.errors import StorageGoneError
from ccl_dispatch.tuner.study.journal import OwnJournal
from ccl_dispatch.tuner.study.lines import CheckedJournal

LINES = [{"op_code": 0, "worker_id": "w", "study_name": f"s{i}", "directions": [1]} for i in range(3)]


class _TakenAway(OwnJournal):
    """The name goes at the worst moment: after the look, before the lines are written."""

    other: bytes | None = None
    armed = False

    def _look(self) -> None:
        super()._look()
        if self.armed:
            self.armed = False
            self._path.unlink()
            if self.other is not None:
                self._path.write_bytes(self.other)


@pytest.mark.parametrize(("other", "told"), [(None, "was removed"), (b"", "was replaced by another file")])
def test_lines_written_while_the_name_goes_are_kept(tmp_path: Path, other: bytes | None, told: str) -> None:
    """What is written after the look is put aside with the rest, and no new file takes its place."""
    path = tmp_path / "study.journal"
    path.touch()
    journal = _TakenAway(path)
    journal.append_logs(LINES[:2])
    journal.armed, journal.other = True, other
    journal.append_logs(LINES[2:])
    assert path.exists() == (other is not None)
    for _ in range(2):
        with pytest.raises(StorageGoneError, match=told):
            journal.append_logs(LINES)
    (kept,) = tmp_path.glob("study.journal.rescued-*")
    assert list(CheckedJournal(kept).read_logs(0)) == LINES
    journal.close()


def test_a_name_that_goes_while_it_is_read(tmp_path: Path) -> None:
    """Reading says that the file was removed, not that there is no such file."""
    path = tmp_path / "study.journal"
    path.touch()
    journal = _TakenAway(path)
    journal.append_logs(LINES)
    journal.armed = True
    with pytest.raises(StorageGoneError, match="was removed"):
        list(journal.read_logs(0))
    journal.close()


def test_it_writes_what_optunas_own_backend_reads(tmp_path: Path) -> None:
    """And a checksum behind it, which Optuna passes over: every tool that reads Optuna's journals reads ours."""
    ours, theirs = tmp_path / "ours.journal", tmp_path / "theirs.journal"
    ours.touch()
    journal, backend = OwnJournal(ours), JournalFileBackend(str(theirs))
    for logs in (LINES[:1], LINES[1:]):
        journal.append_logs(logs)
        backend.append_logs(logs)
    for line, plain in zip(ours.read_bytes().splitlines(), theirs.read_bytes().splitlines(), strict=True):
        assert re.fullmatch(re.escape(plain[:-1]) + rb',"sum":"[0-9a-f]{8}"}', line)
    assert list(journal.read_logs(0)) == LINES
    journal.close()
    read = [JournalStorage(JournalFileBackend(str(path))).get_all_studies() for path in (ours, theirs)]
    assert [study.study_name for study in read[0]] == [study.study_name for study in read[1]] == ["s0", "s1", "s2"]


def test_interrupted_at_any_moment_the_next_lines_go_through(tmp_path: Path) -> None:
    """Ctrl-C at any line of an append leaves nothing that the lines which end the sweep have to wait for."""
    path = tmp_path / "study.journal"
    path.touch()
    journal = OwnJournal(path)
    moment, completed = 0, False
    while not completed:  # until an append has no so late moment
        moment += 1
        before = len(path.read_bytes().splitlines())
        try:
            with interrupted_at(moment):
                journal.append_logs(LINES)
            completed = True
        except KeyboardInterrupt:
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["study.journal"], moment
        journal.append_logs(LINES[:1])
        assert list(journal.read_logs(0))[before:] in (LINES[:1], LINES + LINES[:1])
    assert moment > 10
    journal.close()


def test_the_disk_is_waited_for_once_a_visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its trial ends, with every line before; for what a study says of itself at once; for the rest by `close`."""
    path = tmp_path / "study.journal"
    path.touch()
    kept: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: kept.append(path.read_bytes()))
    journal = OwnJournal(path)
    storage = JournalStorage(journal)
    study = storage.create_new_study([StudyDirection.MAXIMIZE], "s")
    storage.set_study_user_attr(study, "what", "it is")
    assert len(kept) == 2
    trial = storage.create_new_trial(study, create_trial(state=TrialState.RUNNING))
    storage.set_trial_param(trial, "repeats", 1, IntDistribution(1, 4))
    storage.set_trial_user_attr(trial, "result", "samples")
    assert len(kept) == 2
    storage.set_trial_state_values(trial, TrialState.COMPLETE, (1.0,))
    assert kept[2:] == [path.read_bytes()]
    storage.create_new_trial(study, create_trial(state=TrialState.COMPLETE, value=1.0))
    journal.close()
    assert kept[3:] == [path.read_bytes()]
    assert len(path.read_bytes().splitlines()) == 7
