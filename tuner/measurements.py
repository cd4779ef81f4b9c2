"""Measurement files: CSV with `collective,mode,dtype,world_size,shape,bytes,backend,latency_us` and further columns.

`bytes` are per-rank input bytes, `latency_us` microseconds per call of the slowest rank. A blank mode reads as `eager`,
a blank `dim` (or no such column) as `first`, blank bytes are filled from shape and dtype. Repeated rows are repeats.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ccl_dispatch.runtime.document import did_you_mean, nearest
from ccl_dispatch.runtime.errors import MeasurementFileError, OutputError
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, Cell, dtype_name
from ccl_dispatch.tuner.files import write_in_one_step
from ccl_dispatch.tuner.sizes import shape_size

COLUMNS = ("collective", "mode", "dtype", "world_size", "shape", "bytes", "backend", "latency_us")
MAX_REPORTED = 10

Curves = dict[Cell, dict[str, dict[int, list[float]]]]


@dataclass(frozen=True)
class Row:
    """One latency of one backend.

    Attributes:
        size: per-rank input bytes.
        latency_us: microseconds per call.
        shape: one rank's input, empty when the file does not say.
        extra: the file's further columns (`platform` and the like), column to text.
    """

    cell: Cell
    backend: str
    size: int
    latency_us: float
    shape: tuple[int, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> str:
        """What stands in column `name`, blanks filled; an absent further column reads as blank."""
        known = {
            "collective": self.cell.collective,
            "mode": self.cell.mode,
            "dim": self.cell.dim,
            "dtype": self.cell.dtype,
            "world_size": str(self.cell.world_size),
            "shape": "x".join(map(str, self.shape)),
            "bytes": str(self.size),
            "backend": self.backend,
            "latency_us": repr(self.latency_us),
        }
        return known[name] if name in known else self.extra.get(name, "")


@dataclass(frozen=True)
class Measurements:
    """The rows of a measurement file, in file order; `source` is its name, for messages."""

    source: str
    rows: tuple[Row, ...]

    def backends(self) -> tuple[str, ...]:
        """The names of all backends, in the order in which the file has them."""
        return tuple(dict.fromkeys(row.backend for row in self.rows))

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
        MeasurementFileError: no UTF-8, no CSV, a missing column, rows that are wrong (up to ten are listed, and nothing
            of the file is taken), a filter that names no column or leaves nothing, or rows of several platforms left.
    """
    text = _decode(data, source)
    problems: list[tuple[int, str]] = []
    rows: list[Row] = []
    header: list[str] = []
    # `strict` makes a quote that never closes an error instead of one huge field.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    last = 0
    try:
        for cells in reader:
            line, last = last + 1, reader.line_num
            fields = [cell.strip() for cell in cells]
            if not any(fields):
                continue
            if not header:
                header = _header(fields, source, line)
                continue
            try:
                rows.append(_row(header, fields))
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
    chosen = tuple(choose_rows(rows, where or {}, header, source))
    if one_platform:
        _check_one_platform(chosen, source)
    return Measurements(source, chosen)


def write_measurements(rows: Iterable[Row], path: str | Path) -> None:
    """Write the rows as a CSV file that `read_measurements` gives back unchanged; in one step, never a part.

    Further columns come first, in alphabetical order; `dim` is a column when a row has another than `first`.

    Raises:
        OutputError: the file can't be written; what was there before is untouched.
    """
    rows = tuple(rows)
    further = sorted({name for row in rows for name in row.extra})
    dims = ["dim"] if any(row.cell.dim != DIMS[0] for row in rows) else []
    columns = [*further, *COLUMNS[:2], *dims, *COLUMNS[2:]]
    text = io.StringIO(newline="")
    lines = [columns, *([row.column(name) for name in columns] for row in rows)]
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
            fix=f"Needed are {','.join(COLUMNS)}; separate columns by commas",
        )
    return fields


def _row(header: list[str], fields: list[str]) -> Row:
    if len(fields) != len(header):
        raise ValueError(f"{len(fields)} fields, the header has {len(header)}")
    values = dict(zip(header, fields, strict=True))
    cell = Cell(
        _choice(values, "collective", COLLECTIVES),
        _choice(values, "mode", MODES, "eager"),
        _choice(values, "dim", DIMS, "first"),
        dtype := _choice({"dtype": dtype_name(values["dtype"])}, "dtype", tuple(ITEMSIZE)),
        _whole(values, "world_size"),
    )
    shape = _shape(values["shape"])
    size = _whole(values, "bytes") if values["bytes"] else 0
    if shape:
        expected = shape_size(shape, dtype)
        if size not in {0, expected}:
            raise ValueError(
                f"bytes {size} disagrees with shape {_short(values['shape'])} of {dtype}: {expected} B per rank"
            )
        size = expected
    if not size:
        raise ValueError("neither bytes nor shape is given")
    if not values["backend"] or not values["backend"].isprintable():
        raise ValueError(f"backend {_short(values['backend'])}, expected a name")
    extra = {name: text for name, text in values.items() if name not in COLUMNS and name != "dim"}
    return Row(cell, values["backend"], size, _latency(values["latency_us"]), shape, extra)


def _choice(values: Mapping[str, str], column: str, choices: tuple[str, ...], blank: str = "") -> str:
    text = values.get(column, "") or blank
    if text not in choices:
        raise ValueError(
            f"{column} {_short(text)} is unknown. {nearest(text, choices)}" if text else f"{column} is blank"
        )
    return text


def _whole(values: Mapping[str, str], column: str) -> int:
    # Tools that keep a column with blanks as floating point write 32768.0.
    text = values[column].removesuffix(".0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise ValueError(f"{column} {_short(values[column])}, expected a whole number above 0")
    return int(text)


def _shape(text: str) -> tuple[int, ...]:
    if not text:
        return ()
    inner = text[1:-1] if text[0] + text[-1] in {"[]", "()"} else text
    dimensions = [part.strip() for part in inner.replace("x", ",").split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 and int(part) > 0 for part in dimensions):
        raise ValueError(f"shape {_short(text)}, expected dimensions such as 4x32320")
    return tuple(map(int, dimensions))


def _latency(text: str) -> float:
    try:
        value = float(text.replace("_", " "))  # float() takes 1_000 for a number, people's other tools don't
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"latency_us {_short(text)}, expected a number of microseconds above 0")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _bad_rows(problems: list[tuple[int, str]], source: str) -> MeasurementFileError:
    listed = "".join(f"\n  line {line}: {problem}" for line, problem in problems[:MAX_REPORTED])
    more = f"\n  and {len(problems) - MAX_REPORTED} more" if len(problems) > MAX_REPORTED else ""
    count = "1 row is" if len(problems) == 1 else f"{len(problems)} rows are"
    return MeasurementFileError(
        f"{count} wrong, nothing was taken:{listed}{more}\nMend or remove what is wrong",
        source=source,
        line=problems[0][0],
    )


def choose_rows(rows: Sequence[Row], where: Mapping[str, str], header: Sequence[str], source: str) -> Sequence[Row]:
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


def _check_one_platform(rows: Sequence[Row], source: str) -> None:
    if len({row.column("platform") for row in rows}) > 1:
        raise MeasurementFileError(
            f"rows of several platforms, which must not be mixed: {_listed(rows, 'platform')}",
            source=source,
            fix="Choose one with `where: {platform: ...}` (in a command --where platform=...), or another column that "
            "tells them apart",
        )


def _listed(rows: Sequence[Row], column: str) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.column(column)] = counts.get(row.column(column), 0) + 1
    names = [f"{name!r} ({count} rows)" for name, count in counts.items()]
    more = [f"{len(names) - MAX_REPORTED} more"] if len(names) > MAX_REPORTED else []
    return ", ".join([*names[:MAX_REPORTED], *more])
