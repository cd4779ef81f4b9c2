"""Measurement files: CSV with `collective,mode,dtype,world_size,shape,bytes,backend,latency_us` and further columns.

`bytes` are per-rank input bytes, `latency_us` microseconds per call of the slowest rank. A blank mode reads as `eager`,
a blank `dim` (or no such column) as `first`, blank bytes are filled from shape and dtype. Repeated rows are repeats.

A row whose optional column `excluded` has a reason (and a detail behind a colon) has no latency: it says that the
backend may not be used at that size.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccl_dispatch.runtime.document import did_you_mean
from ccl_dispatch.runtime.errors import MeasurementFileError, OutputError
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.runtime.vocabulary import DIMS, Cell
from ccl_dispatch.tuner.files import write_in_one_step
from ccl_dispatch.tuner.kinds import CONFIG, DATABASE, SAMPLES, TABLE, kind_of
from ccl_dispatch.tuner.measurements.rows import COLUMNS, EXCLUDED, AnyRow, ExcludedRow, Row, RowReader, parted

__all__ = [
    "COLUMNS",
    "MAX_REPORTED",
    "Curves",
    "ExcludedRow",
    "Measurements",
    "Row",
    "choose_rows",
    "parse_measurements",
    "read_measurements",
    "refuse_other_kinds",
    "write_measurements",
]

MAX_REPORTED = 10

Curves = dict[Cell, dict[str, dict[int, list[float]]]]


@dataclass(frozen=True)
class Measurements:
    """What a measurement file holds.

    Attributes:
        source: its name, for messages.
        rows: its latencies, in file order.
        exclusions: what it says may not be used, in file order: no latencies, so that they are no rows.
        tells_excluded: whether it has a column for that; without one nothing says whether outputs were right.
    """

    source: str
    rows: tuple[Row, ...]
    exclusions: tuple[ExcludedRow, ...] = ()
    tells_excluded: bool = False

    def backends(self) -> tuple[str, ...]:
        """The names of all backends, in the order in which the file has them; those without a latency come last."""
        named: tuple[AnyRow, ...] = (*self.rows, *self.exclusions)
        return tuple(dict.fromkeys(row.backend for row in named))

    def by_cell(self) -> Curves:
        """Cell to backend to size to its latencies in file order; cells and sizes rising, backends in file order."""
        curves: Curves = {cell: {} for cell in sorted({row.cell for row in self.rows})}
        for row in self.rows:
            curves[row.cell].setdefault(row.backend, {}).setdefault(row.size, []).append(row.latency_us)
        for backends in curves.values():
            for name, sizes in backends.items():
                backends[name] = dict(sorted(sizes.items()))
        return curves


def read_measurements(path: str | Path, where: Mapping[str, str] | None = None) -> Measurements:
    """The rows of the CSV file at `path` that match `where` (column to text, compared after blanks are filled).

    Raises:
        MeasurementFileError: see `parse_measurements`, or the file can't be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise MeasurementFileError(f"can't be read: {problem.strerror or problem}", source=str(path)) from None
    return parse_measurements(data, str(path), where)


def parse_measurements(
    data: bytes, source: str, where: Mapping[str, str] | None = None, *, one_platform: bool = True
) -> Measurements:
    """The rows of a measurement file's bytes that match `where`.

    Args:
        one_platform: refuse rows of several platforms.

    Raises:
        MeasurementFileError: another kind of file, no UTF-8, no CSV, a missing column, rows that are wrong (up to ten
            are listed, and nothing of the file is taken), a filter that names no column or leaves nothing, or rows of
            several platforms left.
    """
    refuse_other_kinds(data, source)
    text = _decode(data, source)
    problems: list[tuple[int, str]] = []
    rows: list[AnyRow] = []
    header: list[str] = []
    below: RowReader | None = None
    # `strict` makes a quote that never closes an error instead of one huge field.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    last = 0
    try:
        for cells in reader:
            line, last = last + 1, reader.line_num
            fields = [cell.strip() for cell in cells]
            if not any(fields):
                continue
            if below is None:
                header = _header(fields, source, line)
                below = RowReader(header)
                continue
            try:
                rows.append(below.read(fields))
            except ValueError as problem:
                problems.append((line, str(problem)))
    except csv.Error as problem:
        raise MeasurementFileError(f"not CSV: {problem}", source=source, line=last + 1) from None
    if not header:
        raise MeasurementFileError(
            "the file is empty", source=source, fix=f"It must start with the header {','.join(COLUMNS)}"
        )
    if problems:
        raise _bad_rows(problems, source)
    if not rows:
        raise MeasurementFileError("there is no row after the header", source=source)
    chosen = choose_rows(rows, where or {}, header, source)
    if one_platform:
        _check_one_platform(chosen, source)
    return Measurements(source, *parted(chosen), tells_excluded=EXCLUDED in header)


def write_measurements(rows: Iterable[AnyRow], path: str | Path) -> None:
    """Write the rows as a CSV file that `read_measurements` gives back unchanged; in one step, never a part.

    Further columns come first, in alphabetical order; `dim` is a column when a row has another than `first`, `excluded`
    when a row says so.

    Raises:
        OutputError: the file can't be written; what was there before is untouched.
    """
    rows = tuple(rows)
    further = sorted({name for row in rows for name in row.extra})
    dims = ["dim"] if any(row.cell.dim != DIMS[0] for row in rows) else []
    excluded = [EXCLUDED] if any(isinstance(row, ExcludedRow) for row in rows) else []
    columns = [*further, *COLUMNS[:2], *dims, *COLUMNS[2:], *excluded]
    text = io.StringIO(newline="")
    lines = [columns, *([said.get(name, "") for name in columns] for said in (row.columns() for row in rows))]
    # Before Python 3.13 the writer doesn't know that a carriage return inside a field needs quotes.
    returns = any("\r" in value for line in lines for value in line)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(lines)
    try:
        write_in_one_step(os.fspath(path), text.getvalue())
    except OSError as problem:
        raise OutputError(
            f"{path}: the measurements can't be written: {problem.strerror or problem}. What was there before is "
            "untouched: make room or name another file"
        ) from problem


def refuse_other_kinds(data: bytes, source: str) -> None:
    """Refuse what is known to be no measurements.

    Raises:
        MeasurementFileError: it is a study's journal or database, a table or a config, or in UTF-16.
    """
    kind = kind_of(data)
    if kind in SAMPLES:
        storage = f"sqlite:///{source}" if kind == DATABASE else source
        raise MeasurementFileError(
            f"this is {kind}, expected measurements",
            source=source,
            fix=f"`ccl-dispatch export --storage {shlex.quote(storage)} --out measured.csv` writes those that it has",
        )
    if kind in (TABLE, CONFIG):
        raise MeasurementFileError(
            f"this is {kind}, which holds no measurements",
            source=source,
            fix="Give a file of them, such as `ccl-dispatch export` writes from a study",
        )
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise MeasurementFileError("UTF-16, expected UTF-8", source=source, fix="Save the file as UTF-8")


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise MeasurementFileError(
            f"byte {data[problem.start]:#04x} is not UTF-8", source=source, line=line, fix="Save the file as UTF-8"
        ) from None


def _header(fields: list[str], source: str, line: int) -> list[str]:
    for name in fields:
        if fields.count(name) > 1:
            raise MeasurementFileError(
                f"the header has {fields.count(name)} columns {name!r}",
                source=source,
                line=line,
                fix="Give each column a name of its own",
            )
    missing = [name for name in COLUMNS if name not in fields]
    if missing:
        others = [name for name in fields if name not in COLUMNS]
        hints = [f"{name} ({hint})" if (hint := did_you_mean(name, others)) else name for name in missing]
        raise MeasurementFileError(
            f"the header has no column {', '.join(hints)}",
            source=source,
            line=line,
            fix=f"Needed are {','.join(COLUMNS)}: bytes of one rank's input, latencies in us; separated by commas",
        )
    return fields


def _bad_rows(problems: list[tuple[int, str]], source: str) -> MeasurementFileError:
    listed = "".join(f"\n  line {line}: {problem}" for line, problem in problems[:MAX_REPORTED])
    more = f"\n  and {len(problems) - MAX_REPORTED} more" if len(problems) > MAX_REPORTED else ""
    count = "1 row is" if len(problems) == 1 else f"{len(problems)} rows are"
    return MeasurementFileError(
        f"{count} wrong, nothing was taken:{listed}{more}\nMend or remove what is wrong",
        source=source,
        line=problems[0][0],
    )


def choose_rows(
    rows: Sequence[AnyRow], where: Mapping[str, str], header: Sequence[str], source: str
) -> Sequence[AnyRow]:
    """The rows that match `where` (column to text, compared after blanks are filled).

    Raises:
        MeasurementFileError: a column that `header` does not have, or nothing is left.
    """
    columns = header if "dim" in header else [*header, "dim"]
    for column, wanted in where.items():
        if column not in columns:
            raise MeasurementFileError(
                f"there is no column {column!r} to choose by",
                source=source,
                fix=f"The columns are {', '.join(columns)}",
            )
        kept = [row for row in rows if _same(row.column(column), wanted)]
        if not kept:
            raise MeasurementFileError(
                f"no row has {column} {wanted!r}", source=source, fix=f"There are {_listed(rows, column)}"
            )
        rows = kept
    return rows


def _same(text: str, wanted: str) -> bool:
    if text == wanted:
        return True
    try:
        return float(text) == float(wanted)
    except ValueError:
        return False


def _check_one_platform(rows: Sequence[AnyRow], source: str) -> None:
    if len({row.column("platform") for row in rows}) > 1:
        raise MeasurementFileError(
            f"rows of several platforms, which must not be mixed: {_listed(rows, 'platform')}",
            source=source,
            fix="Choose one with `where: {platform: ...}` (in a command --where platform=...), or another column that "
            "tells them apart",
        )


def _listed(rows: Sequence[AnyRow], column: str) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.column(column)] = counts.get(row.column(column), 0) + 1
    names = [f"{name!r} ({counted(count, 'row')})" for name, count in counts.items()]
    more = [f"{len(names) - MAX_REPORTED} more"] if len(names) > MAX_REPORTED else []
    return ", ".join([*names[:MAX_REPORTED], *more])
