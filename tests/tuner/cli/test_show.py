"""`show`: the whole table at a glance, in the width that there is."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from command import COMMAND, ccl_dispatch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import make_cell, make_table, tables

from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.table import Exclusion, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.cli.show import details, overview
from ccl_dispatch.tuner.emit.text import write_table

CELL = Cell("all_gather", "graph", "first", "bfloat16", 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a table with two cells, one of them with something excluded."""
    cell = make_cell(CELL, 16, [65536, 1 << 20], ["aiter", "rccl"])
    excluded = Exclusion("symm_mem", "unsupported", 16, 1 << 20, "no such device")
    other = make_cell(CELL._replace(dtype="float32"), 16, [1 << 20], ["symm_mem"])
    write_table(make_table((cell._replace(exclusions=(excluded,)), other)), tmp_path / "table.yaml")
    return tmp_path / "table.yaml"


def test_a_cell_is_a_line_that_reads_from_small_to_large(path: Path) -> None:
    """Sizes part the backends, each with its gain; what else there is, is counted; the baseline outside is said."""
    done = ccl_dispatch("show", str(path), folder=path.parent)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    at = lines.index("all_gather, graph, first dim")
    assert lines[at + 1 : at + 3] == [
        "  bfloat16 ws8  16 B ─ aiter +25.0% ─ 64 KiB ─ rccl +25.0% ─ 1 MiB   regret 0.10%, 1 exclusion",
        "  float32 ws8   16 B ─ symm_mem +25.0% ─ 1 MiB   regret 0.10%",
    ]
    assert lines[-1] == "outside these sizes and cells: rccl"
    assert any("replayed, not measured" in line for line in lines)


def test_details_have_the_evidence(path: Path) -> None:
    """One line per band with interval and samples, and the reason of each exclusion."""
    shown = ccl_dispatch("show", str(path), "--details", folder=path.parent).stdout
    assert "aiter     faster: +25.0% against rccl [+20.0%, +30.0%], 3 points, 30 samples" in shown
    assert "excluded: symm_mem at 16 B to 1 MiB: unsupported, no such device" in shown


def test_a_band_that_is_too_long_for_the_terminal_goes_on_below_its_evidence(path: Path) -> None:
    """In as many columns as the longest band needs nothing changes; in one fewer it has two lines, nothing is lost."""
    table = load_table(path)
    whole = [line.text() for line in details(table)]
    bands = [text for text in whole if " .. " in text]
    longest = max(map(len, bands))
    assert [line.text() for line in details(table, width=longest)] == whole
    parted = [line.text() for line in details(table, width=longest - 1)]
    assert len(parted) == len(whole) + sum(len(text) == longest for text in bands)
    at = next(number for number, text in enumerate(parted) if text not in whole)
    assert f"{parted[at]} {parted[at + 1].strip()}" == max(bands, key=len)
    assert parted[at + 1].index("[") == parted[at].index("faster")
    narrow = [line.text() for line in details(table, width=60)]
    assert max(len(text) for text in narrow if text.lstrip().startswith("[")) == 60


def test_the_edge_of_two_bands_reads_the_same_in_both(tmp_path: Path) -> None:
    """Where one band ends at 4871 KiB, the next begins at the same text: in both views, and in `explain`."""
    cell = make_cell(CELL, 741376, [4987904, 8 << 20, 1 << 25], ["aiter", "rccl", "aiter"])
    path = tmp_path / "table.yaml"
    write_table(make_table((cell,)), path)
    shown = ccl_dispatch("show", str(path), "--details", folder=tmp_path).stdout
    spans = [line.split(" .. ") for line in shown.splitlines() if " .. " in line]
    assert [(low.strip(), " ".join(high.split()[:2])) for low, high in spans] == [
        ("724 KiB", "4.76 MiB"),
        ("4.76 MiB", "8 MiB"),
        ("8 MiB", "32 MiB"),
    ]
    assert "724 KiB ─ aiter +25.0% ─ 4.76 MiB ─ rccl" in ccl_dispatch("show", str(path), folder=tmp_path).stdout
    call = ("--size", "4987905", "--dtype", "bfloat16", "--world-size", "8", "--mode", "graph")
    told = ccl_dispatch("explain", str(path), *call, folder=tmp_path).stdout
    assert "4.76 MiB (4987905 B) per rank" in told
    assert "band: 4.76 MiB to 8 MiB, rccl" in told
    assert "at 4.76 MiB (4987904 B) and below: aiter; above 8 MiB: aiter" in told


@settings(max_examples=60, deadline=None)
@given(table=tables(), width=st.integers(60, 140))
def test_no_cell_is_wider_than_the_terminal(table: Table, width: int) -> None:
    """However many bands there are, every cell has one line, and it fits; without a width nothing is left out."""
    narrow, wide = list(overview(table, width=width)), list(overview(table))
    assert len(narrow) == len(wide)
    rows = [line for line in narrow if line.text().startswith("  ")]
    assert len(rows) == len(table.cells)
    assert all(len(line) <= width for line in rows)
    for cell, line in zip(table.cells, [line for line in wide if line.text().startswith("  ")], strict=True):
        assert sum(line.text().count(f" {band.use} ") for band in cell.bands[:1]) >= 1
        assert line.text().count("─") == 2 * len(cell.bands)


def test_backends_are_coloured_on_a_terminal_alone(path: Path) -> None:
    """On a terminal of 60 columns a candidate has its colour of the reports, the nearest of 256 where the terminal has
    no more, and the line fits; NO_COLOR and a pipe get plain text.
    """
    coloured = _on_a_terminal(path, 60, {"COLORTERM": ""})
    assert "\x1b[38;5;166maiter" in coloured
    assert "\x1b[38;5;102mrccl" in coloured
    assert "\x1b[38;2;213;94;0maiter" in _on_a_terminal(path, 60, {"COLORTERM": "truecolor"})
    plain = _on_a_terminal(path, 60, {"NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert max(len(line) for line in plain.splitlines() if line.startswith("  ")) <= 60
    assert "\x1b" not in ccl_dispatch("show", str(path), folder=path.parent).stdout


def _on_a_terminal(path: Path, width: int, environment: dict[str, str]) -> str:
    """What `show` writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    base = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "NO_COLOR"}}
    with os.fdopen(ours, "rb", buffering=0) as screen:
        done = subprocess.run(
            [*COMMAND, "show", str(path)],
            stdout=theirs,
            env={**base, "TERM": "xterm", "PYTHONUTF8": "1", **environment},
            check=True,
            timeout=60,
        )
        os.close(theirs)
        assert done.returncode == 0
        return screen.read(65536).decode().replace("\r\n", "\n")


def test_a_gain_and_its_interval_are_told_on_one_scale(tmp_path: Path) -> None:
    """Where one of the three is twice as fast all are factors, by `show` and by `explain`; else all are per cent."""
    cell = make_cell(CELL, 16, [1 << 20], ["aiter"])
    for gain, interval, shown in (
        (0.901, (0.894, 1.06), "1.90x against rccl [1.89x, 2.06x]"),
        (0.901, (0.894, 0.95), "+90.1% against rccl [+89.4%, +95.0%]"),
    ):
        bands = (cell.bands[0]._replace(gain=gain, interval=interval),)
        write_table(make_table((cell._replace(bands=bands),)), tmp_path / "t.yaml")
        assert shown in ccl_dispatch("show", "t.yaml", "--details", folder=tmp_path).stdout
        call = ("--size", "64", "--dtype", "bfloat16", "--world-size", "8", "--mode", "graph")
        told = ccl_dispatch("explain", "t.yaml", *call, folder=tmp_path).stdout
        assert shown.replace(" [", ", interval ").replace("%, ", "% to ").replace("x, ", "x to ").rstrip("]") in told
