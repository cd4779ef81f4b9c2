"""A file's layout is known by its content; what is none of them is refused with what was expected."""

from __future__ import annotations

import pytest
from made_logs import rccl_log, sglang_log

from ccl_dispatch.runtime.errors import MeasurementFileError
from ccl_dispatch.tuner.measurements.csv_file import COLUMNS, parse_measurements
from ccl_dispatch.tuner.measurements.logs import LogHints, read_layout, recognise

CSV = f"{','.join(COLUMNS)}\nall_gather,,bfloat16,8,,64640,rccl,20.5\n"
EXCLUDED = f"{','.join(COLUMNS)},excluded\nall_gather,,bfloat16,8,,64640,rccl,20.5,\n"
SGLANG = "\n".join(sglang_log([("bf16", "(1, 32320)", -1, 64640, "True", "3.00", "2.00")]))


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        (CSV, "csv"),
        (f"\ufeff{CSV}", "csv"),
        (CSV.replace(",", ";"), "csv"),
        ("\n".join(rccl_log({64: (1.0, 2.0)})), "nccl-tests"),
        ("some words\r\n" + "\r\n".join(rccl_log({64: (1.0, 2.0)})), "nccl-tests"),
        (f"+ torchrun\n{SGLANG}", "sglang"),
    ],
)
def test_a_layout_is_known_by_content(text: str, layout: str) -> None:
    """Each known layout is recognised, whatever the lines before it and the line ends."""
    assert recognise(text.encode(), "a.file") == layout


@pytest.mark.parametrize("data", [b"", b"hello\nworld\n", b"size,time\n1,2\n", b"\x7fELF\x02\x01", b'{"results": []}'])
def test_an_unknown_layout_is_refused_with_what_was_expected(data: bytes) -> None:
    """The error names the three layouts and how the file begins."""
    with pytest.raises(MeasurementFileError, match="an unknown layout") as caught:
        recognise(data, "a.file")
    for word in ("latency_us", "redop", "Input Bytes"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"op_code":0,"worker_id":"a"', "the journal of a study.*export --storage a.file --out measured.csv"),
        (b"SQLite format 3\0", "an SQLite database.*export --storage sqlite:///a.file --out"),
        (b"schema: ccl-dispatch/table/v1\n", "a table, which holds no measurements"),
        (b"baseline: gloo\ncandidates: [shm]\n", "a config, which holds no measurements"),
        (CSV.encode("utf-16"), "UTF-16, expected UTF-8"),
    ],
)
def test_another_kind_of_file_is_called_what_it_is(data: bytes, told: str) -> None:
    """A journal where measurements are asked for: the message names it, and the command that gets them out of it."""
    for read in (recognise, parse_measurements):
        with pytest.raises(MeasurementFileError, match=told):
            read(data, "a.file")


def test_a_log_without_one_good_row_is_refused_with_the_reasons() -> None:
    """When everything of a log is left out, that is an error which lists why."""
    lines = [line for line in rccl_log({64: (1.0, 2.0)}) if "Collective test" not in line]
    with pytest.raises(MeasurementFileError, match=r"no row that could be taken:\n  line \d+: .*--collective"):
        read_layout("\n".join(lines).encode(), "a.log", LogHints())


def test_a_log_that_does_not_name_its_library_asks_for_the_backend() -> None:
    """A backend is never made up."""
    lines = [line for line in rccl_log({64: (1.0, 2.0)}) if "rccl-tests" not in line]
    with pytest.raises(MeasurementFileError, match="--backend"):
        read_layout("\n".join(lines).encode(), "a.log", LogHints())


def test_bytes_that_are_no_text_spoil_their_line_alone() -> None:
    """A log with bytes of no encoding inside a table keeps its good rows."""
    lines = [line.encode() for line in rccl_log({64: (1.0, 2.0), 128: (3.0, 4.0)})]
    lines.insert(-6, b"\xff\xfe\x00")
    reading = read_layout(b"\n".join(lines), "a.log", LogHints())
    assert len(reading.rows) == 2
    assert len(reading.problems) == 1


def test_rows_of_a_log_are_chosen_by_column() -> None:
    """`where` works on logs as on CSV."""
    lines = "\n".join([*rccl_log({64: (1.0, 2.0)}), *rccl_log({64: (1.0, 2.0)}, ranks=4)])
    reading = read_layout(lines.encode(), "a.log", LogHints(), {"world_size": "4"})
    assert [row.cell.world_size for row in reading.rows] == [4]
    with pytest.raises(MeasurementFileError, match="no row has world_size '2'"):
        read_layout(lines.encode(), "a.log", LogHints(), {"world_size": "2"})


def test_a_file_that_cannot_say_that_an_output_was_wrong_is_called_so() -> None:
    """CSV without the column `excluded` says nothing of outputs; with it, or in layouts that check, all is told."""
    words = "nothing tells whether outputs were right"
    assert [words in note for note in read_layout(CSV.encode(), "m.csv", LogHints()).notes] == [False, True]
    for text in (EXCLUDED, SGLANG, "\n".join(rccl_log({64: (1.0, 2.0)}))):
        assert words not in " ".join(read_layout(text.encode(), "m.csv", LogHints(world_size=8)).notes)


def test_a_log_of_nothing_but_wrong_outputs_is_taken() -> None:
    """It has no latency, and says where its backend may not be used; `where` chooses among that too."""
    lines = "\n".join(rccl_log({64: (1.0, 2.0)})).replace("1.00      0  ", "1.00      7  ")
    reading = read_layout(lines.encode(), "a.log", LogHints())
    assert (reading.rows, len(reading.exclusions)) == ((), 1)
    chosen = {"excluded": "wrong_output: 7 wrong values in the output"}
    assert read_layout(lines.encode(), "a.log", LogHints(), chosen).exclusions == reading.exclusions
    with pytest.raises(MeasurementFileError, match="no row has world_size '2'"):
        read_layout(lines.encode(), "a.log", LogHints(), {"world_size": "2"})
