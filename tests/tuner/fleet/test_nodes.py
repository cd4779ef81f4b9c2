from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from fleets import write_config

from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.emit.build import evidence_of
from ccl_dispatch.tuner.fleet.common import common_visits, still_to_do
from ccl_dispatch.tuner.fleet.nodes import FleetVerdict, compare_nodes
from ccl_dispatch.tuner.measure.messages import PointRequest
from ccl_dispatch.tuner.plan import Plan, make_measurer, make_plan
from ccl_dispatch.tuner.samples import UNNAMED, PointResult
from ccl_dispatch.tuner.sweep import study_meta

NODES = ("n0", "n1", "n2", "n3")
RUNS = 50


def _plan(folder: Path, seed: int, more: str = "") -> Plan:
    """A replay with noise of 5 % and 1 % outliers, and something more."""
    return make_plan(load_config(write_config(folder, 4, f"noise: 0.05, outliers: 0.01, seed: {seed}{more}")))


def _common(plan: Plan) -> list[PointResult]:
    """What the four nodes measure at the common points."""
    results = []
    for place, node in enumerate(NODES):
        here = replace(plan, node=node)
        with make_measurer(here, Path()) as measurer:
            for visit in common_visits(here):
                number = here.number(visit.cell, visit.size, len(NODES) * visit.round + place)
                point = here.point(visit.cell, visit.size)
                result = measurer.measure(PointRequest(point, number, repeats=visit.repeats, thorough=True))
                results.append(replace(result, node=node))
    return results


def _verdict(folder: Path, seed: int, more: str = "") -> FleetVerdict:
    return compare_nodes(_common(_plan(folder, seed, more)))


@pytest.mark.slow
def test_a_slow_node_is_found_and_equal_ones_are_not_accused(tmp_path: Path) -> None:
    """In 50 seeded runs a node that is 5 % slower on large sizes is found, alone; of four equal ones none is accused.

    The nodes are replayed, with noise of 5 % and 1 % outliers; the slow one is made up (`replay.slow`).
    """
    for seed in range(RUNS):
        assert _verdict(tmp_path, seed).accused == ()
        found = _verdict(tmp_path, RUNS + seed, ", slow: {n2: {by: 0.05, from: 1 MiB}}")
        assert found.accused == ("n2",)
        sure = [item for item in found.of("n2") if item.p < 0.001]
        assert {item.size for item in sure} == {16 << 20}
        assert all(0.02 < item.log_ratio < 0.08 for item in sure)


def test_a_difference_between_visits_is_none_between_nodes(tmp_path: Path) -> None:
    """Where visits of one node differ by 5 % among themselves, a node that is 5 % off is not accused."""
    rng = random.Random(3)
    results = []
    for result in _common(_plan(tmp_path, 1, ", slow: {n2: {by: 0.05, from: 1 MiB}}")):
        factor = 1 + rng.choice((-0.05, 0.05))
        latencies = {name: tuple(value * factor for value in values) for name, values in result.latencies_us.items()}
        results.append(replace(result, latencies_us=latencies))
    assert compare_nodes(results).accused == ()


def test_the_order_of_results_does_not_matter(tmp_path: Path) -> None:
    """The same results in another order give the same verdict, to the last digit."""
    results = _common(_plan(tmp_path, 2))
    shuffled = list(results)
    random.Random(0).shuffle(shuffled)
    assert compare_nodes(shuffled) == compare_nodes(results)


def test_points_of_one_node_tell_nothing(tmp_path: Path) -> None:
    """Results without a node, and points that one node alone has, are not compared."""
    results = _common(_plan(tmp_path, 3))
    assert compare_nodes([r for r in results if r.node == "n0"]).nodes == ()
    assert compare_nodes([replace(r, node="") for r in results]).nodes == ()


def test_common_points_are_few_and_within_the_budget(tmp_path: Path) -> None:
    """The largest and the smallest size of two cells, twice, in at most a tenth of the budget; none in a tiny one."""
    plan = _plan(tmp_path, 4)
    visits = common_visits(plan)
    assert {(visit.cell, visit.size) for visit in visits} == {
        (plan.space.cells[place], size) for place in (0, -1) for size in (1024, 16 << 20)
    }
    assert len(visits) == 8
    assert [visit.size for visit in common_visits(plan, 2)] == [16 << 20] * 4
    few = visits
    for executions in (20_000, 400, 30):
        budget = replace(plan.config.budget, executions=executions)
        few = common_visits(replace(plan, config=replace(plan.config, budget=budget)))
        assert 2 * sum(visit.repeats for visit in few) <= executions / 10
    assert few == []
    assert list(still_to_do(plan, visits, [], "n0")) == visits


def test_the_node_without_a_name_is_one_of_them(tmp_path: Path) -> None:
    """A merged study of one with a name and one without: both are compared, and counted in the evidence."""
    plan = _plan(tmp_path, 3)
    results = [replace(r, node="" if r.node == "n0" else "n1") for r in _common(plan) if r.node in ("n0", "n1")]
    assert compare_nodes(results).nodes == (UNNAMED, "n1")
    evidence = evidence_of(study_meta(plan), results)
    assert evidence["nodes"] == {UNNAMED: len(results) / 2, "n1": len(results) / 2}
