"""Changes against a reference, on simulated visits whose truth is known."""

from __future__ import annotations

import cProfile
import math
import random
from collections.abc import Sequence

import pytest

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.verify.drift import Drift, find_drift
from ccl_dispatch.tuner.verify.visits import Place, Visit

CELLS = [Cell("all_gather", "eager", "first", dtype, ranks) for dtype in ("bfloat16", "float32") for ranks in (2, 4)]
SIZES = [16 * 4**step for step in range(10)]


def _visits(
    rng: random.Random,
    cells: Sequence[Cell],
    *,
    sets: int = 4,
    each: int = 2,
    noise: float = 0.08,
    slower: float = 0.0,
    above: int = 0,
) -> dict[Place, list[Visit]]:
    """So many visits by each set of workers; sets differ by 1 %, one visit in thirty by a factor."""
    visits: dict[Place, list[Visit]] = {}
    for number in range(sets):
        luck = rng.gauss(0, 0.01)
        for cell in cells:
            for size in SIZES:
                for _ in range(each):
                    away = rng.gauss(0, 1) if rng.random() < 0.03 else 0.0
                    shm = 1.0 + luck + rng.gauss(0, noise) + away + (slower if size > above else 0.0)
                    visits.setdefault(Place(cell, size), []).append(Visit(number, {"gloo": 3.0, "shm": shm}, {}))
    return visits


def _found(rng: random.Random, cells: Sequence[Cell] = CELLS, *, use: str = "shm", **change: float) -> Drift:
    before = _visits(rng, cells, sets=6)
    now = _visits(rng, cells, **change)  # type: ignore[arg-type]
    return find_drift(now, before, "gloo", ("shm",), lambda _: use, confidence=0.97)


def test_equal_runs_are_seldom_told_apart() -> None:
    """Of 40 pairs of runs of the same machine at most 3 are taken for changed."""
    rng = random.Random(5)
    assert sum(bool(_found(rng).shifts) for _ in range(40)) <= 3


def test_a_change_above_a_size_is_found_where_it_is() -> None:
    """15 % above 64 KiB is found in 15 of 15 pairs of runs, nearly always in all four cells and within its bounds."""
    rng = random.Random(6)
    held = cells = 0
    for _ in range(15):
        shifts = _found(rng, slower=math.log(1.15), above=65536).shifts
        assert shifts
        cells += len({cell for shift in shifts for cell in shift.cells})
        assert all(shift.high == SIZES[-1] and shift.low > 4096 for shift in shifts)
        held += all(shift.bounds[0] <= math.log(1.15) <= shift.bounds[1] for shift in shifts)
    assert held >= 14
    assert cells >= 0.95 * 15 * len(CELLS)


def test_a_change_in_one_cell_is_not_told_of_the_others() -> None:
    """Where one cell of four changed by half, that cell alone is named."""
    rng = random.Random(7)
    before, now = _visits(rng, CELLS, sets=6), _visits(rng, CELLS)
    now |= _visits(rng, CELLS[:1], slower=math.log(1.5))
    shifts = find_drift(now, before, "gloo", ("shm",), lambda _: "shm", confidence=0.97).shifts
    assert {cell for shift in shifts for cell in shift.cells} == {CELLS[0]}


def test_a_change_to_the_good_of_the_choice_is_none() -> None:
    """A candidate in use that became faster, and one not in use that became slower, leave the table right."""
    rng = random.Random(8)
    assert _found(rng, slower=-0.3).shifts == ()
    assert _found(rng, use="gloo", slower=0.3).shifts == ()
    (shift,) = _found(rng, use="gloo", slower=-0.3).shifts
    assert shift.change == pytest.approx(-0.3, abs=0.1)
    assert shift.candidate_change == pytest.approx(-0.3, abs=0.1)
    assert shift.baseline_change == pytest.approx(0.0, abs=0.01)


def test_what_would_have_been_seen_is_seen() -> None:
    """A change of the size that a run says it would have seen is found in 17 of 20 at least; less noise sees less."""
    rng = random.Random(9)
    seen = _found(rng).seen
    assert set(seen) == set(CELLS)
    assert max(_found(rng, noise=0.01).seen.values()) < min(seen.values())
    assert sum(bool(_found(rng, slower=max(seen.values())).shifts) for _ in range(20)) >= 17


def _found_by_a_sweep(rng: random.Random, **change: float) -> Drift:
    """Against a reference that visited each size once, as a sweep does where the choice is clear."""
    before, now = _visits(rng, CELLS, sets=1, each=1), _visits(rng, CELLS, **change)  # type: ignore[arg-type]
    return find_drift(now, before, "gloo", ("shm",), lambda _: "shm", confidence=0.97, mood=0.1)


def test_a_lone_visit_that_was_off_is_no_drift() -> None:
    """Of 30 runs of an unchanged machine at most 2 are taken for changed, though 1 size of 30 was off in the reference.

    A size that was visited once shows nothing by itself, however far it moved.
    """
    rng = random.Random(11)
    assert sum(bool(_found_by_a_sweep(rng).shifts) for _ in range(30)) <= 2
    before, now = _visits(rng, CELLS[:1], sets=1, each=1, noise=0.02), _visits(rng, CELLS[:1], noise=0.02)
    before[Place(CELLS[0], SIZES[5])] = [Visit(0, {"gloo": 3.0, "shm": 0.0}, {})]
    assert find_drift(now, before, "gloo", ("shm",), lambda _: "shm", confidence=0.97, mood=0.1).shifts == ()


def test_lone_visits_that_moved_together_are_a_drift() -> None:
    """What a run says that it would have seen it finds against single visits too, in 17 of 20; one of 50 % in all."""
    rng = random.Random(12)
    seen = max(_found_by_a_sweep(rng).seen.values())
    assert seen < 0.35
    assert sum(bool(_found_by_a_sweep(rng, slower=seen).shifts) for _ in range(20)) >= 17
    for _ in range(10):
        shifts = _found_by_a_sweep(rng, slower=math.log(1.5), above=65536).shifts
        assert shifts
        # What is told is the whole change, not the part of it that is believed of one visit.
        assert any(shift.change == pytest.approx(math.log(1.5), abs=0.15) for shift in shifts)


def test_without_common_sizes_there_is_nothing_to_compare() -> None:
    """A reference of other sizes gives no finding, and no claim of what would have been seen."""
    rng = random.Random(10)
    now = _visits(rng, CELLS[:1])
    other = {Place(place.cell, place.size + 16): own for place, own in now.items()}
    assert find_drift(now, other, "gloo", ("shm",), lambda _: "shm", confidence=0.97) == Drift((), {})


def test_a_table_of_many_cells_is_compared_in_time() -> None:
    """Twice as many cells are hardly more than twice the work: every place is held against those around it alone."""
    calls = []
    for count in (20, 40):
        cells = [Cell("all_gather", "eager", "first", "bfloat16", ranks) for ranks in range(2, 2 + count)]
        rng = random.Random(13)
        before, now = (_visits(rng, cells, sets=2, each=1) for _ in range(2))
        with cProfile.Profile() as profile:
            find_drift(now, before, "gloo", ("shm",), lambda _: "shm", confidence=0.97)
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[1] < 3 * calls[0]
