"""What a report is made of agrees with the samples and with the table that they give."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_studies import made_study

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.report.model import Report, make_report
from ccl_dispatch.tuner.report.notes import cell_notes
from ccl_dispatch.tuner.samples import PointExclusion, PointFault

CELLS = [Cell("all_gather", "eager", "first", dtype, 8) for dtype in ("bfloat16", "float32")]


@pytest.fixture(scope="module")
def report() -> Report:
    """The report of a made study of two cells."""
    return make_report(*made_study(CELLS, visits=2))


def test_the_table_is_that_of_build(report: Report) -> None:
    """A report shows the table that the samples give, not one of its own."""
    assert report.table == build_table(*made_study(CELLS, visits=2))


def test_curves_have_every_size_with_its_spread(report: Report) -> None:
    """Medians lie within their bars, for each backend at each size at which it was timed."""
    for cell in report.cells:
        assert {name: len(points) for name, points in cell.latencies.items()} == {"base": 25, "fast": 25, "odd": 20}
        assert set(cell.ratios) == {"fast", "odd"}
        for points in (*cell.latencies.values(), *cell.ratios.values()):
            assert [point.size for point in points] == sorted({point.size for point in points})
            assert all(point.low <= point.median <= point.high for point in points)


def test_ratios_say_how_many_times_faster(report: Report) -> None:
    """Where the candidate takes 0.7 of the time its ratio is near 1/0.7, and 1/1.4 where it takes 1.4 of it."""
    for point in report.cells[0].ratios["fast"]:
        assert point.median == pytest.approx(1 / 0.7 if point.size <= 65536 else 1 / 1.4, rel=0.1)


def test_time_and_counts_are_those_of_the_points(report: Report) -> None:
    """Seconds, samples and executions add up to what the visits say; a size that is visited twice is one point."""
    _, results = made_study(CELLS, visits=2)
    inside = sum(cell.collective_seconds for cell in report.cells)
    around = sum(cell.other_seconds for cell in report.cells)
    assert inside == pytest.approx(sum(result.collective_seconds for result in results))
    assert inside + around == pytest.approx(sum(result.wall_seconds for result in results))
    assert sum(cell.samples for cell in report.cells) == 12 * len(results)
    assert [(cell.points, cell.visits) for cell in report.cells] == [(25, 50)] * len(CELLS)
    assert report.executions["base"] == 14 * len(results)


def test_the_way_to_the_answer_ends_at_the_answer(report: Report) -> None:
    """Time rises, the last table decides as the whole study's, and the first, of a tenth of the visits, does not."""
    seconds = [item.seconds for item in report.progress]
    assert seconds == sorted(seconds)
    assert report.progress[-1].differing == 0
    assert report.progress[0].differing > 0


def test_estimates_begin_where_every_cell_is_measured_from_end_to_end() -> None:
    """Visited from small to large, as a first look does, a cell is whole at its largest size; then several follow."""
    meta, once = made_study(CELLS[:1])
    report = make_report(meta, [*once, *once[:6]])
    known = [item.visits for item in report.progress if item.regret is not None]
    assert known[0] == len(once)
    assert len(known) == 4
    assert known[-1] == len(once) + 6
    assert [item.visits for item in make_report(meta, once).progress if item.regret is not None] == [len(once)]


def test_a_cell_in_which_nothing_may_replace_the_baseline_keeps_no_estimates_back() -> None:
    """Nor does a largest size at which nothing may: the baseline is not timed there, and all is known."""
    meta, results = made_study(CELLS, visits=2)
    begins = [entry.visits for entry in make_report(meta, results).progress if entry.regret is not None]
    out = tuple(PointExclusion(name, "unsupported", "made up") for name in meta.candidates)
    largest = max(result.size for result in results)
    for refused in (CELLS[1], largest):
        some = [
            replace(result, latencies_us={}, exclusions=out) if refused in (result.cell, result.size) else result
            for result in results
        ]
        assert [entry.visits for entry in make_report(meta, some).progress if entry.regret is not None] == begins


def test_slow_ranks_faults_and_nodes_are_named() -> None:
    """A slow rank, in the words of the table, a fault that went away, and both nodes are told, nothing else."""
    _, results = made_study(CELLS[:1])
    fault = PointFault("fast", "hung", 3, "no answer for 5 s")
    medians = {"base": (10.0, 11.0, 22.0), "fast": (5.0, 5.5, 5.2)}
    carried = [
        replace(result, rank_medians_us=medians, node="b" if number else "a", faults=() if number else (fault,))
        for number, result in enumerate(results)
    ]
    assert cell_notes(results) == ()
    slow, went_wrong, nodes = cell_notes(carried)
    assert slow == "slow rank: base at world size 3: rank 2 is 110% slower than the others (at least 110%, 25 visits)"
    assert (
        went_wrong == "fault: fast hung once at 16 B, went away when it was measured again: rank 3: no answer for 5 s"
    )
    assert nodes == "measured by a (1 visit), b (24 visits)"
