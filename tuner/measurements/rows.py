"""One row of a measurement file: a latency, or that a backend may not be used at a size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.table import EXCLUSION_REASONS
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, Cell, dtype_name
from ccl_dispatch.tuner.sizes import shape_size

COLUMNS = ("collective", "mode", "dtype", "world_size", "shape", "bytes", "backend", "latency_us")
EXCLUDED = "excluded"


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
        return self.columns().get(name, "")

    def columns(self) -> dict[str, str]:
        """The same for all columns that the row has."""
        return _columns(self, latency_us=repr(self.latency_us))


@dataclass(frozen=True)
class ExcludedRow:
    """That one backend may not be used at one size.

    Attributes:
        size: per-rank input bytes.
        reason: of `runtime.table.EXCLUSION_REASONS`.
        detail: in the words of whoever found it; may be empty.
        shape, extra: as of a `Row`.
    """

    cell: Cell
    backend: str
    size: int
    reason: str
    detail: str = ""
    shape: tuple[int, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> str:
        """As of a `Row`; there is no latency."""
        return self.columns().get(name, "")

    def columns(self) -> dict[str, str]:
        """As of a `Row`."""
        return _columns(self, excluded=f"{self.reason}: {self.detail}" if self.detail else self.reason)


AnyRow = Row | ExcludedRow


def platforms(rows: Iterable[AnyRow]) -> tuple[str, ...]:
    """The machines that the rows name, in alphabetical order."""
    return tuple(sorted({row.column("platform") for row in rows} - {""}))


def parted(rows: Iterable[AnyRow]) -> tuple[tuple[Row, ...], tuple[ExcludedRow, ...]]:
    """The rows that are latencies and those that are none, each in their order."""
    rows = tuple(rows)
    return (
        tuple(row for row in rows if isinstance(row, Row)),
        tuple(row for row in rows if isinstance(row, ExcludedRow)),
    )


def quoted(text: str) -> str:
    """What a file has, for a message: in quotes, and of a length to be read."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def read_row(header: Sequence[str], fields: Sequence[str]) -> AnyRow:
    """The row whose `fields` stand below `header`, which has all of `COLUMNS`.

    Raises:
        ValueError: something is wrong with it; says what.
    """
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
                f"bytes {size} disagrees with shape {quoted(values['shape'])} of {dtype}: {expected} B per rank"
            )
        size = expected
    if not size:
        raise ValueError("neither bytes nor shape is given")
    if not values["backend"] or not values["backend"].isprintable():
        raise ValueError(f"backend {quoted(values['backend'])}, expected a name")
    extra = {name: text for name, text in values.items() if name not in (*COLUMNS, "dim", EXCLUDED)}
    if values.get(EXCLUDED):
        return ExcludedRow(cell, values["backend"], size, *_excluded(values), shape, extra)
    return Row(cell, values["backend"], size, _latency(values["latency_us"], header), shape, extra)


class RowReader:
    """Reads the rows below one header, as `read_row` does.

    A file of samples has a thousand rows that differ in their latency alone: what a backend's row has in common with
    that backend's row before is neither read nor kept again.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header
        self._backend, self._latency = header.index("backend"), header.index("latency_us")
        self._before: dict[str, tuple[list[str], Row]] = {}

    def read(self, fields: Sequence[str]) -> AnyRow:
        """See `read_row`.

        Raises:
            ValueError: something is wrong with the row; says what.
        """
        if len(fields) != len(self._header):
            return read_row(self._header, fields)  # which says so
        others = [*fields[: self._latency], *fields[self._latency + 1 :]]
        before = self._before.get(fields[self._backend])
        if before is not None and before[0] == others:
            row = before[1]
            latency = _latency(fields[self._latency], self._header)
            return Row(row.cell, row.backend, row.size, latency, row.shape, row.extra)
        found = read_row(self._header, fields)
        if isinstance(found, Row):
            self._before[fields[self._backend]] = (others, found)
        return found


def _columns(row: AnyRow, latency_us: str = "", excluded: str = "") -> dict[str, str]:
    """What a row says, column to text."""
    return {
        **row.extra,
        "collective": row.cell.collective,
        "mode": row.cell.mode,
        "dim": row.cell.dim,
        "dtype": row.cell.dtype,
        "world_size": str(row.cell.world_size),
        "shape": "x".join(map(str, row.shape)),
        "bytes": str(row.size),
        "backend": row.backend,
        "latency_us": latency_us,
        EXCLUDED: excluded,
    }


def _choice(values: Mapping[str, str], column: str, choices: tuple[str, ...], blank: str = "") -> str:
    text = values.get(column, "") or blank
    if text not in choices:
        raise ValueError(
            f"{column} {quoted(text)} is unknown. {nearest(text, choices)}" if text else f"{column} is blank"
        )
    return text


def _whole(values: Mapping[str, str], column: str) -> int:
    # Tools that keep a column with blanks as floating point write 32768.0.
    text = values[column].removesuffix(".0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise ValueError(f"{column} {quoted(values[column])}, expected a whole number above 0")
    return int(text)


def _shape(text: str) -> tuple[int, ...]:
    if not text:
        return ()
    inner = text[1:-1] if text[0] + text[-1] in {"[]", "()"} else text
    dimensions = [part.strip() for part in inner.replace("x", ",").split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 and int(part) > 0 for part in dimensions):
        raise ValueError(f"shape {quoted(text)}, expected dimensions such as 4x32320")
    return tuple(map(int, dimensions))


def _excluded(values: Mapping[str, str]) -> tuple[str, str]:
    """The reason and the detail."""
    text, latency = values[EXCLUDED], values["latency_us"]
    reason, _, detail = (part.strip() for part in text.partition(":"))
    if reason not in EXCLUSION_REASONS:
        raise ValueError(f"excluded {quoted(text)} begins with no known reason. {nearest(reason, EXCLUSION_REASONS)}")
    if latency:
        raise ValueError(f"latency_us {quoted(latency)} beside excluded {quoted(text)}, expected one of the two")
    return reason, detail


def _latency(text: str, header: Sequence[str]) -> float:
    try:
        value = float(text.replace("_", " "))  # float() takes 1_000 for a number, people's other tools don't
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"latency_us {quoted(text)}, expected a number of microseconds above 0"
            + (", or a reason in `excluded`" if EXCLUDED in header and not text else "")
        )
    return value
