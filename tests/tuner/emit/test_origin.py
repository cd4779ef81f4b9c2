"""Whose samples a table was made from, by what its evidence says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_studies import made_study
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.origin import check_replaceable, foreign, tuned_anew
from ccl_dispatch.tuner.emit.text import write_table
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study import StudyMeta

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)


def _study(minute: int = 0, node: str = "") -> tuple[StudyMeta, list[PointResult]]:
    """A study whose points were measured a second apart, from that minute on; made up."""
    meta, results = made_study([CELL])
    times = (f"2026-01-01T00:{minute:02d}:{second:02d}Z" for second in range(60))
    return meta, [replace(result, measured_at=time, node=node) for result, time in zip(results, times, strict=False)]


def test_a_table_is_of_its_study_also_when_that_has_gone_on() -> None:
    """A table of the first points, and one of all of them, are the study's."""
    meta, results = _study()
    for count in (10, len(results)):
        assert foreign(build_table(meta, results[:count]), meta, results) == ""


def test_another_sweep_of_the_same_config_is_told_by_its_points_and_times() -> None:
    """As many points with as many samples, but measured at another time: the message has both times."""
    meta, results = _study()
    other = _study(minute=5)[1]
    why = foreign(build_table(meta, results), meta, other)
    assert why == (
        "it tells of 25 points with 300 samples (2026-01-01T00:00:00Z to 2026-01-01T00:00:24Z), study 'made <up>' "
        "holds 25 points with 300 samples (2026-01-01T00:05:00Z to 2026-01-01T00:05:24Z)"
    )
    assert "holds no points" in foreign(build_table(meta, results), meta, ())


def test_fewer_points_than_the_table_tells_of_are_not_its_own() -> None:
    """A study that has lost points can't have given a table of all of them."""
    meta, results = _study()
    for lost in (results[1:], results[:-1]):
        assert "25 points" in foreign(build_table(meta, results), meta, lost)


def test_another_config_and_a_table_of_no_study_are_told() -> None:
    """By the config's digest, and by evidence that names none."""
    meta, results = _study()
    table = build_table(meta, results)
    assert foreign(table, replace(meta, digest="sha256:1"), results).startswith("its config is sha256:0, that of study")
    made_up = make_table((make_cell(CELL, 16, [1024], ["aiter"]),))
    assert foreign(made_up, meta, results) == "its evidence names no study"


def test_a_table_that_was_made_while_another_node_measured_is_the_study_s() -> None:
    """In a shared study a point may come to lie before those that a table was made of; of another study it is not."""
    meta, results = _study(node="n0")
    table = build_table(meta, results[:5] + results[6:10])
    assert foreign(table, meta, results) == ""
    assert foreign(table, meta, _study(minute=5, node="n0")[1]) != ""
    assert foreign(table, meta, _study(node="n1")[1]) != ""


def test_only_a_table_of_the_study_may_be_replaced(tmp_path: Path) -> None:
    """Nothing at all and a table of fewer points may; another study's, an updated one and another file may not."""
    meta, results = _study()
    out = tmp_path / "table.yaml"
    check_replaceable(out, (meta, results))
    table = write_table(build_table(meta, results[:10]), out)
    check_replaceable(out, (meta, results))
    with pytest.raises(UsageError, match=r"table.yaml would be replaced, and was not made from .* Give --out another"):
        check_replaceable(out, (meta, _study(minute=5)[1]))
    check_replaceable(out, (meta, _study(minute=5)[1]), (meta, results))
    updated = write_table(
        table._replace(evidence={**table.evidence, "updates": [{"cells": [CELL.name], "study": "u"}]}), out
    )
    assert tuned_anew(updated) == {CELL.name}
    with pytest.raises(UsageError, match=r"verify --update. has tuned cells of it anew.* Give --out another"):
        check_replaceable(out, (meta, results))
    out.write_text("name: a config\n")
    with pytest.raises(UsageError, match=r"is no table that a sweep has written .* Give --out another"):
        check_replaceable(out, (meta, results))


@pytest.mark.parametrize("odd", [None, -1, "text", [3], {"a": "b"}, 1e9])
def test_evidence_that_is_odd_is_no_study_s_and_no_error(odd: object) -> None:
    """Evidence is free: whatever stands where a count is looked for, or the names of cells that were tuned anew."""
    for node in ("", "n0"):
        meta, results = _study(node=node)
        table = build_table(meta, results[:3])
        for key in ("study", "trials", "samples", "executions", "measured_from", "measured_to", "nodes"):
            told = foreign(table._replace(evidence={**table.evidence, key: odd}), meta, results[:3])
            # Of several nodes that share a study a table may tell of some points, and of fewer counts than it should.
            assert told != "" or node or key == "nodes", key
    for updates in (odd, [odd], [{"cells": odd}], [{}]):
        assert tuned_anew(make_table(())._replace(evidence={"updates": updates})) <= {"3"}
