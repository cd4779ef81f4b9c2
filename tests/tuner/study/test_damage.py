"""A journal with damaged lines: they are named, and what is advised keeps the samples of all others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command import ccl_dispatch
from fleets import replayed_journal, write_config
from sweeping import is_quoted

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.tuner.study import SweepStudy, open_storage
from ccl_dispatch.tuner.study.damage import find_damage
from ccl_dispatch.tuner.study.lines import to_line

MAKES_TRIAL, STATE, PARAMETER = 4, 6, 5


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a replayed sweep."""
    return replayed_journal(tmp_path_factory.mktemp("study"), 2)


def _lines(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines()


def _where(lines: list[bytes], is_it: Callable[[dict], bool], place: int = 3) -> int:
    """The number of a line, from 1: the `place`th of those that are meant."""
    return [number for number, line in enumerate(lines, 1) if is_it(json.loads(line))][place]


def _samples(journal: Path) -> dict[int, object]:
    with open_storage(str(journal), write=False) as storage:
        return {
            trial.number: trial.user_attrs.get("result") for trial in SweepStudy.load(storage, None).study.get_trials()
        }


def _told(journal: Path) -> str:
    with pytest.raises(StorageError) as problem, open_storage(str(journal), write=False):
        pass
    return str(problem.value)


def _mended(journal: Path, told: str) -> Path:
    """Do what the message says, to the letter."""
    command = told[told.index("sed -e ") : told.index("; then give --storage")]
    subprocess.run(command, shell=True, check=True)  # noqa: S602 - the very line that a user would copy
    return Path(told.rpartition("--storage ")[2])


KINDS: dict[str, Callable[[dict], bool]] = {
    "that makes a trial": lambda line: line["op_code"] == MAKES_TRIAL,
    "with samples": lambda line: "result" in line.get("user_attr", ()),
    "with what the search reads": lambda line: "observed" in line.get("user_attr", ()),
    "with a parameter": lambda line: line["op_code"] == PARAMETER,
    "that ends a trial": lambda line: line["op_code"] == STATE,
    "about the study": lambda line: line["op_code"] == 3,
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda line: line[: len(line) // 2],
    "overwritten": lambda line: b"\0" * len(line),
    "no UTF-8": lambda line: b"\xff\xfe" + line[2:],
    "a key": lambda line: line.replace(b"_id", b"_it"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_what_is_advised_keeps_the_samples_of_all_other_lines(
    tmp_path: Path, journal: Path, kind: Callable[[dict], bool], damage: Callable[[bytes], bytes]
) -> None:
    """Whatever line is damaged, and however: its number is told, and the copy has all samples but at most its own."""
    lines = _lines(journal)
    number = _where(lines, kind, 0 if kind is KINDS["about the study"] else 3)
    lines[number - 1] = damage(lines[number - 1])
    broken = tmp_path / "it's broken.journal"
    broken.write_bytes(b"\n".join(lines) + b"\n")
    told = _told(broken)
    assert told.startswith(f"{broken}:{number}: this line of the journal is damaged: ")
    assert f"The other {len(lines) - 1} are whole" in told
    assert is_quoted(told, "this line of the journal is damaged")
    if kind is KINDS["about the study"] and b"_it" in lines[number - 1]:
        assert "its checksum is" in told
    command = told[told.index("sed -e ") : told.index("; then give --storage")]
    subprocess.run(command, shell=True, check=True)  # noqa: S602 - the very line that a user would copy
    before, after = _samples(journal), _samples(tmp_path / "it's broken.mended.journal")
    assert before.keys() == after.keys()
    lost = [trial for trial in before if before[trial] != after[trial]]
    assert len(lost) <= (kind is KINDS["with samples"])


def test_several_lines_and_the_sweep_goes_on(tmp_path: Path, journal: Path) -> None:
    """Two lines that made trials and one with samples: a copy is made by one command, and the same sweep continues."""
    lines = _lines(journal)
    numbers = [_where(lines, KINDS["that makes a trial"], place) for place in (2, 4)]
    numbers += [_where(lines, KINDS["with samples"], 5)]
    for number in numbers:
        lines[number - 1] = b"#" * 40
    write_config(tmp_path, 2)
    (tmp_path / "s.journal").write_bytes(b"\n".join(lines) + b"\n")
    arguments = ("sweep", "fleet.yaml", "--quiet", "--storage")
    done = ccl_dispatch(*arguments, "s.journal", folder=tmp_path)
    assert done.returncode == 2
    first, *others = sorted(numbers)
    assert f"s.journal:{first}: this line of the journal is damaged, as are 2 more ({', '.join(map(str, others))})" in (
        done.stderr
    )
    told = _told(tmp_path / "s.journal")
    mended = _mended(tmp_path / "s.journal", told)
    assert mended == tmp_path / "s.mended.journal"
    done = ccl_dispatch(*arguments, mended.name, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_nothing_stands_in_for_has_to_come_from_a_copy(tmp_path: Path, journal: Path) -> None:
    """Without the line that says what the study is for no other line can be understood."""
    lines = _lines(journal)
    number = _where(lines, lambda line: line["op_code"] == 2, 0)
    lines[number - 1] = lines[number - 1][:100]
    (tmp_path / "s.journal").write_bytes(b"\n".join(lines) + b"\n")
    told = _told(tmp_path / "s.journal")
    assert f"s.journal:{number}: this line of the journal is damaged: " in told
    assert "take the journal back from a copy" in told
    assert "sed " not in told


def test_what_a_later_optuna_wrote_is_no_damage(tmp_path: Path, journal: Path) -> None:
    """An operation that this one does not know, as it was written: nothing is advised that would leave it out."""
    lines = _lines(journal)
    for operation, told in (
        (to_line({"op_code": 99, "trial_id": 0}), "a later version wrote it"),
        ('{"op_code":99,"trial_id":0}\n', "damaged"),
    ):
        (tmp_path / "s.journal").write_bytes(b"\n".join([*lines[:20], operation.strip().encode(), *lines[20:]]) + b"\n")
        words = _told(tmp_path / "s.journal")
        assert words.startswith(f"{tmp_path / 's.journal'}:21: this line of the journal is ")
        assert told in words
        assert ("sed " in words) == (told == "damaged")


def test_a_journal_that_is_whole_has_no_damage(tmp_path: Path, journal: Path) -> None:
    """And what is no journal at all is called that."""
    assert find_damage(journal) is None
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert "is not a journal of Optuna" in _told(tmp_path / "t.csv")
