"""Sweep configs: what is read, and that whatever is wrong is refused with its place."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_configs import DATA, FULL, REPLAY, REPOSITORY, full, refusal, replayed, written

from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends.aiter import AiterBackend
from ccl_dispatch.tuner.config.parsing import (
    BudgetConfig,
    MachineConfig,
    MeasureConfig,
    PolicyConfig,
    SizeRange,
    SweepConfig,
    WorkloadShape,
    config_digest,
    differences,
    load_config,
    parse_config,
)
from ccl_dispatch.tuner.plan import make_plan


def test_every_key_is_read() -> None:
    """A config that gives every key gives every value, in the units of the code."""
    assert full() == SweepConfig(
        name="full",
        collective="all_gather",
        baseline="gloo",
        candidates=("shm",),
        world_sizes=(2, 4),
        dtypes=("bfloat16", "float32"),
        modes=("eager", "graph"),
        dims=("first", "last"),
        timing="back_to_back",
        sizes=SizeRange(16, 65536, 2),
        workload=(
            WorkloadShape((4, 320), "bfloat16", 2.0, 4, "graph", "last"),
            WorkloadShape((4, 320), "bfloat16", 1.0, None, None),
        ),
        measure=MeasureConfig(5, 50, 0.0, 1.0, 0, 5.0, "cold", 4, host_graphs=True),
        policy=PolicyConfig(0.05, 0.9),
        budget=BudgetConfig(0.01, 60.0, 1000),
        backends={"shm": {"max_size": "64 MiB"}},
        replay=None,
        seed=7,
        source="c.yaml",
        device="cpu",
        share_devices=False,
        machine=MachineConfig("gfx942", 2, 4 * 1024**3),
        environment={"NCCL_GRAPH_REGISTER": "0", "AITER_ONE": "yes"},
    )


def test_what_is_left_out_has_its_default() -> None:
    """Seven keys are enough; the name is then the file's."""
    needed = ("collective", "baseline", "candidates", "world_sizes", "dtypes", "sizes")
    config = parse_config(written({key: FULL[key] for key in needed}), "some/where/quick.yaml")
    assert (config.name, config.modes, config.dims, config.timing) == ("quick", ("eager",), ("first",), "isolated")
    assert (config.measure, config.policy) == (MeasureConfig(1, 400, 0.03, 1.5, 1, 60.0), PolicyConfig(0.03, 0.95))
    assert (config.budget, config.workload, config.seed) == (BudgetConfig(None, None, None), (), 0)
    assert parse_config(written({key: FULL[key] for key in needed} | {"sizes": {"min": 16, "max": 32}}), "c").sizes == (
        SizeRange(16, 32, 4)
    )


@pytest.mark.parametrize("key", ["collective", "baseline", "candidates", "world_sizes", "dtypes", "sizes"])
def test_a_key_that_is_needed_is_missed(key: str) -> None:
    """Each key that has no default is an error when absent, and the error names it."""
    error = refusal(written({name: value for name, value in FULL.items() if name != key}))
    assert (error.key, error.problem) == (key, "missing")


def _mappings(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the mappings of `data` are, but for the ones whose keys are free."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found = [path] if isinstance(data, dict) else []
    for key, child in children:
        if key not in {"where", "environment"} and path != ("backends",):
            found += _mappings(child, (*path, key))
    return found


MAPPINGS = [(FULL, path) for path in _mappings(FULL)] + [(REPLAY, ("replay",))]


@settings(max_examples=150, deadline=None)
@given(
    place=st.sampled_from(MAPPINGS),
    name=st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
    value=st.sampled_from([1, "word", [1], {"a": 1}]),
    at=st.floats(0, 1),
)
def test_any_unknown_key_is_refused_with_its_line(
    place: tuple[dict[str, Any], tuple[Any, ...]], name: str, value: Any, at: float
) -> None:
    """Wherever an unknown key stands, whatever its value, the error names its path and the line on which it stands."""
    base, path = place
    name = f"{name}_zz"
    data = copy.deepcopy(base)
    target: Any = data
    for step in path:
        target = target[step]
    items = list(target.items())
    items.insert(round(at * len(items)), (name, value))
    target.clear()
    target.update(items)
    text = written(data)
    error = refusal(text, str(DATA / "c.yaml"))
    dotted = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*path, name)).lstrip(".")
    line = next(number for number, text in enumerate(text.splitlines(), 1) if f"{name}:" in text)
    assert (error.problem, error.key, error.line) == ("unknown key", dotted, line)
    assert "Valid here: " in error.fix or "Did you mean " in error.fix


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("candiates", "candidates"), ("worldsizes", "world_sizes"), ("budgets", "budget"), ("dtype", "dtypes")],
)
def test_a_mistyped_key_is_met_with_the_nearest(wrong: str, right: str) -> None:
    """The error for a mistyped key names the key that was meant."""
    data = {wrong if key == right else key: value for key, value in FULL.items()}
    assert refusal(written(data)).fix == f"Did you mean {right!r}?"


def _leaves(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(data, (dict, list)):
        return [path]
    children = data.items() if isinstance(data, dict) else enumerate(data)
    return [path, *(leaf for key, child in children for leaf in _leaves(child, (*path, key)))]


# Where a word or a huge number is as good as any other.
FREE: dict[Any, tuple[str, ...]] = {
    "word": ("name",),
    1.5e300: ("weight", "seconds", "timeout", "max_seconds"),
    True: ("share_devices", "host_graphs"),
}


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(
        [path for path in _leaves(FULL) if path and path[:2] != ("backends", "shm") and path[0] != "environment"]
    ),
    value=st.sampled_from([True, 1.5e300, [[1]], {"a": [1]}, "", None, -1, "word", float("nan")]),
)
def test_any_value_of_a_wrong_type_is_refused_with_its_key(path: tuple[Any, ...], value: Any) -> None:
    """Whatever value is put anywhere, it is taken as what it is or refused with its line and key."""
    data = copy.deepcopy(FULL)
    target: Any = data
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    if path[-1] in FREE.get(value if isinstance(value, (str, float, bool)) else "", ()):
        assert str(value) in str(parse_config(written(data), "c.yaml"))
        return
    error = refusal(written(data))
    assert error.line > 0
    assert error.key.startswith(str(path[0]))


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"candidates": ["gloo"]}, "candidates[0]", "the baseline 'gloo' is also a candidate"),
        ({"candidates": ["shm", "shm"]}, "candidates[1]", "shm is given twice"),
        ({"candidates": []}, "candidates", "found an empty list, expected at least one entry"),
        ({"candidates": "shm"}, "candidates", "found 'shm', expected a list. Write [shm]"),
        ({"world_sizes": 8}, "world_sizes", "found 8, expected a list. Write [8]"),
        ({"candidates": ["smh"]}, "candidates[0]", "Did you mean 'shm'?"),
        ({"baseline": "glo"}, "baseline", "Did you mean 'gloo'?"),
        ({"collective": "allgather"}, "collective", "Did you mean 'all_gather'?"),
        ({"world_sizes": [1]}, "world_sizes[0]", "found 1, expected at least 2"),
        ({"world_sizes": [2, 2]}, "world_sizes[1]", "2 is given twice"),
        ({"world_sizes": []}, "world_sizes", "found an empty list"),
        ({"dtypes": ["bfloat"]}, "dtypes[0]", "Did you mean 'bfloat16'?"),
        ({"dtypes": ["torch.float32"]}, "dtypes[0]", "Did you mean 'float32'?"),
        ({"modes": ["graphs"]}, "modes[0]", "Did you mean 'graph'?"),
        ({"dims": ["lst"]}, "dims[0]", "Did you mean 'last'?"),
        ({"timing": "isolatd"}, "timing", "Did you mean 'isolated'?"),
        ({"sizes": {"min": "4 MiB", "max": "16 B"}}, "sizes.min", "min 4 MiB is above max 16 B"),
        ({"sizes": {"min": 17, "max": 31}}, "sizes.min", "no multiple of 16 B lies from min to max"),
        ({"sizes": {"min": 8, "max": 64}}, "sizes.min", "found 8 B, expected 16 B to 1024 GiB of per-rank input"),
        ({"sizes": {"min": 16, "max": "4 MB of"}}, "sizes.max", "'4 MB of' is not a size"),
        ({"sizes": {"min": 16, "max": 4.5}}, "sizes.max", "found 4.5, expected a size such as 64 KiB"),
        ({"sizes": {"max": 64}}, "sizes.min", "missing"),
        ({"sizes": {"min": 16, "max": 64, "per_octave": 0}}, "sizes.per_octave", "found 0, expected at least 1"),
        ({"policy": {"confidence": 0.5}}, "policy.confidence", "found 0.5, expected more than 0.5"),
        ({"budget": {"regret": 5}}, "budget.regret", "found 5, expected less than 1. It is a share: 0.01 is 1 %"),
        ({"workload": [{"recorded": "calls"}]}, "workload[0]", "can't be one of its shapes"),
        ({"policy": {"confidence": 1}}, "policy.confidence", "found 1, expected less than 1"),
        ({"policy": {"min_gain": 1}}, "policy.min_gain", "found 1, expected less than 1. It is a share: 0.03 is 3 %"),
        ({"policy": {"min_gain": -0.1}}, "policy.min_gain", "found -0.1, expected at least 0"),
        ({"budget": {"regret": 0}}, "budget.regret", "found 0, expected more than 0"),
        ({"budget": {"executions": 0.5}}, "budget.executions", "found 0.5, expected a whole number"),
        ({"measure": {"min_samples": 500}}, "measure.min_samples", "min_samples is 500 and max_samples 400"),
        (
            {"measure": {"min_samples": 12, "max_samples": 5}},
            "measure.max_samples",
            "min_samples is 12 and max_samples 5",
        ),
        ({"measure": {"max_seconds": 0.01}}, "measure.max_seconds", "min_seconds is 0.03 and max_seconds 0.01"),
        ({"measure": {"cache": "hot"}}, "measure.cache", "found 'hot', expected one of cold, warm"),
        ({"measure": {"graph_calls": 0}}, "measure.graph_calls", "found 0, expected at least 1"),
        ({"measure": {"host_graphs": 1}}, "measure.host_graphs", "found 1, expected true or false"),
        ({"device": "gpu"}, "device", "found 'gpu', expected one of cpu, cuda"),
        ({"share_devices": "yes"}, "share_devices", "found 'yes', expected true or false"),
        ({"environment": ["NCCL_X=1"]}, "environment", "found a list, expected a mapping"),
        ({"environment": {"PATH": "/bin"}}, "environment.PATH", "Export it where the sweep is started"),
        ({"environment": {"NCCL_DEBUG": "INFO"}}, "environment.NCCL_DEBUG", "no table depends on NCCL_DEBUG"),
        ({"environment": {"NCCL_X": True}}, "environment.NCCL_X", "found True, expected text or a whole number"),
        ({"environment": {"NCCL_X": "a\nb"}}, "environment.NCCL_X", "expected printable text"),
        (
            {"environment": {f"NCCL_{n}": n for n in range(65)}},
            "environment",
            "found 65 variables, expected at most 64",
        ),
        ({"machine": {"memory": "lots"}}, "machine.memory", "'lots' is not a size"),
        ({"machine": {"architecture": "MI300X"}}, "machine.architecture", "such as gfx942 or sm_90"),
        ({"machine": {"arch": "gfx942"}}, "machine.arch", "Did you mean 'architecture'?"),
        ({"measure": {"timeout": 0}}, "measure.timeout", "found 0, expected more than 0"),
        ({"backends": {"sm": {}}}, "backends.sm", "Did you mean 'shm'?"),
        ({"backends": {"shm": {"a": [1]}}}, "backends.shm.a", "found a list, expected text, a number, true or false"),
        ({"backends": {"shm": 3}}, "backends.shm", "found 3, expected a mapping"),
        ({"workload": [{"shape": [4], "dtype": "float16"}]}, "workload[0].dtype", "float16 is not tuned: `dtypes` has"),
        (
            {"workload": [{"shape": [4], "dtype": "float32", "world_size": 8}]},
            "workload[0].world_size",
            "8 is not tuned: `world_sizes` has 2, 4",
        ),
        (
            {"workload": [{"shape": [4], "dtype": "float32", "mode": "graph_copy_in"}]},
            "workload[0].mode",
            "graph_copy_in is not tuned: `modes` has",
        ),
        ({"workload": [{"shape": [4], "dtype": "float32", "weight": 0}]}, "workload[0].weight", "expected more than 0"),
        ({"workload": [{"shape": [], "dtype": "float32"}]}, "workload[0].shape", "found an empty list"),
        ({"workload": [{"shape": [4, 0], "dtype": "float32"}]}, "workload[0].shape[1]", "expected at least 1"),
        ({"workload": [{"shape": [4]}]}, "workload[0].dtype", "missing"),
        (
            {"workload": [{"shape": [4], "dtype": "float32"}, {"shape": [4], "dtype": "float32", "weight": 2}]},
            "workload[1]",
            "this shape is given twice",
        ),
        ({"seed": -1}, "seed", "found -1, expected at least 0"),
        ({"name": "../table"}, "name", "expected a printable name"),
    ],
)
def test_an_impossible_value_is_refused(changes: dict[str, Any], key: str, words: str) -> None:
    """Values that no sweep could use are refused with their key, their line and what was expected."""
    text = written({**FULL, "workload": [], **changes})
    error = refusal(text)
    assert words in str(error)
    assert error.key == key
    assert str(error).startswith(f"c.yaml:{error.line}: {key}: ")
    assert error.line > 0


def test_cells_are_the_product_and_workload_falls_into_them() -> None:
    """Modes, dims, dtypes and world sizes are multiplied; a shape occurs where nothing of it disagrees."""
    config = full()
    assert len(config.cells()) == len(set(config.cells())) == 16
    cell = Cell("all_gather", "graph", "last", "bfloat16", 4)
    assert [entry.weight for entry in config.workload_of(cell)] == [2.0, 1.0]
    assert [entry.weight for entry in config.workload_of(cell._replace(mode="eager"))] == [1.0]
    assert config.workload_of(cell._replace(dtype="float32")) == ()
    # Along a last dim every point has eight rows of at least 16 bytes.
    assert (config.grid(cell)[0], config.grid(cell)[-1]) == (128, 65536)
    assert (config.grid(cell._replace(dim="first"))[0], config.grid(cell)[-1]) == (16, 65536)


def test_the_default_config_is_the_one_of_the_issue() -> None:
    """configs/cpu.yaml compares gloo and shm on two and four ranks, 16 B to 4 MiB, with DeepSeek-R1's logits."""
    config = load_config(REPOSITORY / "configs" / "cpu.yaml")
    assert (config.baseline, config.candidates, config.collective) == ("gloo", ("shm",), "all_gather")
    assert (config.world_sizes, config.dtypes, config.modes) == ((2, 4), ("bfloat16", "float32"), ("eager",))
    assert config.sizes == SizeRange(16, 4 * 1024**2, 4)
    assert (4, 32320) in {entry.shape for entry in config.workload}


NAMES = ("mi300x", "mi325x", "mi355x", "h200")


@pytest.mark.parametrize("name", NAMES)
def test_the_gpu_configs_are_shipped(name: str) -> None:
    """Each GPU config tunes every world size, dtype, mode and dim of its machine, and all have the same workload."""
    config = load_config(REPOSITORY / "configs" / f"{name}.yaml")
    assert config.name == name
    assert (config.baseline, config.candidates) == (("nccl", ("symm_mem",)) if name == "h200" else ("rccl", ("aiter",)))
    assert (config.world_sizes, config.dtypes) == ((2, 4, 8), ("bfloat16", "float16", "float32"))
    assert (config.modes, config.dims) == (("eager", "graph", "graph_copy_in"), ("first", "last"))
    assert config.workload == load_config(REPOSITORY / "configs" / "mi300x.yaml").workload
    logits = [entry for entry in config.workload if entry.shape[1] == 129280 // (entry.world_size or 1)]
    assert {entry.shape[0] for entry in logits} == {1, 2, 4, 8, 16, 32, 64, 128, 256}


def test_every_point_along_a_last_dim_has_rows_that_aiter_takes() -> None:
    """No size of a shipped grid is refused by AITER, in any cell: each is a whole number of aligned rows."""
    plan = make_plan(load_config(REPOSITORY / "configs" / "mi300x.yaml"))
    for name in plan.cells:
        for size in plan.space.grid[name]:
            assert AiterBackend.foreseen(plan.point(name, size), {}) is None, (name, size)


def test_identity_is_json_and_leaves_out_name_budget_and_places(tmp_path: Path) -> None:
    """Two configs that differ in name, budget, spelling or where the file lies share a study."""
    config = replayed()
    name = "mi300x-all_reduce-rccl-quickreduce.csv"
    (tmp_path / "moved.csv").write_bytes((DATA / name).read_bytes())
    moved = {**REPLAY, "name": "other", "budget": {"seconds": 3}, "world_sizes": [8, 4, 2], "sizes": {"max": "64 MiB"}}
    moved["replay"] = {**REPLAY["replay"], "file": "moved.csv"}
    other = parse_config(written(moved), str(tmp_path / "c.yaml"))
    assert json.loads(json.dumps(config.identity())) == config.identity() == other.identity()
    assert config_digest(config) == config_digest(other)


@pytest.mark.parametrize(
    "change",
    [
        {"timing": "isolated"},
        {"world_sizes": [2], "workload": []},
        {"dims": ["first"], "workload": []},
        {"sizes": {"min": 16, "max": 65536, "per_octave": 3}},
        {"workload": []},
        {"measure": {"warmup": 1}},
        {"device": "cuda"},
        {"policy": {"min_gain": 0.04}},
        {"backends": {"shm": {"max_size": "32 MiB"}}},
        {"seed": 8},
    ],
)
def test_identity_tells_what_decides_the_samples(change: dict[str, Any]) -> None:
    """Anything that decides what samples mean changes the digest, and the difference is named by its key."""
    one, other = full(), full(**change)
    assert config_digest(one) != config_digest(other)
    lines = differences(one.identity(), other.identity())
    assert lines
    assert all(line.split(":")[0].split(".")[0] in change for line in lines)


def test_identity_holds_the_replayed_files_contents(tmp_path: Path) -> None:
    """One changed latency in the file makes another study of it."""
    name = "mi300x-all_reduce-rccl-quickreduce.csv"
    changed = (DATA / name).read_bytes().replace(b"17.15", b"17.16")
    (tmp_path / name).write_bytes(changed)
    (line,) = differences(replayed().identity(), parse_config(written(REPLAY), str(tmp_path / "c.yaml")).identity())
    assert line.startswith("replay.sha256: ")


def test_differences_are_lines_for_people() -> None:
    """Each differing key is one line with both values, nested keys dotted, absent ones said as nothing."""
    a = {"same": 1, "seed": 0, "measure": {"warmup": 3}, "replay": None}
    b = {"same": 1, "seed": 1, "measure": {"warmup": 5}, "replay": {"noise": 0.1}}
    assert differences(a, b) == [
        "measure.warmup: 3 against 5",
        'replay: nothing against {"noise": 0.1}',
        "seed: 0 against 1",
    ]
    assert differences(a, a) == []


def test_of_a_workload_only_the_shapes_that_differ_are_told() -> None:
    """A workload has dozens of shapes, one of which was changed: the line is as long as that one."""
    shapes = [{"shape": [n, 64], "weight": 1.0, "mode": None} for n in range(1, 40)]
    changed = [*shapes[:20], {**shapes[20], "weight": 2.0}, *shapes[21:]]
    (line,) = differences({"workload": shapes}, {"workload": changed})
    assert line == (
        'workload: [{"shape": [21, 64], "weight": 1.0}] against [{"shape": [21, 64], "weight": 2.0}] (38 alike)'
    )
    (line,) = differences({"workload": shapes}, {"workload": shapes[:-1]})
    assert line == 'workload: [{"shape": [39, 64], "weight": 1.0}] against nothing (38 alike)'
    (line,) = differences({"workload": shapes[:2]}, {"workload": shapes[1::-1]})
    assert "alike" not in line


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, another encoding, a list and an empty file are errors of this tree."""
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)
    (tmp_path / "c.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "c.yaml")
    assert re.search("found a list, expected a mapping", str(refusal("[1]")))
    assert "empty" in str(refusal(""))
