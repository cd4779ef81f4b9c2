"""Where the ranks of one host meet: what one shows all others see, and what rank 0 decides all of them do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ccl_dispatch.tuner.measure.board import Board, BoardTeam
from ccl_dispatch.tuner.measure.team import EXCHANGE_SLOTS
from ccl_dispatch.tuner.shared_memory import Segment

NAMES = ("base", "cand", "other")


@pytest.mark.parametrize("sizes", [(2,), (2, 3, 4)])
def test_all_ranks_of_each_world_size_do_what_rank_0_decides_of_what_all_show(sizes: tuple[int, ...]) -> None:
    """Round by round, as many values as there is room for; one world size after another, on one board."""
    segment = Segment.create(Board.bytes_needed(sizes))
    board = Board(segment, sizes)
    board.initialise()
    judged: list[list[list[float]]] = []

    def rank_of(rank: int, world_size: int) -> list[int]:
        team = BoardTeam(board, rank, world_size, NAMES, 30.0)
        decisions = []
        for turn, count in enumerate((1, EXCHANGE_SLOTS, 3)):
            team.enter(NAMES[rank % 3])
            values = [100.0 * turn + 10.0 * rank + place / 100 for place in range(count)]

            def judge(rows: list[list[float]]) -> int:
                judged.append(rows)
                return -len(judged)

            decisions.append(team.decide(values, judge))
        team.barrier()
        seen = board.running(NAMES)
        team.barrier()
        team.enter("")
        assert seen[:world_size] == [NAMES[each % 3] for each in range(world_size)]
        return decisions

    for world_size in sizes:
        judged.clear()
        with ThreadPoolExecutor(world_size) as threads:
            found = list(threads.map(rank_of, range(world_size), [world_size] * world_size))
        assert found == [[-1, -2, -3]] * world_size
        assert judged == [
            [[100.0 * turn + 10.0 * rank + place / 100 for place in range(count)] for rank in range(world_size)]
            for turn, count in enumerate((1, EXCHANGE_SLOTS, 3))
        ]
        assert board.running(NAMES) == [""] * max(sizes)


def test_who_runs_what_is_known_while_it_is_noted() -> None:
    """By the names of one world size; what was noted by those of another says nothing."""
    board = Board(Segment.create(Board.bytes_needed((2,))), (2,))
    board.enter(1, NAMES, "other")
    assert board.running(NAMES) == ["", "other"]
    assert board.running(NAMES[:2]) == ["", ""]
    board.enter(1, NAMES, "")
    assert board.running(NAMES) == ["", ""]
