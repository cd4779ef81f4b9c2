"""Measurement files: what is read, what is refused, and that nothing wrong is taken silently."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.errors import MeasurementFileError, OutputError
from ccl_dispatch.runtime.table import EXCLUSION_REASONS
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, Cell
from ccl_dispatch.tuner.measurements import rows as rows_module
from ccl_dispatch.tuner.measurements.csv_file import (
    COLUMNS,
    ExcludedRow,
    Measurements,
    Row,
    parse_measurements,
    read_measurements,
    write_measurements,
)
from ccl_dispatch.tuner.measurements.rows import AnyRow, RowReader, parted, read_row
from ccl_dispatch.tuner.sizes import shape_size

DATA = Path(__file__).parents[2] / "data" / "measurements"
HEADER = ",".join(COLUMNS)
GOOD = "all_gather,,bfloat16,8,,64640,rccl,20.5"


def parsed(*lines: str, where: dict[str, str] | None = None, header: str = HEADER) -> Measurements:
    return parse_measurements("\n".join((header, *lines, "")).encode(), "m.csv", where)


def _rows() -> st.SearchStrategy[AnyRow]:
    word = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
    anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).map(str.strip)
    cells = st.builds(
        Cell,
        st.sampled_from(COLLECTIVES),
        st.sampled_from(MODES),
        st.sampled_from(DIMS),
        st.sampled_from(tuple(ITEMSIZE)),
        st.integers(1, 4096),
    )

    def row(
        cell: Cell, shape: tuple[int, ...], size: int, backend: str, says: float | tuple[str, str], note: str
    ) -> AnyRow:
        size = shape_size(shape, cell.dtype) if shape else size
        extra = {"platform": "here", "note": note}
        if isinstance(says, tuple):
            return ExcludedRow(cell, backend, size, *says, shape, extra)
        return Row(cell, backend, size, says, shape, extra)

    shapes = st.lists(st.integers(1, 9999), max_size=3).map(tuple)
    latencies = st.floats(1e-6, 1e12, allow_nan=False)
    says = st.one_of(latencies, st.tuples(st.sampled_from(EXCLUSION_REASONS), anything))
    return st.builds(row, cells, shapes, st.integers(1, 2**40), word, says, anything)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(_rows(), min_size=1, max_size=8))
def test_what_is_written_is_read_back_unchanged(tmp_path_factory: pytest.TempPathFactory, rows: list[AnyRow]) -> None:
    """Any rows, with any further column, survive a file: quotes, line ends, repeats, every digit and exclusion."""
    path = tmp_path_factory.mktemp("csv") / "m.csv"
    write_measurements(rows, path)
    found = read_measurements(path)
    assert (found.rows, found.exclusions) == parted(rows)
    assert found.tells_excluded == bool(found.exclusions), "the column is written when there is something to say"


@pytest.mark.parametrize(
    ("file", "count", "cells"),
    [
        ("mi300-all_reduce-custom-quickreduce.csv", 29, 2),
        ("mi300x-all_reduce-rccl-quickreduce.csv", 72, 3),
        ("rtx5090-all_gather-nccl-repeats.csv", 69, 1),
    ],
)
def test_published_files_are_read_whole(file: str, count: int, cells: int) -> None:
    """Every row of the published files is taken, into the cells that they are from."""
    found = read_measurements(DATA / file)
    assert (len(found.rows), len(found.by_cell())) == (count, cells)


def test_several_platforms_are_refused_until_one_is_chosen() -> None:
    """Rows of two clusters are never mixed: the error lists them, and any column that tells them apart chooses."""
    path = DATA / "cpu-clusters-all_gather-mpi-algorithms.csv"
    with pytest.raises(MeasurementFileError, match=r"LUMI.*70 rows.*MareNostrum5.*88 rows.*where: \{platform"):
        read_measurements(path)
    assert len(read_measurements(path, {"world_size": "32"}).rows) == 88


def test_repeats_stay_in_file_order_and_curves_rise() -> None:
    """Repeated rows are repeats in the order of the file; sizes of a curve rise whatever the order."""
    found = parsed(
        "all_gather,,int8,2,,64,b,3",
        "all_gather,,int8,2,,16,b,9",
        "all_gather,,int8,2,,64,b,1",
        "all_gather,,int8,2,,64,a,2",
    )
    curves = found.by_cell()[Cell("all_gather", "eager", "first", "int8", 2)]
    assert {name: list(curve.items()) for name, curve in curves.items()} == {
        "b": [(16, [9.0]), (64, [3.0, 1.0])],
        "a": [(64, [2.0])],
    }
    assert found.backends() == ("b", "a")


@pytest.mark.parametrize("shape", ["4x32320", '"4,32320"', '"[4, 32320]"', '"(4, 32320)"', "4 x 32320"])
def test_shapes_are_read_as_people_write_them(shape: str) -> None:
    """All the usual spellings of a shape give its dimensions, and blank bytes are filled from it."""
    (row,) = parsed(f"all_gather,graph,torch.bfloat16,8,{shape},,aiter,7.5").rows
    assert (row.shape, row.size, row.cell) == (
        (4, 32320),
        258560,
        Cell("all_gather", "graph", "first", "bfloat16", 8),
    )


def test_what_spreadsheets_do_to_a_file_is_tolerated() -> None:
    """A byte order mark, CRLF, blank lines, padding and whole numbers written as 8.0 change nothing."""
    plain = parsed("all_gather,eager,float32,8,,1024,rccl,20.5")
    data = f"\ufeff{HEADER}\r\n\r\n all_gather , ,float32,8.0,,1024.0, rccl ,20.5\r\n,,,,,,,\r\n".encode()
    assert parse_measurements(data, "m.csv").rows == plain.rows


def test_a_dim_column_is_read_and_blank_is_first() -> None:
    """A further column `dim` says which dimension is gathered."""
    found = parsed(f"last,{GOOD}", f",{GOOD}", header=f"dim,{HEADER}")
    assert [row.cell.dim for row in found.rows] == ["last", "first"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("all_gathr,,bfloat16,8,,64,rccl,1", "collective 'all_gathr' is unknown. Did you mean 'all_gather'?"),
        ("all_gather,eagr,bfloat16,8,,64,rccl,1", "mode 'eagr' is unknown. Did you mean 'eager'?"),
        ("all_gather,,bfloat,8,,64,rccl,1", "dtype 'bfloat' is unknown. Did you mean 'bfloat16'?"),
        ("all_gather,,,8,,64,rccl,1", "dtype is blank"),
        ("all_gather,,int8,eight,,64,rccl,1", "world_size 'eight', expected a whole number above 0"),
        ("all_gather,,int8,0,,64,rccl,1", "world_size '0', expected a whole number above 0"),
        ("all_gather,,int8,8,,64.5,rccl,1", "bytes '64.5', expected a whole number above 0"),
        ("all_gather,,int8,8,,-64,rccl,1", "bytes '-64', expected a whole number above 0"),
        ("all_gather,,int8,8,,,rccl,1", "neither bytes nor shape is given"),
        ("all_gather,,int8,8,4xx4,,rccl,1", "shape '4xx4', expected dimensions such as 4x32320"),
        ("all_gather,,int8,8,0,,rccl,1", "shape '0', expected dimensions such as 4x32320"),
        ("all_gather,,bfloat16,8,4x4,256,rccl,1", "bytes 256 disagrees with shape '4x4' of bfloat16: 32 B per rank"),
        ("all_gather,,int8,8,,64,,1", "backend '', expected a name"),
        ("all_gather,,int8,8,,64,rccl,", "latency_us '', expected a number of microseconds above 0"),
        ("all_gather,,int8,8,,64,rccl,nan", "latency_us 'nan', expected"),
        ("all_gather,,int8,8,,64,rccl,inf", "latency_us 'inf', expected"),
        ("all_gather,,int8,8,,64,rccl,0", "latency_us '0', expected"),
        ("all_gather,,int8,8,,64,rccl,-3", "latency_us '-3', expected"),
        ("all_gather,,int8,8,,64,rccl,1_0", "latency_us '1_0', expected"),
        ("all_gather,,int8,8,,64,rccl", "7 fields, the header has 8"),
        ("all_gather,,int8,8,,64,rccl,1,2", "9 fields, the header has 8"),
        (f"{'x' * 5000},,int8,8,,64,rccl,1", f"collective '{'x' * 57}...' is unknown"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(row: str, words: str) -> None:
    """Whatever is wrong with a row, the error says its line and what was found, and nothing is taken."""
    with pytest.raises(MeasurementFileError, match=re.escape(f"line 3: {words}")) as caught:
        parsed(GOOD, row, GOOD)
    assert caught.value.line == 3


def test_an_excluded_row_is_no_latency() -> None:
    """A row with a reason says that a backend may not be used there; who reads latencies does not meet it."""
    lines = (f"{GOOD},", "all_gather,,bfloat16,8,,64,aiter,,wrong_output: rank 1: 0x01 instead of 0x13")
    found = parsed(*lines, "all_gather,,bfloat16,8,,128,aiter,,hung", header=f"{HEADER},excluded")
    assert found.rows == parsed(GOOD).rows
    assert [(row.backend, row.size, row.reason, row.detail) for row in found.exclusions] == [
        ("aiter", 64, "wrong_output", "rank 1: 0x01 instead of 0x13"),
        ("aiter", 128, "hung", ""),
    ]
    assert found.backends() == ("rccl", "aiter")
    assert [list(backends) for backends in found.by_cell().values()] == [["rccl"]]
    assert found.tells_excluded
    assert not parsed(GOOD).tells_excluded


def test_excluded_rows_are_chosen_as_the_others_are() -> None:
    """`where` and the check of platforms hold for them too: what is of another machine excludes nothing here."""
    header = f"platform,{HEADER},excluded"
    lines = (f"a,{GOOD},", "a,all_gather,,int8,8,,64,aiter,,crashed", "b,all_gather,,int8,8,,32,aiter,,crashed")
    with pytest.raises(MeasurementFileError, match=r"several platforms.*'a' \(2 rows\), 'b' \(1 row\)"):
        parsed(*lines, header=header)
    chosen = parsed(*lines, header=header, where={"platform": "a"})
    assert (len(chosen.rows), [row.size for row in chosen.exclusions]) == (1, [64])
    only = parsed(*lines, header=header, where={"excluded": "crashed", "bytes": "32"})
    assert (only.rows, len(only.exclusions)) == ((), 1)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("rccl,1,wrong_output", "latency_us '1' beside excluded 'wrong_output', expected one of the two"),
        (
            "rccl,,wrong_outptu: x",
            "excluded 'wrong_outptu: x' begins with no known reason. Did you mean 'wrong_output'?",
        ),
        ("rccl,,True", "excluded 'True' begins with no known reason. Valid here: wrong_output, unsupported, crashed"),
        ("rccl,,", "latency_us '', expected a number of microseconds above 0, or a reason in `excluded`"),
        (",,hung", "backend '', expected a name"),
    ],
)
def test_a_row_with_half_an_exclusion_is_named_with_its_line(row: str, words: str) -> None:
    """A row has a latency or a known reason and never both; what is neither is told with its line."""
    with pytest.raises(MeasurementFileError, match=re.escape(f"line 3: {words}")):
        parsed(f"{GOOD},", f"all_gather,,bfloat16,8,,64,{row}", header=f"{HEADER},excluded")


def test_wrong_rows_are_collected_up_to_ten() -> None:
    """All wrong rows are counted, the first ten listed, so that a file is mended in one go."""
    with pytest.raises(MeasurementFileError, match="12 rows are wrong") as caught:
        parsed(GOOD, *["all_gather,,int8,8,,64,rccl,bad"] * 12)
    assert len(re.findall(r"^  line \d+: ", str(caught.value), re.MULTILINE)) == 10
    assert "and 2 more" in str(caught.value)


def test_lines_are_counted_through_quoted_line_ends_and_blank_lines() -> None:
    """The line of an error is the line in an editor, also behind a field that spans lines."""
    with pytest.raises(MeasurementFileError) as caught:
        parsed(f'"two\nlines",{GOOD}', "", "x,all_gather,,int8,8,,64,rccl,bad", header=f"note,{HEADER}")
    assert caught.value.line == 5


def test_a_missing_column_is_named_with_the_nearest_one() -> None:
    """Columns that are not there are named, with the column that was probably meant."""
    with pytest.raises(MeasurementFileError, match=r"no column latency_us \(Did you mean 'latency'\?\)"):
        parsed(GOOD, header=HEADER.replace("latency_us", "latency"))
    # Who renames a column of milliseconds is told what is wanted.
    with pytest.raises(MeasurementFileError, match=r"'latency_ms'\?\).* latencies in us"):
        parsed(GOOD, header=HEADER.replace("latency_us", "latency_ms"))


@pytest.mark.parametrize(
    ("data", "words", "line"),
    [
        (b"", "the file is empty", 0),
        (HEADER.encode(), "there is no row", 0),
        (f"{HEADER},bytes\n".encode(), "2 columns 'bytes'", 1),
        (f"{HEADER}\n\n\xff".encode("latin-1"), "0xff is not UTF-8", 3),
        (f'{HEADER}\n"{GOOD}'.encode(), "not CSV", 2),
        (f"{HEADER.replace(',', ';')}\n".encode(), "separated by commas", 1),
    ],
)
def test_what_is_no_measurement_file_is_refused(data: bytes, words: str, line: int) -> None:
    """A file that is empty, ambiguous, of another encoding or not CSV is refused with the place."""
    with pytest.raises(MeasurementFileError, match=words) as caught:
        parse_measurements(data, "m.csv")
    assert caught.value.line == line


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    """A missing file and a folder are errors of this tree, with the system's reason."""
    with pytest.raises(MeasurementFileError, match="No such file"):
        read_measurements(tmp_path / "none.csv")
    with pytest.raises(MeasurementFileError, match="Is a directory"):
        read_measurements(tmp_path)


def test_rows_are_chosen_by_any_column() -> None:
    """`where` compares with blanks filled and numbers as numbers; a choice of nothing says what there is."""
    lines = ("a,all_gather,,int8,8,,64,rccl,1", "b,all_gather,graph,int8,8,,64,rccl,2")
    header = f"platform,{HEADER}"
    assert [row.latency_us for row in parsed(*lines, header=header, where={"mode": "eager"}).rows] == [1.0]
    assert [row.latency_us for row in parsed(*lines, header=header, where={"latency_us": "2"}).rows] == [2.0]
    assert len(parsed(*lines, header=header, where={"platform": "b", "world_size": "8"}).rows) == 1
    with pytest.raises(MeasurementFileError, match=r"no row has platform 'c'. There are 'a' \(1 row\), 'b'"):
        parsed(*lines, header=header, where={"platform": "c"})
    with pytest.raises(MeasurementFileError, match=r"no column 'plaform'.*The columns are platform,"):
        parsed(*lines, header=header, where={"plaform": "a"})


def test_writing_where_nothing_can_be_written_is_an_output_error(tmp_path: Path) -> None:
    """A folder that is not there is told as an error that leaves nothing behind."""
    with pytest.raises(OutputError, match="can't be written: No such file"):
        write_measurements(parsed(GOOD).rows, tmp_path / "none" / "m.csv")


@settings(max_examples=60, deadline=None)
@given(
    some=st.lists(_rows(), min_size=1, max_size=4),
    lines=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["1.5", "2", "0", "x", "", "nan"]), st.sampled_from(["a", "b"])),
        max_size=30,
    ),
)
def test_a_row_is_read_alike_wherever_it_stands(some: list[AnyRow], lines: list[tuple[int, str, str]]) -> None:
    """Repeats share what they have in common with the row before, and nothing else: each is what it is by itself."""
    header = (*COLUMNS, "dim", "excluded", "platform", "note")
    reader = RowReader(header)
    for place, latency, backend in lines:
        said = {**some[place % len(some)].columns(), "latency_us": latency, "backend": backend}
        fields = [said.get(name, "") for name in header]
        assert _told(reader.read, fields) == _told(lambda fields: read_row(header, fields), fields)


def _told(read: Callable[[list[str]], AnyRow], fields: list[str]) -> AnyRow | str:
    try:
        return read(fields)
    except ValueError as problem:
        return str(problem)


def test_what_repeats_have_in_common_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand latencies of two backends at a size are two rows to read, and one cell to keep for each."""
    asked: list[Sequence[str]] = []

    def counting(header: Sequence[str], fields: Sequence[str]) -> AnyRow:
        asked.append(fields)
        return read_row(header, fields)

    monkeypatch.setattr(rows_module, "read_row", counting)
    names = ("rccl", "aiter") * 500
    found = parsed(*(f"all_gather,,bfloat16,8,,64640,{name},{20 + place}" for place, name in enumerate(names)))
    assert [(row.backend, row.latency_us) for row in found.rows] == [(n, 20.0 + at) for at, n in enumerate(names)]
    assert len(asked) == len({id(row.cell) for row in found.rows}) == 2


def test_rows_of_several_platforms_are_taken_where_they_are_said_to_be_one() -> None:
    """Else they are refused, in whatever column order, unless a choice leaves one."""
    data = "\n".join((f"platform,{HEADER}", f"one,{GOOD}", f"other,{GOOD}")).encode()
    with pytest.raises(MeasurementFileError, match="rows of several platforms"):
        parse_measurements(data, "m.csv")
    assert len(parse_measurements(data, "m.csv", one_platform=False).rows) == 2
    assert len(parse_measurements(data, "m.csv", {"platform": "other"}).rows) == 1
    with pytest.raises(
        MeasurementFileError, match=r"no column 'plattform' .*The columns are platform, .*, latency_us, dim$"
    ):
        parse_measurements(data, "m.csv", {"plattform": "other"})
