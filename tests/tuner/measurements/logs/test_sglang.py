"""Print-outs of SGLang's benchmark_aiter.py: bytes are per rank, and the number of ranks must be known."""

from __future__ import annotations

import pytest
from made_logs import sglang_log

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.measurements.logs import LogHints, LogReading
from ccl_dispatch.tuner.measurements.logs.sglang import read_sglang

GOOD = ("bfloat16", "(4, 32320)", -1, 258560, "True", "30.25", "20.50")


def read(*lines: str, world_size: int = 4) -> LogReading:
    return read_sglang("\n".join(lines), LogHints(world_size=world_size))


def test_a_row_gives_both_backends_in_per_rank_bytes() -> None:
    """One row per backend, with the shape, the bytes as printed, and the cell; the notes say which unit that is."""
    found = read(*sglang_log([GOOD, ("fp32", "(4, 16)", 0, 256, "True", "3.00", "2.00")]))
    assert [(row.backend, row.size, row.shape, row.latency_us) for row in found.rows] == [
        ("rccl", 258560, (4, 32320), 30.25),
        ("aiter", 258560, (4, 32320), 20.5),
        ("rccl", 256, (4, 16), 3.0),
        ("aiter", 256, (4, 16), 2.0),
    ]
    assert found.rows[0].cell == Cell("all_gather", "eager", "last", "bfloat16", 4)
    assert found.rows[2].cell == Cell("all_gather", "eager", "first", "float32", 4)
    assert "`Input Bytes` are per rank" in found.notes[0]
    assert found.problems == ()
    assert found.timing == "isolated"


def test_one_dimension_is_first_and_last() -> None:
    """The only dim of a vector is its first."""
    found = read(*sglang_log([("i32", "(64,)", -1, 256, "True", "3.00", "2.00")]))
    assert {row.cell.dim for row in found.rows} == {"first"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            ("bfloat16", "(4, 32320)", -1, 64, "True", "3.00", "2.00"),
            "Input Bytes 64, but [4, 32320] of bfloat16 has 258560",
        ),
        (("bfloat16", "(4, 32320)", -1, 258560, "True", "None", "2.00"), "rccl not timed"),
        (("bfloat16", "(4, 32320)", -1, 258560, "True", "3.00", "0.00"), "time '0.00', expected"),
        (("bfloat16", "(2, 4, 8)", 1, 128, "True", "3.00", "2.00"), "dim 1 of [2, 4, 8]"),
        (("uint64_t", "(4, 8)", 0, 256, "True", "3.00", "2.00"), "dtype 'uint64_t'"),
    ],
)
def test_a_row_that_cannot_be_taken_is_told_and_the_others_are(row: tuple[str, ...], words: str) -> None:
    """What is wrong with a row is said with its line; the rows around it are taken."""
    lines = sglang_log([GOOD, row, GOOD])  # type: ignore[list-item]
    found = read(*lines, "Traceback (most recent call last):")
    assert len(found.rows) == 4
    assert found.problems[0][0] == 6
    assert words in found.problems[0][1]
    assert found.problems[1][0] == len(lines) + 1


def test_the_number_of_ranks_comes_from_the_user_or_from_verbose_lines() -> None:
    """Without either nothing is taken; when both are there they must agree."""
    assert "give --world-size" in read(*sglang_log([GOOD]), world_size=0).problems[0][1]
    verbose = sglang_log([GOOD], verbose_ranks=8)
    assert {row.cell.world_size for row in read(*verbose, world_size=0).rows} == {8}
    assert "printed by 8 ranks, not the 4" in read(*verbose).problems[0][1]


def test_several_print_outs_in_one_file_keep_their_ranks() -> None:
    """Verbose lines after a table belong to the next one."""
    found = read(*sglang_log([GOOD], verbose_ranks=4), *sglang_log([GOOD], verbose_ranks=8), world_size=0)
    assert [row.cell.world_size for row in found.rows] == [4, 4, 8, 8]
    assert found.problems == ()


def test_what_is_not_correct_excludes_aiter_there() -> None:
    """AITER may not be used at that size; RCCL's latency is as good as any, where there is one."""
    wrong = ("bfloat16", "(8, 32320)", -1, 517120, "False", "31.00", "12.00")
    untimed = ("bfloat16", "(1, 32320)", -1, 64640, "False", "None", "None")
    found = read(*sglang_log([GOOD, wrong, untimed]))
    assert [(row.backend, row.size) for row in found.rows] == [("rccl", 258560), ("aiter", 258560), ("rccl", 517120)]
    assert [(row.backend, row.size, row.reason) for row in found.exclusions] == [
        ("aiter", 517120, "wrong_output"),
        ("aiter", 64640, "wrong_output"),
    ]
    assert {row.detail for row in found.exclusions} == {
        "not correct, or refused by AITER: the print-out does not tell the two apart"
    }
    assert [line for line, _ in found.problems] == [6, 7]
    assert found.problems[0][1].endswith("; aiter is not used at 505 KiB")


def test_a_refusal_that_the_print_out_tells_is_no_wrong_output() -> None:
    """A line SKIP says that AITER refused the call, in the table below it and in no other."""
    refused = ("bfloat16", "(8, 32320)", -1, 517120, "False", "None", "None")
    skip = "SKIP dtype=bfloat16 shape=(8, 32320) dim=-1: Aiter should_custom_ag=False"
    found = read(skip, *sglang_log([GOOD, refused]), *sglang_log([GOOD, refused]))
    assert [row.reason for row in found.exclusions] == ["unsupported", "wrong_output"]
    assert "AITER refuses this call" in found.exclusions[0].detail
