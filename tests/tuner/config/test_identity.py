"""What a config is, whoever wrote it in which order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_configs import FULL, full, refusal, written

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends.base import LAST_DIM_ROWS
from ccl_dispatch.tuner.config.model import WorkloadShape, alignment, config_digest, differences
from ccl_dispatch.tuner.config.parsing import parse_config
from ccl_dispatch.tuner.sizes import ALIGNMENT

_SETS = ("world_sizes", "dtypes", "modes", "dims", "workload")


@settings(max_examples=30, deadline=None)
@given(st.fixed_dictionaries({key: st.permutations(FULL[key]) for key in _SETS}), st.permutations(list(FULL)))
def test_the_order_of_what_is_a_set_makes_no_other_study(sets: dict[str, list[Any]], keys: list[str]) -> None:
    """Nor that of a config's keys."""
    changed = {**FULL, **sets}
    other = parse_config(written({key: changed[key] for key in keys}), "c.yaml")
    assert config_digest(other) == config_digest(full())
    assert differences(other.identity(), full().identity()) == []


def test_the_order_of_candidates_decides_between_equals() -> None:
    """And makes another study."""
    one, other = (full(candidates=["shm", "symm_mem"][::step]) for step in (1, -1))
    assert differences(one.identity(), other.identity()) == [
        'candidates: ["shm", "symm_mem"] against ["symm_mem", "shm"]'
    ]


def test_of_workloads_only_what_differs_is_told() -> None:
    """With how much is alike, and without what was left out of a shape."""
    shared, extra = FULL["workload"]
    one, other = full(workload=[shared, extra]), full(workload=[shared])
    (line,) = differences(one.identity(), other.identity())
    assert line == 'workload: [{"shape": [4, 320], "dtype": "bfloat16", "weight": 1.0}] against nothing (1 alike)'
    assert differences({"seed": 1}, {"seed": True}) == ["seed: 1 against true"]
    assert differences({"a": [{"b": 1}]}, {"a": [1]}) == ['a: [{"b": 1}] against [1]']


_CELLS = [Cell("all_gather", *where) for where in product(("eager", "graph"), ("first", "last"), ("int8",), (2, 4))]


@pytest.mark.parametrize("cell", _CELLS, ids=lambda cell: cell.name)
def test_a_shape_occurs_where_it_says_and_everywhere_else_where_it_says_nothing(cell: Cell) -> None:
    """In each of dtype, world size, mode and dim."""
    for size, mode, dim, dtype in product((None, 2), (None, "eager"), (None, "first"), ("int8", "uint8")):
        shape = WorkloadShape((4, 8), dtype, world_size=size, mode=mode, dim=dim)
        fits = [
            dtype == cell.dtype, size in {None, cell.world_size}, mode in {None, cell.mode}, dim in {None, cell.dim}
        ]  # fmt: skip
        assert shape.occurs_in(cell) == (False not in fits)


@pytest.fixture
def replays(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Configs of a file that has int8 on two ranks, from 64 B to 1 KiB, and uint8 on four, from 256 B to 4 KiB."""
    lines = ["collective,mode,dtype,world_size,shape,bytes,backend,latency_us"]
    for dtype, ranks, sizes in (("int8", 2, (64, 1024)), ("uint8", 4, (256, 4096))):
        lines += [f"all_gather,,{dtype},{ranks},,{size},{name},5" for size in sizes for name in ("base", "cand")]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    said = {"baseline": "base", "candidates": ["cand"], "replay": {"file": str(tmp_path / "m.csv")}}
    return lambda more: written({**said, **more})


def test_sizes_of_a_replay_are_those_of_all_its_cells(replays: Callable[[dict[str, Any]], str]) -> None:
    """From the smallest that any of the cells that were asked for has to the largest; others do not matter."""
    for more, low, high in (({}, 64, 4096), ({"dtypes": ["uint8"]}, 256, 4096), ({"world_sizes": [2]}, 64, 1024)):
        config = parse_config(replays(more), "c.yaml")
        assert config.replay is not None
        assert set(config.replay.ranges) == set(config.cells())
        assert (config.sizes.minimum, config.sizes.maximum) == (low, high)


def test_what_is_asked_for_has_to_be_there_together(replays: Callable[[dict[str, Any]], str]) -> None:
    """Each of two is in the file, no cell has both: refused, with the cells that are there."""
    told = str(refusal(replays({"dtypes": ["int8"], "world_sizes": [4]})))
    assert "are asked for together" in told
    assert "It has all_gather/eager/first/int8/ws2, all_gather/eager/first/uint8/ws4" in told


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(0, 2000), st.sampled_from(["first", "last"]))
def test_sizes_along_a_last_dim_are_whole_rows_where_there_are_such(low: int, more: int, dim: str) -> None:
    """Else, and along the first dim, multiples of what every backend takes."""
    rows = any(size % (ALIGNMENT * LAST_DIM_ROWS) == 0 for size in range(low, low + more + 1))
    wanted = ALIGNMENT * LAST_DIM_ROWS if dim == "last" and rows else ALIGNMENT
    assert alignment(_CELLS[0]._replace(dim=dim), low, low + more) == wanted
