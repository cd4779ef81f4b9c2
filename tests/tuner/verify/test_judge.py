"""From visits to verdicts, and what they are told as."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.samples import PointExclusion, PointResult
from ccl_dispatch.tuner.verify.judge import Evidence, judge, suspicious
from ccl_dispatch.tuner.verify.verdict import DRIFTED, RIGHT, UNSURE, WRONG, CellVerdict, Refusal, Verification
from ccl_dispatch.tuner.verify.visits import Place, Visit

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
OTHER = CELL._replace(world_size=4)
SIZES = tuple(16 * 4**step for step in range(7))


def _table() -> Table:
    """Two cells, in which `aiter` is used up to 64 KiB."""
    return make_table(tuple(make_cell(cell, 16, [65536, 1 << 20], ["aiter", "rccl"]) for cell in (CELL, OTHER)))


def _evidence(gain: float = 0.3, visits: int = 8, busy: bool = False, results: Sequence[PointResult] = ()) -> Evidence:
    """Visits of every size, in which `aiter` gains that much (log)."""
    rng = random.Random(1)
    seen = {
        Place(cell, size): [Visit(number, {}, {"aiter": gain + rng.gauss(0, 0.01)}) for number in range(visits)]
        for cell in (CELL, OTHER)
        for size in SIZES
    }
    return Evidence(seen, results, dict.fromkeys((CELL, OTHER), SIZES), 4, busy)


def _result(size: int, cell: Cell = CELL, **excluded: str) -> PointResult:
    exclusions = tuple(PointExclusion(name, reason, f"at {size}") for name, reason in excluded.items())
    return PointResult(cell, size, {} if excluded else {"rccl": (1.0,), "aiter": (1.0,)}, exclusions)


def _judged(evidence: Evidence) -> tuple[CellVerdict, ...]:
    table = _table()
    return judge(table, table.cells, evidence, None)


def test_a_busy_machine_proves_nothing_but_wrong_outputs() -> None:
    """What is slower there is not called so; what can't be used is wrong on any machine."""
    for gain, verdict in ((0.3, RIGHT), (-0.3, WRONG)):
        assert [cell.verdict for cell in _judged(_evidence(gain))] == [verdict] * 2
        busy = _judged(_evidence(gain, busy=True))
        assert [cell.verdict for cell in busy] == [UNSURE] * 2
        assert all("other work used the machine all the time" in cell.why[-1] for cell in busy)
    refused, unsure = _judged(_evidence(busy=True, results=[_result(64, aiter="wrong_output")]))
    assert (refused.verdict, unsure.verdict) == (WRONG, UNSURE)


def test_what_can_not_be_used_is_told_once_for_neighbours() -> None:
    """Sizes of one reason are joined, in their order, whatever came in which order; backends that the table does not
    use there, and other cells, do not matter.
    """
    results = [
        _result(256, aiter="crashed", symm_mem="hung"),
        _result(64, aiter="crashed"),
        _result(1024, aiter="hung"),
        _result(1 << 18, aiter="crashed"),
        _result(4096, OTHER, symm_mem="crashed"),
    ]
    found, other = _judged(_evidence(results=results))
    assert found.verdict == WRONG
    assert found.refusals == (
        Refusal("aiter", "crashed", "at 64", 64, 256),
        Refusal("aiter", "hung", "at 1024", 1024, 1024),
    )
    assert (other.verdict, other.refusals) == (RIGHT, ())
    assert found.why[0] == "aiter can't be used at 64 B to 256 B any more: crashed, at 64"


def test_what_was_seldom_visited_is_open() -> None:
    """A size that was visited once is no answer, one whose visit has no latencies is; more measuring may give one."""
    scarce = _evidence(visits=1)
    cells = _judged(scarce)
    assert [cell.verdict for cell in cells] == [UNSURE] * 2
    assert "7 of 7 sizes, such as 16 B, were visited less than 2 times" in cells[0].why[-1]
    assert (cells[0].points, cells[0].visits) == (len(SIZES), len(SIZES))
    answered = [_result(size, symm_mem="crashed") for size in SIZES]
    assert [cell.verdict for cell in _judged(replace(scarce, results=answered))] == [RIGHT, UNSURE]


def test_more_measuring_is_for_what_it_could_settle() -> None:
    """All but what is right, and what can't be used any more."""
    right, wrong = _judged(_evidence())[0], _judged(_evidence(-0.3))[0]
    refused = _judged(_evidence(results=[_result(64, aiter="crashed")]))[0]
    assert [suspicious([cell]) for cell in (right, wrong, refused)] == [False, True, False]
    assert suspicious([right, wrong, refused])
    assert not suspicious([right, refused])


@pytest.fixture(scope="module")
def right() -> CellVerdict:
    """Of a cell in which nothing has changed."""
    return _judged(_evidence())[0]


def _verification(cells: tuple[CellVerdict, ...], **changes: Any) -> Verification:
    told = Verification(
        "t.yaml", "sha256:" + "0" * 64, "measured", (), "c.yaml", "kept", cells, (), (), {}, 3, 2, 1, 0, 9.6, "settled"
    )
    return replace(told, **changes)


@pytest.mark.parametrize(
    "words", [part for count in range(5) for part in combinations((WRONG, DRIFTED, UNSURE, RIGHT), count)]
)
def test_the_whole_is_as_the_worst_cell(words: tuple[str, ...], right: CellVerdict) -> None:
    """A proven change is a no, whatever is unsure besides; what is unsure is no yes."""
    told = _verification(tuple(replace(right, verdict=word) for word in words))
    assert told.verdict == next(iter(words), RIGHT)
    assert told.exit_code == {WRONG: 1, DRIFTED: 1, UNSURE: 3, RIGHT: 0}[told.verdict]
    counts = ", ".join(f"1 {word}" for word in (WRONG, DRIFTED, UNSURE, RIGHT) if word in words)
    assert told.last_line() == (
        f"{told.verdict}: of {len(words)} cell{'' if len(words) == 1 else 's'} {counts} "
        "(2 sets of workers, 1 round, 10 s)"
    )


def test_all_that_was_found_is_told_in_lines() -> None:
    """Each cell with its reasons, what was left out, the platform, notes, and sizes that chance chose."""
    right, wrong = _judged(_evidence())[0], _judged(_evidence(-0.3))[1]
    lines = list(
        _verification(
            (right, wrong),
            differs=("link: xgmi, here pcie",),
            notes=("something",),
            left_out=((CELL._replace(world_size=8), "two GPUs"),),
            random_sizes={CELL: (4096, 64), OTHER: ()},
            set_aside=2,
        ).lines()
    )
    assert lines[1:5] == [
        "reference: kept",
        "the platform is not the table's:",
        "  link: xgmi, here pcie",
        "note: something",
    ]
    assert lines[5] == f"random sizes (--seed 3): {CELL.name} 4 KiB, 64 B"
    assert [line.split("  ")[:2] for line in lines if line.startswith("all_gather") and "verified" not in line] == [
        [CELL.name, RIGHT],
        [OTHER.name, WRONG],
    ]
    assert sum(line.startswith("    at ") for line in lines) == min(len(wrong.wrong), 3)
    assert f"{CELL.name[:-1]}8: not verified: two GPUs" in lines
    assert "random sizes (--seed 3): none" in list(_verification(()).lines())
    assert lines[-1].endswith(", 2 rounds set aside because the machine was busy)")


@pytest.mark.parametrize(
    ("visits", "words"), [(0, "the time was up before its turn"), (2, "no candidate could be timed")]
)
def test_a_cell_without_a_cost_says_why(visits: int, words: str) -> None:
    """A cell that was never visited is not one whose candidates fail."""
    cell = replace(_judged(_evidence())[0], verdict=UNSURE, cost=None, seen=None, visits=visits)
    assert any(line.endswith(words) for line in _verification((cell,)).lines())
