"""Which layout a file has, by its content, and its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ccl_dispatch.runtime.errors import MeasurementFileError
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.measurements.csv_file import (
    COLUMNS,
    MAX_REPORTED,
    choose_rows,
    parse_measurements,
    refuse_other_kinds,
)
from ccl_dispatch.tuner.measurements.logs import nccl_tests, sglang
from ccl_dispatch.tuner.measurements.logs.lines import LogHints, LogReading, numbered_lines
from ccl_dispatch.tuner.measurements.rows import EXCLUDED, parted

CSV, NCCL_TESTS, SGLANG = "csv", "nccl-tests", "sglang"

_LAYOUTS = (f"CSV whose header has {','.join(COLUMNS)}", nccl_tests.LAYOUT, sglang.LAYOUT)


def recognise(data: bytes, source: str) -> str:
    """`csv`, `nccl-tests` or `sglang`, by the first line that only one of them has.

    Raises:
        MeasurementFileError: none of them; says what was expected.
    """
    refuse_other_kinds(data, source)
    text = _text(data)
    first = ""
    for _, line in numbered_lines(text):
        if nccl_tests.is_header(line):
            return NCCL_TESTS
        if sglang.is_header(line):
            return SGLANG
        if not first and line.strip():
            first = line.strip()
            # A header with a mistake is met by the CSV reader, which says what is wrong with it.
            names = {
                name.strip(' "') for name in first.lstrip("\ufeff").replace(";", ",").replace("\t", ",").split(",")
            }
            if len(names & {*COLUMNS}) >= 3:
                return CSV
    listed = "".join(f"\n  - {layout}" for layout in _LAYOUTS)
    found = f"it begins with {first[:60]!r}" if first else "the file is empty"
    raise MeasurementFileError(f"an unknown layout: {found}. Known are:{listed}", source=source)


def read_layout(data: bytes, source: str, hints: LogHints, where: Mapping[str, str] | None = None) -> LogReading:
    """The rows of a file in any known layout; what can't be taken of a log is in the reading's `problems`.

    Args:
        data: the file's bytes.
        source: its name, for messages.
        hints: what the user says where a log does not.
        where: takes the rows alone whose columns have these texts.

    Raises:
        MeasurementFileError: an unknown layout, a CSV file with mistakes, a log of which nothing could be taken, or a
            filter that leaves nothing.
    """
    layout = recognise(data, source)
    if layout == CSV:
        # Who names the platform says that all rows are of it.
        found = parse_measurements(data, source, where, one_platform=not hints.platform)
        note = f"CSV, bytes are per-rank input bytes: {counted(len(found.rows), 'row')}"
        if found.exclusions:
            note += f", {counted(len(found.exclusions), 'exclusion')}"
        silent = () if found.tells_excluded else (f"no column `{EXCLUDED}`: nothing tells whether outputs were right",)
        return LogReading(found.rows, (note, *silent), exclusions=found.exclusions)
    if layout == NCCL_TESTS:
        text = _text(data)
        if not (hints.backend or nccl_tests.named_backend(text)):
            raise MeasurementFileError(
                "the log does not say whose latencies these are",
                source=source,
                fix="Name the backend: --backend rccl or --backend nccl",
            )
        reading = nccl_tests.read_nccl_tests(text, hints)
    else:
        reading = sglang.read_sglang(_text(data), hints)
    if not (reading.rows or reading.exclusions):
        listed = "".join(f"\n  line {line}: {problem}" for line, problem in reading.problems[:MAX_REPORTED])
        raise MeasurementFileError(
            f"the log has no row that could be taken{':' if listed else ''}{listed}", source=source
        )
    if not where:
        return reading
    columns = (*COLUMNS, "dim", "platform", EXCLUDED)
    rows, exclusions = parted(choose_rows((*reading.rows, *reading.exclusions), where, columns, source))
    return replace(reading, rows=rows, exclusions=exclusions)


def _text(data: bytes) -> str:
    # A log that was cut off or written by several processes at once may hold anything; its good lines are still good.
    return data.decode("utf-8-sig", "replace")
