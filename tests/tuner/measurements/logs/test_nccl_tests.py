"""Logs of rccl-tests and nccl-tests: the unit is converted, the good rows are taken, the rest is told by line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_logs import rccl_log

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.measurements.logs import LogHints, LogReading
from ccl_dispatch.tuner.measurements.logs.nccl_tests import read_nccl_tests

TIMES = {count: (10.0 + count, 20.0 + count) for count in (64, 128, 256)}


def read(*lines: str, **hints: object) -> LogReading:
    return read_nccl_tests("\n".join(lines), LogHints(**hints))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    counts=st.sets(st.integers(1, 1 << 30), min_size=1, max_size=6),
    ranks=st.integers(2, 64),
    kind=st.sampled_from(
        [("half", 2, "float16"), ("float", 4, "float32"), ("bfloat16", 2, "bfloat16"), ("int8", 1, "int8")]
    ),
)
def test_total_output_bytes_become_per_rank_input_bytes(
    counts: set[int], ranks: int, kind: tuple[str, int, str]
) -> None:
    """Of an all-gather's log every size is divided by the number of ranks, and the notes say so."""
    name, itemsize, dtype = kind
    found = read(*rccl_log(dict.fromkeys(sorted(counts), (5.0, 6.0)), ranks=ranks, itemsize=itemsize, dtype=name))
    assert [(row.size, row.cell.world_size, row.cell.dtype) for row in found.rows] == [
        (count * itemsize, ranks, dtype) for count in sorted(counts)
    ]
    assert found.problems == ()
    assert f"total output bytes; read as per-rank input bytes, 1/{ranks} of them" in found.notes[0]


@pytest.mark.parametrize(
    ("program", "sizes"), [("all_reduce_perf", [128, 256, 512]), ("reduce_scatter_perf", [1024, 2048, 4096])]
)
def test_sizes_that_are_per_rank_already_are_taken_as_they_are(program: str, sizes: list[int]) -> None:
    """All-reduce and reduce-scatter print what one rank puts in."""
    found = read(*rccl_log(TIMES, program=program))
    assert [row.size for row in found.rows] == sizes
    assert {row.cell for row in found.rows} == {Cell(program.removesuffix("_perf"), "eager", "first", "float16", 8)}
    assert "per-rank input bytes and were taken as they are" in found.notes[0]


def test_placement_chooses_the_columns() -> None:
    """Out-of-place is the default, in-place is taken when asked for."""
    assert [row.latency_us for row in read(*rccl_log(TIMES)).rows] == [74.0, 138.0, 266.0]
    assert [row.latency_us for row in read(*rccl_log(TIMES), placement="in_place").rows] == [84.0, 148.0, 276.0]


def test_a_table_with_in_place_columns_alone_says_what_to_give() -> None:
    """Where the out-of-place columns were turned off, nothing is taken in their stead."""
    text = """all_gather_perf -O 0
#                                             in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)
        1024           256      half    none      -1    12.50    0.00    0.00      0
"""
    found = read(text, backend="mine")
    assert found.rows == ()
    assert "give --placement in_place" in found.problems[0][1]
    assert [row.latency_us for row in read(text, backend="mine", placement="in_place").rows] == [12.5]


def test_several_runs_in_one_file_each_keep_their_own_ranks_and_mode() -> None:
    """Two runs, of 8 ranks eager and of 4 ranks in a graph, give rows of two cells."""
    found = read(*rccl_log(TIMES), "", *rccl_log(TIMES, ranks=4, graph=20))
    assert [row.cell.name for row in found.rows] == ["all_gather/eager/first/float16/ws8"] * 3 + [
        "all_gather/graph/first/float16/ws4"
    ] * 3
    assert found.problems == ()
    assert {row.column("platform") for row in found.rows} == {"Made Up GPU"}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_garbage_inside_a_table_is_told_by_line_and_the_rest_is_taken(data: st.DataObject) -> None:
    """Whatever lines other processes write between the rows, every row is taken and every such line is told."""
    lines = rccl_log(TIMES)
    clean = read(*lines).rows
    first = next(index for index, line in enumerate(lines) if "(elements)" in line) + 1
    garbage = st.sampled_from(
        [
            "node-a:1002:1077 [2] NCCL INFO Channel 00/0 : 2[2] -> 3[3] via P2P/IPC",
            "Segmentation fault (core dumped)",
            "        4096           256      half    none",
            "        4096           256      half    none      -1    node-a:1002 NCCL WARN made up",
            "        4096           100      half    none      -1    12.00  1.00  1.00  0  12.00  1.00  1.00  0",
            "        4096           256      half    none      -1    12.00  1.00  1.00  7  12.00  1.00  1.00  0",
            "        4096           256      half    none      -1      nan  1.00  1.00  0  12.00  1.00  1.00  0",
            "        4096           256    uint64    none      -1    12.00  1.00  1.00  0  12.00  1.00  1.00  0",
            "        4096           256      half     sum      -1    12.00  1.00  1.00  0  12.00  1.00  1.00  0",
            "           0             0      half    none      -1     5.00  0.00  0.00  0  5.00  0.00  0.00  0",
            "\x00\ufffd",
        ]
    )
    places = data.draw(st.lists(st.integers(first, first + len(TIMES)), min_size=1, max_size=5))
    for place in sorted(places, reverse=True):
        lines.insert(place, data.draw(garbage))
    found = read(*lines)
    assert found.rows == clean
    assert len(found.problems) == len(places)
    for line, _ in found.problems:
        assert lines[line - 1] not in rccl_log(TIMES)


@pytest.mark.parametrize(
    "prefix", ["0: ", "[1,0]<stdout>:", "[default0]:", "2026-01-02T03:04:05.678Z ", "\x1b[32m", " 0: [1,0]<stdout>: "]
)
def test_what_launchers_write_before_each_line_is_no_part_of_it(prefix: str) -> None:
    """Labels of srun, mpirun and torchrun, timestamps and colours change nothing."""
    assert read(*[prefix + line for line in rccl_log(TIMES)]).rows == read(*rccl_log(TIMES)).rows


def test_columns_of_newer_and_older_versions_are_found_by_their_names() -> None:
    """Per-iteration columns, timestamps, and tables without redop and root give the same latencies."""
    start = "# nccl-tests version 2.99 nccl-headers=0 nccl-library=0\n# Collective test starting: all_gather_perf\n"
    columns = "time algbw busbw #wrong i_min i_max i_p99 i_cv%"
    newer = f"""{start}# nThread 1 nGpus 2 graph: 0 unalign: 0
# size count type redop root {columns} {columns} timestamp
#        (B)
        1024    256 half  none  -1  12.5  1 1 0 11 13 13 2  14.5  1 1 0 11 13 13 2  2026-01-02 03:04:05
"""
    older = """all_gather_perf -b 1K
#       size         count      type     time   algbw   busbw  error     time   algbw   busbw  error
        1024           256      half    12.5    0.00    0.00  0e+00    14.5    0.00    0.00  0e+00
"""
    for text, backend in ((newer, "nccl"), (older, "mine")):
        hints = LogHints(backend="" if backend == "nccl" else backend)
        (row,) = (found := read_nccl_tests(text, hints)).rows
        assert (row.size, row.cell.world_size, row.latency_us, row.backend) == (512, 2, 12.5, backend)
        assert found.problems == ()


@pytest.mark.parametrize(
    "name", ["all_gather_perf", "/opt/rccl-tests/build/all_gather_perf -b 8", "all_gather_perf_mpi"]
)
def test_the_program_is_known_by_any_line_that_names_it(name: str) -> None:
    """The command that a shell or a batch system wrote before the table is enough; builds may have a suffix."""
    lines = [line for line in rccl_log(TIMES) if "Collective test" not in line]
    found = read(f"+ mpirun -n 8 {name}", *lines)
    assert [row.cell.collective for row in found.rows] == ["all_gather"] * 3


def test_what_the_log_does_not_say_is_asked_for() -> None:
    """Without a program's name nothing is assumed; with --collective the table is taken."""
    lines = [line for line in rccl_log(TIMES) if "Collective test" not in line]
    found = read(*lines)
    assert found.rows == ()
    assert "give --collective" in found.problems[0][1]
    assert len(read(*lines, collective="all_gather").rows) == 3


def test_other_programs_and_cpu_times_are_left_out() -> None:
    """A broadcast is no collective of tables, and CPU time is no latency."""
    found = read(*rccl_log(TIMES, program="broadcast_perf"), *rccl_log(TIMES))
    assert len(found.rows) == 3
    assert "printed by broadcast_perf" in found.problems[0][1]
    cpu = read(*[line.replace("   time", "cputime") for line in rccl_log(TIMES)])
    assert cpu.rows == ()
    assert "CPU time" in cpu.problems[0][1]


def test_ranks_that_contradict_each_other_are_refused() -> None:
    """A row whose size and count are not those of the ranks listed, or asked for, is left out."""
    lines = [line for line in rccl_log(TIMES) if "Rank  7" not in line]
    assert "those of 8 ranks, the log lists 7" in read(*lines).problems[0][1]
    assert "8 ranks, not the 4 of --world-size" in read(*rccl_log(TIMES), world_size=4).problems[0][1]


def test_unchecked_outputs_are_said() -> None:
    """Rows with N/A instead of a count of wrong values are taken, and it is said how many."""
    found = read(*[line.replace("1.00      0  ", "1.00    N/A  ", 1) for line in rccl_log(TIMES)])
    assert len(found.rows) == 3
    assert any("outputs of 3 rows were not checked" in note for note in found.notes)


def test_a_wrong_output_excludes_its_backend() -> None:
    """A row with wrong values has no latency and excludes; one whose count is no number is no row."""
    lines = rccl_log(TIMES)
    first = next(index for index, line in enumerate(lines) if "(elements)" in line) + 1
    lines[first] = lines[first].replace("1.00      0  ", "1.00      7  ", 1)
    lines[first + 1] = lines[first + 1].replace("1.00      0  ", "1.00   WARN  ", 1)
    found = read(*lines, backend="mine")
    assert [row.latency_us for row in found.rows] == [266.0]
    assert [(row.backend, row.size, row.reason, row.detail) for row in found.exclusions] == [
        ("mine", 128, "wrong_output", "7 wrong values in the output")
    ]
    assert found.exclusions[0].cell == found.rows[0].cell
    assert found.problems == (
        (first + 1, "7 wrong values in the output: a latency of a wrong result is none, and mine is not used at 128 B"),
        (first + 2, "#wrong is 'WARN', expected a number or N/A"),
    )
    assert len(read(*lines, placement="in_place").rows) == 3
