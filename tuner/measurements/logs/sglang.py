"""Print-outs of SGLang's `benchmark/kernels/all_gather/benchmark_aiter.py`: RCCL and AITER side by side.

The layout is that of sgl-project/sglang at 0cdfa2f: a header `DType Shape Dim Input Bytes Correct RCCL us Aiter us
Speedup`, a line of dashes, one line per dtype, shape and dim. `Input Bytes` are per rank already. A latency is the
median over the calls on each rank (one event pair per call, each waited for), then the mean over the ranks, without a
graph. The table does not say how many ranks there were; only the lines that `--verbose` adds do.

`Correct False` stands both for a wrong output and for a call that AITER refuses; only a line `SKIP` before the table
tells them apart. Either way AITER may not be used there.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from contextlib import suppress

from ccl_dispatch.runtime.units import counted, full_size
from ccl_dispatch.runtime.vocabulary import DIMS, Cell
from ccl_dispatch.tuner.measurements.logs.lines import LogHints, LogReading, latency_us, numbered_lines
from ccl_dispatch.tuner.measurements.rows import AnyRow, ExcludedRow, Row, parted, quoted
from ccl_dispatch.tuner.sizes import shape_size

LAYOUT = (
    "a print-out of SGLang's benchmark_aiter.py: a line "
    "`DType  Shape  Dim  Input Bytes  Correct  RCCL us  Aiter us  Speedup`"
)
TIMING = "isolated"
BACKENDS = ("rccl", "aiter")
_REFUSED = "AITER refuses this call (should_custom_ag=False)"
_NOT_CORRECT = "not correct, or refused by AITER: the print-out does not tell the two apart"

_HEADER = "DType Shape Dim Input Bytes Correct RCCL us Aiter us Speedup"
_ROW = re.compile(
    r"\s*(?P<dtype>\w+)\s+(?P<shape>\(\s*\d+\s*(?:,\s*\d+\s*)*,?\s*\))\s+(?P<dim>-?\d+)\s+(?P<bytes>\d+)"
    r"\s+(?P<correct>True|False)\s+(?P<rccl>\S+)\s+(?P<aiter>\S+)\s+\S+x\s*"
)
_RANK = re.compile(r"\[rank (\d+)\] dtype=")
_SKIP = re.compile(r"\s*SKIP dtype=(\w+) shape=(\([^)]*\)) dim=(-?\d+): .*should_custom_ag=False\s*")
_ASIDE = re.compile(r"\s*(?:-+|\[rank \d+\].*|SKIP .*|Results \(logical.*)?\s*")
_DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "int64_t": "int64",
    "i64": "int64",
    "int32_t": "int32",
    "i32": "int32",
    "int16_t": "int16",
    "i16": "int16",
    "uint8_t": "uint8",
    "u8": "uint8",
    "int8_t": "int8",
    "i8": "int8",
}


def is_header(line: str) -> bool:
    """Whether this line names the columns of the table."""
    return " ".join(line.split()) == _HEADER


def read_sglang(text: str, hints: LogHints) -> LogReading:
    """The rows of every table in the print-out; what can't be taken is in `problems`, the rest is taken."""
    rows: list[AnyRow] = []
    problems: list[tuple[int, str]] = []
    counts: dict[str, int] = {}
    ranks: set[int] = set()
    refused: set[tuple[str, ...]] = set()  # in the table that is read
    coming: set[tuple[str, ...]] = set()  # in the next one
    world_size, inside = 0, False
    for number, line in numbered_lines(text):
        if match := _RANK.match(line.lstrip()):
            if inside:
                ranks, inside = set(), False  # of the next run in this file
            ranks.add(int(match[1]))
        elif match := _SKIP.fullmatch(line):
            coming.add(match.groups())
        elif is_header(line):
            inside, refused, coming = True, coming, set()
            try:
                world_size = _world_size(ranks, hints.world_size)
            except ValueError as problem:
                world_size = 0
                problems.append((number, str(problem)))
        elif inside and world_size and not _ASIDE.fullmatch(line):
            try:
                pair = _rows(line, world_size, hints.platform, refused)
            except ValueError as problem:
                problems.append((number, str(problem)))
                continue
            rows += pair
            if isinstance(out := pair[0], ExcludedRow):
                problems.append((number, f"{out.detail}; {out.backend} is not used at {full_size(out.size)}"))
                continue
            what = f"rccl and aiter, eager, {world_size} ranks; `Input Bytes` are per rank and were taken as they are"
            counts[what] = counts.get(what, 0) + 1
    notes = [f"{what}: {counted(count, 'row')}" for what, count in counts.items()]
    latencies, exclusions = parted(rows)
    if latencies:
        notes.append("latencies are medians over calls timed one by one, then the mean over the ranks")
    return LogReading(latencies, tuple(notes), tuple(problems), TIMING, exclusions)


def _world_size(ranks: set[int], hint: int) -> int:
    said = max(ranks) + 1 if ranks and len(ranks) == max(ranks) + 1 else 0
    if hint and said and hint != said:
        raise ValueError(f"printed by {said} ranks, not the {hint} of --world-size; the table is left out")
    if not (said or hint):
        raise ValueError("the print-out does not say how many ranks there were; give --world-size")
    return said or hint


def _rows(line: str, world_size: int, platform: str, refused: AbstractSet[tuple[str, ...]]) -> list[AnyRow]:
    match = _ROW.fullmatch(line)
    if match is None:
        raise ValueError(f"no row of this table: {quoted(' '.join(line.split()))}")
    dtype = _DTYPES.get(match["dtype"], "")
    if not dtype:
        raise ValueError(f"dtype {quoted(match['dtype'])} is none that tables have")
    shape = tuple(int(extent) for extent in re.findall(r"\d+", match["shape"]))
    size = shape_size(shape, dtype)
    if size != int(match["bytes"]):
        raise ValueError(f"Input Bytes {match['bytes']}, but {list(shape)} of {dtype} has {size}")
    dim = int(match["dim"])
    place = dim + len(shape) if dim < 0 else dim
    if place not in {0, len(shape) - 1}:
        raise ValueError(f"dim {dim} of {list(shape)}: tables know the first and the last dim only")
    cell = Cell("all_gather", "eager", DIMS[0] if place == 0 else DIMS[1], dtype, world_size)
    extra = {"platform": platform} if platform else {}
    if match["correct"] != "True":
        known = (match["dtype"], match["shape"], match["dim"]) in refused
        reason, detail = ("unsupported", _REFUSED) if known else ("wrong_output", _NOT_CORRECT)
        found: list[AnyRow] = [ExcludedRow(cell, "aiter", size, reason, detail, shape, extra)]
        with suppress(ValueError):  # whatever stands there for RCCL, AITER may not be used
            found.append(Row(cell, "rccl", size, latency_us(match["rccl"]), shape, extra))
        return found
    missing = [name for name in BACKENDS if match[name] == "None"]
    if missing:
        raise ValueError(f"{' and '.join(missing)} not timed: nothing to compare")
    return [Row(cell, name, size, latency_us(match[name]), shape, extra) for name in BACKENDS]
