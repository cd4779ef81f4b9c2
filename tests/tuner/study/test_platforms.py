from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_studies import made_study

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage
from ccl_dispatch.tuner.study.platforms import beside, listed, of_config, own_path

CELL = Cell("all_gather", "eager", "first", "bfloat16", 8)
META, RESULTS = made_study([CELL])
UPGRADED = replace(META, platform=META.platform._replace(versions={"torch": "1"}))
SPACE = SearchSpace({CELL.name: tuple(sorted(result.size for result in RESULTS))})


def _continue(path: Path, meta: StudyMeta, samples: int) -> tuple[str, int]:
    """Continue the sweep with so many more samples; the study's name, and how many it holds then."""
    with open_storage(str(path), write=True) as storage:
        study = SweepStudy.create_or_continue(storage, meta, RegretSampler(SPACE, meta.candidates))
        there = len(study.results())
        for result in RESULTS[there : there + samples]:
            study.add(SPACE, result)
        return study.meta.name, len(study.results())


def test_a_library_that_was_upgraded_begins_a_study_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Samples of two platforms are never mixed: each has its study in the one storage, and finds it again."""
    path = tmp_path / "s.journal"
    assert _continue(path, META, 3) == (META.name, 3)
    with caplog.at_level(logging.WARNING):
        own, count = _continue(path, UPGRADED, 2)
    assert (own[: own.index("@")], count) == (META.name, 2)
    assert 'versions.torch: "0" against "1"' in caplog.text
    assert own in caplog.text
    assert _continue(path, UPGRADED, 1) == (own, 3)
    assert _continue(path, META, 0) == (META.name, 3)
    # Whoever asks for the table must say which.
    asked = ccl_dispatch("build", "--storage", str(path), "--out", "t.yaml", folder=tmp_path)
    assert asked.returncode == 2
    assert "--study" in asked.stderr
    assert f'{own} (another platform: versions.torch: "0" against "1")' in asked.stderr
    built = ccl_dispatch("build", "--storage", str(path), "--study", own, "--out", "t.yaml", folder=tmp_path)
    assert built.returncode == 0, built.stderr


def test_another_config_is_still_refused(tmp_path: Path) -> None:
    """Samples of another config are told apart from those of another platform, and are an error."""
    path = tmp_path / "s.journal"
    _continue(path, replace(META, identity={"seed": 1}), 1)
    with pytest.raises(StorageError, match=r"holds samples of another sweep.*seed: 1 against 2") as refused:
        _continue(path, replace(META, identity={"seed": 2}), 1)
    assert "version" not in str(refused.value)
    # A key that one of the two does not know: who has only upgraded has changed nothing.
    for identity in ({"seed": 1, "later": 8}, {}):
        with pytest.raises(StorageError, match="Where the study is of another version of ccl-dispatch, `build`"):
            _continue(path, replace(META, identity=identity), 1)


def test_a_table_of_another_platform_has_a_name_of_its_own() -> None:
    """In a folder that nodes share no platform's table replaces another's."""
    assert own_path(Path("runs/table.yaml"), "cpu@1a2b3c4d", "cpu") == Path("runs/table@1a2b3c4d.yaml")
    assert own_path(Path("runs/table.yaml"), "cpu", "cpu") == Path("runs/table.yaml")


def test_studies_to_choose_from_say_what_each_is() -> None:
    """The first one of a config by its device, those beside it by what differs; what is no sweep's is called that."""
    other = replace(META, name="other", platform=META.platform._replace(device=""))
    metas = {"other": other, f"{META.name}@1": UPGRADED, "foreign": None, META.name: META}
    assert listed(metas) == (
        "foreign (not made by this version of ccl-dispatch), made <up> (made up & odd), "
        'made <up>@1 (another platform: versions.torch: "0" against "1"), other (platform unknown)'
    )
    assert of_config(metas, META.name) == [f"{META.name}@1", META.name]
    assert of_config(["cpu2", "cpu-2@1", "cpu@1"], "cpu") == ["cpu@1"]
    assert beside(META).name == beside(META).name != beside(UPGRADED).name
    assert of_config([beside(META).name], META.name) == [beside(META).name]
