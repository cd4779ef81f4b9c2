"""Logs of nccl-tests and rccl-tests (`all_gather_perf` and its neighbours), several runs in one file.

The layout is that of `src/common.cu` and `src/util.cu` of NVIDIA/nccl-tests (a0b82b2) and `src/common.cu` of
ROCm/rccl-tests (ae3e635): a `#` header that names the columns, then one line per size with the columns of the
out-of-place call and behind them those of the in-place call.

Column `size` is the larger of what one rank sends and receives: for all_gather the total output, for all_reduce and
reduce_scatter the input of one rank. Column `count` is what one rank passes to the call, so that size, count and type
together say how many ranks there were; a row in which they don't fit is left out.

A row whose output was wrong has no latency: its backend may not be used at that size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ccl_dispatch.runtime.units import counted, full_size
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, Cell
from ccl_dispatch.tuner.measurements.logs.lines import PLACEMENTS, LogHints, LogReading, latency_us, numbered_lines
from ccl_dispatch.tuner.measurements.rows import AnyRow, ExcludedRow, Row, quoted

LAYOUT = "a log of rccl-tests or nccl-tests: a line `#  size  count  type  redop  root  time  algbw  busbw  #wrong ...`"
TIMING = "back_to_back"

# Names of the two projects, of now and of before 2020. A log does not say which kind of 8-bit float was meant; an
# all-gather moves bytes all the same.
_DTYPES = {
    "int8": "int8",
    "char": "int8",
    "uint8": "uint8",
    "int32": "int32",
    "int": "int32",
    "int64": "int64",
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "bfloat16": "bfloat16",
    "f8e4m3": "float8_e4m3fn",
    "fp8_e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "fp8_e5m2": "float8_e5m2",
}
# Builds may have a suffix: all_gather_perf_mpi.
_PROGRAM = re.compile(r"\b([a-z_]+?)_perf(?:_\w+)?\b")
_RANK = re.compile(r"#\s+Rank\s+(\d+)\s+(?:Group\s+(\d+)\s+)?Pid\s+\d+ on\s+\S+ device\s+\d+ \[[^\]]*\] ?(.*)")
_GRAPH = re.compile(r"#\s*nThread\b.*\bgraph:\s*(\d+)")
_ENDS = ("Out of bounds values", "Avg bus bandwidth", "Collective test concluded", "Errors with asterisks")
_UNITS = {
    "all_gather": "sizes in the log are total output bytes; read as per-rank input bytes, 1/{ranks} of them",
    "all_reduce": "sizes in the log are per-rank input bytes and were taken as they are",
    "reduce_scatter": "sizes in the log are per-rank input bytes and were taken as they are",
}


@dataclass
class _Run:
    """What the lines before a table say about it."""

    program: str = ""
    graph: bool = False
    mode_said: bool = False
    ranks: dict[str, set[int]] = field(default_factory=dict)  # group to its ranks
    devices: set[str] = field(default_factory=set)


@dataclass
class _Columns:
    """Where a table's header says that things are."""

    count: int
    names: list[str]
    time: int
    wrong: int | None


def is_header(line: str) -> bool:
    """Whether this line names the columns of a table."""
    words = line.lstrip("# ").split()
    return (
        line.lstrip().startswith("#")
        and words[:3] == ["size", "count", "type"]
        and bool({"time", "cputime"} & {*words})
    )


def read_nccl_tests(text: str, hints: LogHints) -> LogReading:
    """The rows of every table in the log; what can't be taken is in `problems`, the rest is taken."""
    reader = _Reader(hints)
    for number, line in numbered_lines(text):
        reader.take(number, line)
    return reader.reading()


class _Reader:
    def __init__(self, hints: LogHints) -> None:
        self._hints = hints
        self._run = _Run()
        self._above = ""
        self._columns: _Columns | None = None
        self._inside = False
        self._library = ""
        self._rows: list[Row] = []
        self._exclusions: list[ExcludedRow] = []
        self._problems: list[tuple[int, str]] = []
        self._counts: dict[str, int] = {}
        self._unchecked = 0
        self._no_mode = False

    def take(self, number: int, line: str) -> None:
        """One line of the log."""
        if is_header(line):
            self._begin(number, line)
        elif line.lstrip().startswith(("#", "rccl-tests:")):
            self._comment(line)
        elif self._inside and line.strip():
            self._body(number, line)
        elif not self._inside:
            self._name(line)
        self._above = line

    def reading(self) -> LogReading:
        """Everything that was taken."""
        notes = [f"{what}: {counted(count, 'row')}" for what, count in self._counts.items()]
        if self._rows:
            notes.append("latencies are per call of a back-to-back run, by default the mean over the ranks (-a)")
        if self._unchecked:
            unchecked = counted(self._unchecked, "row")
            notes.append(f"the outputs of {unchecked} were not checked (#wrong N/A, or no such column)")
        if self._no_mode:
            notes.append("the log does not say whether a graph was used: read as eager")
        return LogReading(tuple(self._rows), tuple(notes), tuple(self._problems), TIMING, tuple(self._exclusions))

    def _begin(self, number: int, line: str) -> None:
        """A header: from here on lines are rows."""
        self._inside = True
        self._columns = None
        names = line.lstrip("# ").split()
        placements = _placements(names, self._above)
        if "cputime" in names:
            self._problems.append((number, "the table has CPU time (-C 1), not latency; left out"))
        elif self._hints.placement not in placements:
            other = f"give --placement {placements[0]} to take it" if placements else "no column `time`"
            self._problems.append((number, f"the table has no {self._hints.placement} columns; left out: {other}"))
        elif self._collective() is None:
            known = ", ".join(COLLECTIVES)
            what = (
                f"printed by {self._run.program}_perf, tables have {known}; left out"
                if self._run.program
                else f"the log does not say which program printed this table; give --collective, one of {known}"
            )
            self._problems.append((number, what))
        else:
            times = [index for index, name in enumerate(names) if name == "time"]
            time = times[placements.index(self._hints.placement)]
            wrong = next((i for i, name in enumerate(names) if i > time and name in {"#wrong", "error"}), None)
            # A timestamp, where there is one, is printed as two words.
            self._columns = _Columns(len(names) + (names[-1] == "timestamp"), names, time, wrong)

    def _comment(self, line: str) -> None:
        if "nThread" in line:
            ended = self._inside
            self._end()
            match = _GRAPH.search(line)
            # The program is named before this line in newer versions, never in older ones.
            self._run = _Run("" if ended else self._run.program, bool(match and int(match[1])), bool(match))
        elif any(mark in line for mark in _ENDS):
            self._end()
        elif match := _RANK.search(line):
            self._run.ranks.setdefault(match[2] or "", set()).add(int(match[1]))
            self._run.devices.add(match[3].strip())
        elif "rccl-tests" in line:
            self._library = self._library or "rccl"
        elif "nccl-tests" in line:
            self._library = self._library or "nccl"
        elif "Collective test starting" in line:
            self._end()
            self._name(line)

    def _end(self) -> None:
        if self._inside:
            self._inside = False
            self._columns = None
            self._run = _Run()

    def _name(self, line: str) -> None:
        if match := _PROGRAM.search(line):
            self._run.program = match[1]

    def _collective(self) -> str | None:
        name = self._run.program or self._hints.collective
        return name if name in COLLECTIVES else None

    def _body(self, number: int, line: str) -> None:
        if self._columns is None:
            return  # of a table that was left out, which has been said at its header
        try:
            row, note = self._row(line.split(), self._columns)
        except ValueError as problem:
            self._problems.append((number, str(problem)))
            return
        if isinstance(row, ExcludedRow):
            self._exclusions.append(row)
            where = full_size(row.size)
            # Said of every line: what it costs is all the evidence of its size.
            self._problems.append(
                (number, f"{row.detail}: a latency of a wrong result is none, and {row.backend} is not used at {where}")
            )
            return
        self._rows.append(row)
        self._counts[note] = self._counts.get(note, 0) + 1

    def _row(self, words: list[str], columns: _Columns) -> tuple[AnyRow, str]:
        if len(words) < 3 or not (words[0].isdecimal() and words[1].isdecimal()):
            raise ValueError(f"no row of this table: {quoted(' '.join(words))}")
        if len(words) != columns.count:
            raise ValueError(f"{len(words)} columns, the header has {columns.count}: {quoted(' '.join(words))}")
        size, count = int(words[0]), int(words[1])
        dtype = _DTYPES.get(words[2], "")
        if not dtype:
            raise ValueError(f"type {quoted(words[2])} is none that tables have")
        if not size or not count:
            raise ValueError("0 bytes: too small to be shared among the ranks")
        collective = self._collective() or ""
        reduces = dict(zip(columns.names, words, strict=False)).get("redop", "")
        if reduces and (reduces == "none") != (collective == "all_gather"):
            raise ValueError(f"redop {reduces} does not belong to {collective}")
        ranks, per_rank = self._ranks(collective, size, count, ITEMSIZE[dtype])
        device = self._hints.platform or ", ".join(sorted(self._run.devices - {""}))
        cell = Cell(collective, "graph" if self._run.graph else "eager", DIMS[0], dtype, ranks)
        backend = self._hints.backend or self._library
        extra = {"platform": device} if device else {}
        wrong = "N/A" if columns.wrong is None else words[columns.wrong]
        if wrong != "N/A" and _number(wrong) != 0:
            counts = columns.wrong is not None and columns.names[columns.wrong] == "#wrong"
            detail = f"{wrong} wrong values in the output" if counts else f"an error of {wrong} in the output"
            return ExcludedRow(cell, backend, per_rank, "wrong_output", detail, (), extra), ""
        row = Row(cell, backend, per_rank, latency_us(words[columns.time]), (), extra)
        self._unchecked += wrong == "N/A"
        self._no_mode |= not self._run.mode_said
        what = f"{collective}_perf as {backend}, {cell.mode}, {dtype}, {ranks} ranks, {self._hints.placement} columns"
        return row, f"{what}; {_UNITS[collective].format(ranks=ranks)}"

    def _ranks(self, collective: str, size: int, count: int, itemsize: int) -> tuple[int, int]:
        """How many ranks there were, and the bytes of one rank's input."""
        one = count * itemsize
        printed = {len(ranks) for ranks in self._run.ranks.values()}
        if collective == "all_reduce":
            if size != one:
                raise ValueError(f"size {size} is not count {count} x {itemsize} B, as all_reduce has it")
            ranks = max(printed, default=0) or self._hints.world_size
            if not ranks:
                raise ValueError("the log does not list its ranks; give --world-size")
        else:
            ranks, rest = divmod(size, one)
            if rest:
                raise ValueError(f"size {size} is no multiple of count {count} x {itemsize} B, as {collective} has it")
            if printed and ranks not in printed:
                raise ValueError(f"size and count are those of {ranks} ranks, the log lists {max(printed)}")
        if self._hints.world_size not in {0, ranks}:
            raise ValueError(f"{ranks} ranks, not the {self._hints.world_size} of --world-size")
        return ranks, one if collective == "all_gather" else size


def named_backend(text: str) -> str:
    """The library that the log's own header speaks of: `rccl`, `nccl`, or empty."""
    for _, line in numbered_lines(text):
        if line.lstrip().startswith(("#", "rccl-tests:")):
            for name in ("rccl", "nccl"):
                if f"{name}-tests" in line:
                    return name
    return ""


def _placements(names: list[str], above: str) -> tuple[str, ...]:
    times = names.count("time")
    if times == 1:
        return (PLACEMENTS[1],) if "in-place" in above and "out-of-place" not in above else (PLACEMENTS[0],)
    return PLACEMENTS[:times]


def _number(text: str) -> float:
    """The count of wrong values, or the error in older logs.

    Raises:
        ValueError: it is none, so that this is no row.
    """
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"#wrong is {quoted(text)}, expected a number or N/A") from None
