"""Studies of other versions of this package: what is not understood is refused with a way out, never passed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_studies import keep_study, made_study
from optuna.trial import create_trial

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.fleet.merging import samples_of
from ccl_dispatch.tuner.search.base import REPEATS
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage

META, RESULTS = made_study([Cell("all_gather", "eager", "first", "bfloat16", 2)])
WAY_OUT = "Use the version of ccl-dispatch that made it: its `export` writes the samples as a CSV"


def test_samples_whose_trials_say_otherwise_what_they_are_of_are_not_passed_over(tmp_path: Path) -> None:
    """A version that asked for no number of repetitions gave a trial two parameters: no table, CSV or merged study is
    made as if its samples were not there.
    """
    with open_storage(keep_study(tmp_path / "s.journal", META, RESULTS[:3]), write=True) as storage:
        study = SweepStudy.load(storage, None)
        (first, *_), number = study.trials(), study.id
        older = create_trial(
            value=first.value,
            params={name: value for name, value in first.params.items() if name != REPEATS},
            distributions={name: kind for name, kind in first.distributions.items() if name != REPEATS},
            user_attrs={"result": RESULTS[3].to_text()},
        )
        storage.optuna.create_new_trial(number, older)
        for read in (study.results, study.table_results, lambda: samples_of(study, lambda _: None)):
            with pytest.raises(StorageError, match=f"trial 3: its samples are of another version .*{WAY_OUT}"):
                read()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"format": 2}, " has format 2, this version reads 1"),
        ({"policy": {**META.policy._asdict(), "tail": 0.99}}, "damaged or of another version: .*'tail'"),
        ({"platform": {"device_type": "cuda"}}, "damaged or of another version: .*'architecture'"),
    ],
)
def test_a_description_of_another_version_is_refused(data: dict[str, object], words: str) -> None:
    """With what to do, whatever it has more or less."""
    with pytest.raises(StorageError, match=f"here: the study.*{words}.*{WAY_OUT}"):
        StudyMeta.from_json({**META.to_json(), **data}, "here")


def test_what_a_description_has_more_is_passed_over() -> None:
    """A key more of a version that has kept the format changes nothing that this one reads."""
    assert StudyMeta.from_json({**META.to_json(), "told": "by a later one"}, "here") == META


def test_a_study_of_another_version_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    """Where a storage holds several they are listed, that one as what it is; one that is named is read."""
    path = keep_study(tmp_path / "s.journal", META, RESULTS[:3])
    keep_study(tmp_path / "s.journal", replace(META, name="later"), RESULTS[:1])
    with open_storage(path, write=True) as storage:
        later = SweepStudy.load(storage, "later").study
        later.set_user_attr("ccl_dispatch", {**META.to_json(), "format": 2})
        with pytest.raises(
            StorageError, match=r"later \(not made by this version .*made <up> \(made up & odd\).*--study"
        ):
            SweepStudy.load(storage, None)
        with pytest.raises(StorageError, match=f"the study has format 2, .*{WAY_OUT}"):
            SweepStudy.load(storage, "later")
        assert len(SweepStudy.load(storage, META.name).results()) == 3
