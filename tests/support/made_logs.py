"""Logs in the layouts that other tools print. Every figure in them is made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COLUMNS = "# {:>10}  {:>12}  {:>8}  {:>6}  {:>6}  {:>7}  {:>6}  {:>6} {:>6}  {:>7}  {:>6}  {:>6} {:>6}"
NAMES = ("size", "count", "type", "redop", "root", *("time", "algbw", "busbw", "#wrong") * 2)
UNITS = ("(B)", "(elements)", "", "", "", *("(us)", "(GB/s)", "(GB/s)", "") * 2)


def rccl_log(
    times: Mapping[int, tuple[float, float]],
    *,
    ranks: int = 8,
    itemsize: int = 2,
    dtype: str = "half",
    program: str = "all_gather_perf",
    graph: int = 0,
) -> list[str]:
    """The lines of one run of rccl-tests: per-rank count to its out-of-place and in-place time in microseconds."""
    summed = program in {"all_reduce_perf", "reduce_scatter_perf"}
    share = 1 if program == "all_reduce_perf" else ranks
    lines = [
        f"# Collective test starting: {program}",
        f"# nThread 1 nGpus 1 minBytes 16 maxBytes 1048576 step: 2(factor) iters: 20 validation: 1 graph: {graph}",
        "#",
        "rccl-tests: Version made:up00000",
        "# Using devices",
        *(
            f"#  Rank {rank:2} Group  0 Pid {1000 + rank:6} on     node-a device {rank:2} [0000:05:00] Made Up GPU"
            for rank in range(ranks)
        ),
        "#",
        f"#{'':53}           out-of-place                       in-place          ",
        COLUMNS.format(*NAMES),
        COLUMNS.format(*UNITS),
    ]
    for count, (out, inside) in times.items():
        size, redop = count * itemsize * share, "sum" if summed else "none"
        start = f"{size:12}  {count:12}  {dtype:>8}  {redop:>6}  {-1:6}"
        lines.append(f"{start}  {out:7.2f}    1.00    1.00      0  {inside:7.2f}    1.00    1.00      0")
    return [
        *lines,
        "# Errors with asterisks indicate errors that have exceeded the maximum threshold.",
        "# Out of bounds values : 0 OK",
        "# Avg bus bandwidth    : 1 ",
        "#",
        f"# Collective test concluded: {program}",
    ]


def sglang_log(rows: Sequence[tuple[str, str, int, int, str, str, str]], *, verbose_ranks: int = 0) -> list[str]:
    """The lines of SGLang's benchmark_aiter.py: dtype, shape, dim, bytes, correct, RCCL us, Aiter us."""
    header = (
        f"{'DType':>10}  {'Shape':>14}  {'Dim':>4}  {'Input Bytes':>12}  {'Correct':>7}  "
        f"{'RCCL us':>10}  {'Aiter us':>10}  {'Speedup':>8}"
    )
    return [
        *(f"[rank {rank}] dtype=bfloat16 shape=(1, 32320) dim=-1 rccl_median_us=1.00" for rank in range(verbose_ranks)),
        "",
        "Results (logical all-gather, avg median us across ranks)",
        header,
        "-" * len(header),
        *(
            f"{dtype:>10}  {shape:>14}  {dim:>4}  {size:>12}  {correct:>7}  {rccl:>10}  {custom:>10}  {1.5:>7.2f}x"
            for dtype, shape, dim, size, correct, rccl, custom in rows
        ),
    ]
