"""A study tells people who open it in optuna-dashboard, or as a data frame, what its trials are."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from made_studies import made_study

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import Node, StudyWorker, SweepStudy, open_storage
from ccl_dispatch.tuner.study.dashboard import study_note

CELL = Cell("all_gather", "eager", "first", "bfloat16", 8)


def test_trials_have_names_sizes_and_gains(tmp_path: Path) -> None:
    """In a database read by Optuna alone: the name of the metric, the note, and for each trial bytes, gains, words."""
    meta, results = made_study([CELL])
    space = SearchSpace({CELL.name: tuple(sorted(result.size for result in results))})
    url = f"sqlite:///{tmp_path / 's.db'}"
    with open_storage(url, write=True) as storage:
        study = SweepStudy.create_or_continue(storage, meta, RegretSampler(space, meta.candidates))
        for result in results[:3]:
            study.add(space, result)
        with StudyWorker(study, space, Node()) as worker:
            last = results[-1]
            claim = worker.take(CELL.name, last.size, 12, {})
            assert claim is not None
            worker.record(claim, last)
    database = optuna.storages.RDBStorage(url)
    read = optuna.load_study(study_name=meta.name, storage=database)
    assert read.metric_names == ["log(T base / T of the best candidate)"]
    system = read._storage.get_study_system_attrs(read._study_id)
    assert system["dashboard:note_str:0"] == study_note(meta)
    assert system["dashboard:note_ver"] == 1
    assert "replayed on 8 x made up & odd" in study_note(meta)
    assert "`gain_percent_fast`, `gain_percent_odd`" in study_note(meta)
    trials = read.get_trials()
    database.engine.dispose()  # from Python 3.13 on an open connection that is freed is warned of, in some later test
    for trial_read, result in zip(trials, [*results[:3], results[-1]], strict=True):
        assert trial_read.user_attrs["size_bytes"] == result.size
    assert trials[0].user_attrs["gain_percent_fast"] == pytest.approx(100 * (1 / 0.7 - 1), abs=6)
    assert trials[-1].user_attrs["gain_percent_fast"] == pytest.approx(100 * (1 / 1.4 - 1), abs=6)
    assert "gain_percent_odd" not in trials[-1].user_attrs
    assert trials[0].user_attrs["finding"].startswith(f"{CELL.name} at 16 B: fast 1.")
    assert trials[-1].user_attrs["finding"].endswith("odd excluded: crashed; 12 repetitions, settled")
