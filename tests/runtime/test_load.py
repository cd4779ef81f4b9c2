"""Reading a file that was named: what is no table is called what it is, and an edited one is refused or not."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.document import MAX_BYTES
from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import render

TEXT = render(make_table((make_cell(Cell("all_gather", "eager", "first", "bfloat16", 4), 16, [1024], ["aiter"]),)))


def _told(path: Path, content: bytes) -> TableError:
    path.write_bytes(content)
    with pytest.raises(TableError) as found:
        load_table(path)
    assert found.value.source == str(path)
    return found.value


def test_a_journal_is_called_one(tmp_path: Path) -> None:
    """Who names the study's samples is told how a table is made from them."""
    problem = _told(tmp_path / "a study.journal", b'{"op_code": 0, "worker_id": "x"}\n')
    assert "the journal of a study" in str(problem)
    assert f"`ccl-dispatch build --storage '{tmp_path / 'a study.journal'}' --out table.yaml`" in problem.fix


@pytest.mark.parametrize("keys", list(itertools.product([False, True], repeat=4)))
def test_a_config_is_called_one(tmp_path: Path, keys: tuple[bool, ...]) -> None:
    """A config has candidates, and sizes or a replay, and no schema; whatever else there is, is no config."""
    schema, candidates, sizes, replay = keys
    names = [name for name, there in zip(("schema", "candidates", "sizes", "replay"), keys, strict=True) if there]
    problem = _told(tmp_path / "odd.yaml", "".join(f"{name}: x\n" for name in names or ["name"]).encode())
    assert ("this is a config" in str(problem)) == (candidates and (sizes or replay) and not schema)


def test_the_largest_file_is_read_and_no_byte_more(tmp_path: Path) -> None:
    """A table with so much comment behind it is one still; with another byte it is not looked into."""
    path = tmp_path / "large.yaml"
    path.write_text(TEXT + "#" * (MAX_BYTES - len(TEXT)))
    assert load_table(path).name == "made"
    assert "larger than" in str(_told(path, path.read_bytes() + b"#"))


@pytest.mark.parametrize("line", [1, 2, 7])
def test_what_is_no_utf_8_is_told_with_its_line(tmp_path: Path, line: int) -> None:
    """The line is that of the first byte that is none."""
    problem = _told(tmp_path / "odd.yaml", b"\n" * (line - 1) + b"c: \xff\nd: \xff\n")
    assert (problem.line, "not UTF-8" in str(problem)) == (line, True)


@pytest.mark.parametrize(
    ("edited", "variables", "taken"),
    [
        (None, {}, False),
        ("warn", {}, True),
        ("refuse", {"CCL_DISPATCH_EDITED": "warn"}, False),
        (None, {"CCL_DISPATCH_EDITED": "warn"}, True),
        (None, {"CCL_DISPATCH_EDITED": "warn", "CCL_DISPATCH": "strict"}, False),
        ("warn", {"CCL_DISPATCH": "strict"}, True),
    ],
)
def test_an_edited_table_is_taken_where_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str | None, variables: dict[str, str], taken: bool
) -> None:
    """The argument goes before the environment, strict before its other variable, and unsaid it is refused."""
    for name in ("CCL_DISPATCH", "CCL_DISPATCH_EDITED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "edited.yaml"
    path.write_text(TEXT.replace("name: made\n", "name: edited\n"))
    if taken:
        assert load_table(path, edited=edited).name == "edited"
    else:
        with pytest.raises(TableError, match="was edited after it was made"):
            load_table(path, edited=edited)
