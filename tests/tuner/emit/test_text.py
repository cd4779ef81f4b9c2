"""A table's file: canonical, whole, tamper-evident, written in one step."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import make_cell, make_table, tables

from ccl_dispatch.runtime.errors import OutputError, TableError
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.schema import read_table
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import render, seal, write_table

TABLE = make_table((make_cell(Cell("all_gather", "eager", "first", "bfloat16", 4), 16, [64, 1024], ["aiter", "rccl"]),))
TEXT = render(TABLE)


@settings(max_examples=60, deadline=None)
@given(tables(), st.text(max_size=30))
def test_a_table_survives_its_file(table: Table, note: str) -> None:
    """Reading what was rendered gives the same table, and rendering that gives the same bytes, whatever its texts."""
    table = seal(table._replace(evidence={"note": note}))
    text = render(table)
    again = read_table(text, "made.yaml")
    assert again._replace(source="") == table._replace(source="")
    assert render(again) == text


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.characters(codec="utf-8"))
def test_no_changed_character_is_accepted_as_another_table(place: int, character: str) -> None:
    """A file with one character changed is refused with a TableError, or means exactly the same table."""
    text = TEXT[:place] + character + TEXT[place + 1 :]
    try:
        found = read_table(text, "made.yaml")
    except TableError:
        return
    # Comments and the generator's name are free; everything that counts is under the digest.
    assert found._replace(generated_by="", source="") == TABLE._replace(generated_by="", source="")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_refused_with_a_table_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Any bytes that are not a table are refused with a TableError that names the file."""
    path = tmp_path_factory.getbasetemp() / "garbage.yaml"
    path.write_bytes(data)
    with pytest.raises(TableError, match=r"garbage\.yaml"):
        load_table(path)


def test_a_changed_figure_breaks_the_digest() -> None:
    """Editing a gain by hand is found, and the message says what to do."""
    assert "gain: 0.25" in TEXT
    with pytest.raises(TableError, match="digest") as found:
        read_table(TEXT.replace("gain: 0.25", "gain: 0.26", 1), "edited.yaml")
    assert "ccl-dispatch build" in str(found.value)


def test_an_unknown_key_names_the_line_and_the_nearest_key() -> None:
    """A mistyped key is refused with its line and the word that was meant."""
    line = next(i for i, text in enumerate(TEXT.splitlines(), 1) if text.startswith("baseline:"))
    with pytest.raises(TableError) as found:
        read_table(TEXT.replace("baseline:", "baselime:", 1), "typo.yaml")
    assert f"typo.yaml:{line}" in str(found.value)
    assert "baseline" in str(found.value)


def test_a_full_disk_leaves_the_old_table(tmp_path: Path) -> None:
    """When the new table doesn't fit, the old one is still there, whole, and no part of the new one is."""
    path = tmp_path / "table.yaml"
    path.write_text("the old table", encoding="utf-8")
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from ccl_dispatch.runtime.schema import read_table\n"
        "from ccl_dispatch.tuner.emit.text import write_table\n"
        "from ccl_dispatch.runtime.errors import OutputError\n"
        "table = read_table(sys.stdin.read(), 'stdin')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    write_table(table, sys.argv[1])\n"
        "except OutputError as problem:\n"
        "    print(problem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], input=TEXT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert path.read_text(encoding="utf-8") == "the old table"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.yaml"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert signal.getsignal(signal.SIGXFSZ) is not None


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    """Writing into a folder that is not there says so, as an OutputError."""
    with pytest.raises(OutputError, match="nowhere"):
        write_table(TABLE, tmp_path / "nowhere" / "table.yaml")
