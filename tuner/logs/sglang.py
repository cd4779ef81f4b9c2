"""Print-outs of SGLang's `benchmark/kernels/all_gather/benchmark_aiter.py`: RCCL and AITER side by side.

The layout is that of sgl-project/sglang at 0cdfa2f: a header `DType Shape Dim Input Bytes Correct RCCL us Aiter us
Speedup`, a line of dashes, one line per dtype, shape and dim. `Input Bytes` are per rank already. A latency is the
median over the calls on each rank (one event pair per call, each waited for), then the mean over the ranks, without a
graph. The table does not say how many ranks there were; only the lines that `--verbose` adds do.
"""

from __future__ import annotations

import re

from ccl_dispatch.runtime.vocabulary import DIMS, Cell
from ccl_dispatch.tuner.logs.lines import LogHints, LogReading, latency_us, numbered_lines
from ccl_dispatch.tuner.measurements import Row
from ccl_dispatch.tuner.sizes import shape_size

LAYOUT = (
    "a print-out of SGLang's benchmark_aiter.py: a line "
    "`DType  Shape  Dim  Input Bytes  Correct  RCCL us  Aiter us  Speedup`"
)
TIMING = "isolated"
BACKENDS = ("rccl", "aiter")

_HEADER = "DType Shape Dim Input Bytes Correct RCCL us Aiter us Speedup"
_ROW = re.compile(
    r"\s*(?P<dtype>\w+)\s+(?P<shape>\(\s*\d+\s*(?:,\s*\d+\s*)*,?\s*\))\s+(?P<dim>-?\d+)\s+(?P<bytes>\d+)"
    r"\s+(?P<correct>True|False)\s+(?P<rccl>\S+)\s+(?P<aiter>\S+)\s+\S+x\s*"
)
_RANK = re.compile(r"\[rank (\d+)\] dtype=")
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
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    counts: dict[str, int] = {}
    ranks: set[int] = set()
    world_size, inside = 0, False
    for number, line in numbered_lines(text):
        if match := _RANK.match(line.lstrip()):
            if inside:
                ranks, inside = set(), False  # of the next run in this file
            ranks.add(int(match[1]))
        elif is_header(line):
            inside = True
            try:
                world_size = _world_size(ranks, hints.world_size)
            except ValueError as problem:
                world_size = 0
                problems.append((number, str(problem)))
        elif inside and world_size and not _ASIDE.fullmatch(line):
            try:
                pair = _rows(line, world_size, hints.platform)
            except ValueError as problem:
                problems.append((number, str(problem)))
                continue
            rows += pair
            what = f"rccl and aiter, eager, {world_size} ranks; `Input Bytes` are per rank and were taken as they are"
            counts[what] = counts.get(what, 0) + 1
    notes = [f"{what}: {count} rows" for what, count in counts.items()]
    if rows:
        notes.append("latencies are medians over calls timed one by one, then the mean over the ranks")
    return LogReading(tuple(rows), tuple(notes), tuple(problems), TIMING)


def _world_size(ranks: set[int], hint: int) -> int:
    said = max(ranks) + 1 if ranks and len(ranks) == max(ranks) + 1 else 0
    if hint and said and hint != said:
        raise ValueError(f"printed by {said} ranks, not the {hint} of --world-size; the table is left out")
    if not (said or hint):
        raise ValueError("the print-out does not say how many ranks there were; give --world-size")
    return said or hint


def _rows(line: str, world_size: int, platform: str) -> list[Row]:
    match = _ROW.fullmatch(line)
    if match is None:
        raise ValueError(f"no row of this table: {_short(' '.join(line.split()))}")
    dtype = _DTYPES.get(match["dtype"], "")
    if not dtype:
        raise ValueError(f"dtype {_short(match['dtype'])} is none that tables have")
    shape = tuple(int(extent) for extent in re.findall(r"\d+", match["shape"]))
    size = shape_size(shape, dtype)
    if size != int(match["bytes"]):
        raise ValueError(f"Input Bytes {match['bytes']}, but {list(shape)} of {dtype} has {size}")
    if match["correct"] != "True":
        raise ValueError("not correct, or refused by AITER")
    dim = int(match["dim"])
    place = dim + len(shape) if dim < 0 else dim
    if place not in {0, len(shape) - 1}:
        raise ValueError(f"dim {dim} of {list(shape)}: tables know the first and the last dim only")
    cell = Cell("all_gather", "eager", DIMS[0] if place == 0 else DIMS[1], dtype, world_size)
    extra = {"platform": platform} if platform else {}
    missing = [name for name in BACKENDS if match[name] == "None"]
    if missing:
        raise ValueError(f"{' and '.join(missing)} not timed: nothing to compare")
    return [Row(cell, name, size, latency_us(match[name]), shape, extra) for name in BACKENDS]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
