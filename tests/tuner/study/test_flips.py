"""Journals in which bits changed or bytes are missing: an error that says so, or the table of what was measured."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import optuna
import pytest
from command import ccl_dispatch
from fleets import replayed_journal

from ccl_dispatch.runtime.errors import CclDispatchError, StorageError
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.text import render
from ccl_dispatch.tuner.fleet.merging import samples_of
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.search.base import SIZE_INDEX
from ccl_dispatch.tuner.study import SweepStudy, open_storage

FLIPS = 250


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a replayed sweep."""
    return replayed_journal(tmp_path_factory.mktemp("study"), 1)


def _without_sums(data: bytes) -> bytes:
    """What versions without checksums wrote."""
    data = re.sub(rb',"sum":"[0-9a-f]{8}"}\n', b"}\n", data)
    return re.sub(rb',\\"sum\\":\\"[0-9a-f]{16}\\"}', b"}", data)


def _table(path: Path, write: bool) -> str:
    """Read all that verbs read of a study, and build its table."""
    with open_storage(str(path), write=write) as storage:
        study = SweepStudy.load(storage, None)
        study.unfinished()
        samples_of(study)
        results = study.table_results()
        index = study.trials()[0].distributions[SIZE_INDEX]
        assert isinstance(index, optuna.distributions.IntDistribution)
        space = SearchSpace({result.cell.name: tuple(range(1, index.high + 2)) for result in results})
        RegretSampler(space, study.meta.candidates).observations(study.study)
        return render(build_table(study.meta, results))


def _damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    # Not in the last line: one that is not whole is what a killed sweep leaves, and is cut off.
    place = chance.randrange(data.rstrip(b"\n").rindex(b"\n"))
    if chance.random() < 0.8:
        changed[place] ^= 1 << chance.randrange(8)
    else:
        del changed[place : place + chance.randrange(1, 200)]
    return bytes(changed)


def test_no_damage_goes_unnoticed(tmp_path: Path, journal: Path) -> None:
    """Of a journal with checksums: an error that names the line, or the very table, and never a traceback."""
    data, chance = journal.read_bytes(), random.Random(1)
    whole = _table(journal, False)
    path = tmp_path / "s.journal"
    told = 0
    for number in range(FLIPS):
        path.write_bytes(_damaged(data, chance))
        try:
            assert _table(path, number % 2 == 0) == whole, number
        except CclDispatchError as problem:
            told += "s.journal:" in str(problem)
    assert told > 0.9 * FLIPS


def test_two_lines_of_which_the_middle_is_gone_are_not_the_second(tmp_path: Path, journal: Path) -> None:
    """What is left of them has all keys, and for JSON the values of the second: the checksum is that of the bytes."""
    lines = journal.read_bytes().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if b'"param_name":"cell"' in line)
    first, second = lines[number - 1 : number + 1]
    both = first[: first.index(b"Categorical")] + second[second.index(b'","trial_id"') - 5 :]
    assert json.loads(both) == json.loads(second)
    path = tmp_path / "s.journal"
    path.write_bytes(b"\n".join([*lines[: number - 1], both, *lines[number + 1 :]]) + b"\n")
    with pytest.raises(StorageError, match=rf"s\.journal:{number}: .* its checksum is"):
        _table(path, False)


def test_damage_of_older_journals_is_no_traceback(tmp_path: Path, journal: Path) -> None:
    """Without checksums much can't be known, but what can't be read is an error that says so."""
    data, chance = _without_sums(journal.read_bytes()), random.Random(2)
    path = tmp_path / "s.journal"
    path.write_bytes(data)
    whole = _table(path, False)
    assert whole == _table(journal, False)  # and one that is whole reads as before
    differ = 0
    for number in range(FLIPS):
        path.write_bytes(_damaged(data, chance))
        with suppress(CclDispatchError):
            differ += _table(path, number % 2 == 0) != whole
    assert differ < 0.1 * FLIPS


def test_a_distribution_that_optuna_chokes_on_is_told_with_its_line(tmp_path: Path, journal: Path) -> None:
    """One changed letter in what Optuna unpacks: the line is named, and the copy that is advised can be read."""
    lines = _without_sums(journal.read_bytes()).splitlines()
    number = next(n for n, line in enumerate(lines, 1) if b'\\"high\\"' in line)
    lines[number - 1] = lines[number - 1].replace(b"high", b"hiwh")
    path = tmp_path / "s.journal"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(StorageError, match=r"s\.journal:\d+: this line of the journal is damaged") as problem:
        _table(path, False)
    assert f"s.journal:{number}:" in str(problem.value)
    assert "hiwh" in str(problem.value)


def _in_database(folder: Path, journal: Path, change: Callable[[str], str]) -> str:
    """The study in an SQLite file, with the samples of its trial 1 changed behind the tool's back; its URL."""
    url = f"sqlite:///{folder}/s.db"
    done = ccl_dispatch("merge", str(journal), "--storage", url, folder=folder)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(folder / "s.db")) as connection:
        row, text = connection.execute(
            "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes "
            "JOIN trials USING (trial_id) WHERE key = 'result' AND number = 1"
        ).fetchone()
        connection.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?",
            (json.dumps(change(json.loads(text))), row),
        )
        connection.commit()
    return url


def _with_another_digit(text: str) -> str:
    place = text.index("[", text.index("latencies_us")) + 1
    return f"{text[:place]}{int(text[place]) % 9 + 1}{text[place + 1 :]}"


def test_a_changed_digit_in_a_database_is_told_and_the_rest_can_be_saved(tmp_path: Path, journal: Path) -> None:
    """The error names study and trial, and what it advises brings all other samples into another storage."""
    url = _in_database(tmp_path, journal, _with_another_digit)
    done = ccl_dispatch("build", "--storage", url, "--out", "t.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert f"study 'fleet' in {url}, trial 1: its samples are damaged: its checksum is that of other samples" in (
        done.stderr
    )
    assert "merge --without-damaged" in done.stderr
    refused = ccl_dispatch("merge", url, "--storage", "new.journal", folder=tmp_path)
    assert refused.returncode == 2
    assert not (tmp_path / "new.journal").exists()
    saved = ccl_dispatch("merge", "--without-damaged", url, "--storage", "new.journal", folder=tmp_path)
    assert saved.returncode == 0, saved.stderr
    assert "left out, as its samples are damaged: trial 1: its checksum" in saved.stderr
    with (
        open_storage(str(journal), write=False) as whole,
        open_storage(str(tmp_path / "new.journal"), write=False) as new,
    ):
        results = SweepStudy.load(whole, None).results()
        assert SweepStudy.load(new, None).results() == [results[0], *results[2:]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data["latencies_us"].update(base=[0.0]), "base has a latency of 0.0"),
        (lambda data: data["latencies_us"].update(base=[-1.0]), "base has a latency of -1.0"),
        (lambda data: data["latencies_us"].update(base=[float("nan")]), "base has a latency of nan"),
        (lambda data: data["latencies_us"].update(base=["7"]), "TypeError"),
        (lambda data: data["latencies_us"].update(fart=[1.0]), "they are of fart, which the study does not compare"),
        (lambda data: data.update(size=-8), "its size is -8"),
        (lambda data: data.update(wall_seconds=float("inf")), "it took inf s"),
        (lambda data: data.update(cell=[]), "TypeError"),
        (lambda data: data["cell"].__setitem__(0, "all_gathes"), "there is no cell all_gathes/"),
        (lambda data: data["cell"].__setitem__(3, "float16"), "and the trial is of"),
        (lambda data: data.pop("size"), "KeyError: 'size'"),
    ],
)
def test_samples_that_can_not_have_been_measured_are_refused(
    tmp_path: Path, journal: Path, change: Callable[[dict], object], told: str
) -> None:
    """Of older studies, without a checksum: what no measurement gives is told with the trial."""
    with open_storage(str(journal), write=False) as storage:
        study = SweepStudy.load(storage, None)
        trial = study.trials()[1]
        data = study.result_of(trial).to_json()
        change(data)
        trial.user_attrs["result"] = json.dumps(data)
        with pytest.raises(StorageError, match="trial 1: its samples are damaged: ") as problem:
            study.results()
    assert told in str(problem.value)


def test_samples_are_kept_with_a_checksum_and_older_ones_read_without(journal: Path) -> None:
    """Both give the same result; any other character before the checksum is found."""
    with open_storage(str(journal), write=False) as storage:
        result = SweepStudy.load(storage, None).results()[0]
    text = result.to_text()
    assert PointResult.from_text(text) == PointResult.from_text(json.dumps(result.to_json())) == result
    assert json.loads(text).keys() - result.to_json().keys() == {"sum"}
    for place in range(0, text.index(',"sum"'), 7):
        with pytest.raises(ValueError, match="its checksum"):
            PointResult.from_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :])
