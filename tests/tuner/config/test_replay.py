"""Configs of replays: cells and sizes are those that the file has, and nothing beyond it is promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_configs import DATA, REPLAY, refusal, replayed, written

from ccl_dispatch.tuner.config.parsing import SizeRange, parse_config


def test_a_replay_takes_what_the_file_has() -> None:
    """With nothing but names and a file, the cells and sizes are those at which both were measured."""
    config = replayed()
    assert (config.collective, config.world_sizes, config.dtypes, config.modes, config.dims) == (
        "all_reduce",
        (2, 4, 8),
        ("float16",),
        ("eager",),
        ("first",),
    )
    assert config.sizes == SizeRange(32768, 64 * 1024**2, 4)
    assert config.replay is not None
    assert (config.replay.noise, config.replay.outliers, config.replay.seed) == (0.05, 0.01, 3)


def test_a_replay_keeps_to_what_is_asked_for() -> None:
    """Given sizes and world sizes bound what the file has, and nothing beyond the file is promised."""
    config = replayed(world_sizes=[8], sizes={"min": "1 MiB", "max": "1 GiB", "per_octave": 1})
    (cell,) = config.cells()
    assert (cell.world_size, config.sizes) == (8, SizeRange(1024**2, 64 * 1024**2, 1))
    assert config.grid(cell) == tuple(2**power for power in range(20, 27))


def test_a_replay_leaves_out_cells_without_a_pair() -> None:
    """A cell that has no baseline can't be tuned and is no cell of the sweep."""
    config = replayed(
        baseline="custom", candidates=["quickreduce"], replay={"file": "mi300-all_reduce-custom-quickreduce.csv"}
    )
    assert [cell.dtype for cell in config.cells()] == ["float16"]


def test_a_cell_has_the_sizes_common_to_its_pair(tmp_path: Path) -> None:
    """A cell reaches as far as the baseline and some candidate overlap, and no grid leaves that."""
    lines = ["collective,mode,dtype,world_size,shape,bytes,backend,latency_us"]
    for name, low, high in (("base", 16, 4096), ("a", 64, 512), ("b", 256, 8192)):
        lines += [f"all_gather,,int8,2,,{size},{name},5" for size in (low, high)]
    lines += [f"all_gather,,int8,4,,{size},{name},5" for name in ("base", "b") for size in (8, 15)]
    for name, low, high in (("base", 16, 4096), ("a", 64, 512), ("b", 8192, 16384)):
        lines += [f"all_gather,,int8,8,,{size},{name},5" for size in (low, high)]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    text = written({"baseline": "base", "candidates": ["a", "b"], "replay": {"file": "m.csv"}})
    config = parse_config(text, str(tmp_path / "c.yaml"))
    assert [cell.world_size for cell in config.cells()] == [2, 8], "no multiple of 16 lies in the cell of four ranks"
    assert [(config.grid(cell)[0], config.grid(cell)[-1]) for cell in config.cells()] == [(64, 4096), (64, 512)]


def test_excluded_sizes_belong_to_their_cell(tmp_path: Path) -> None:
    """A cell reaches over the sizes at which a candidate is excluded; one that nothing can serve is a cell as well."""
    lines = ["collective,mode,dtype,world_size,shape,bytes,backend,latency_us,excluded"]
    lines += [f"all_gather,,int8,2,,{size},{name},5," for name in ("base", "a") for size in (64, 512)]
    lines += ["all_gather,,int8,2,,4096,a,,hung", "all_gather,,int8,2,,8192,other,,hung"]
    lines += [f"all_gather,graph,int8,2,,{size},a,,unsupported: no graphs" for size in (64, 512)]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    text = written({"baseline": "base", "candidates": ["a"], "replay": {"file": "m.csv"}})
    config = parse_config(text, str(tmp_path / "c.yaml"))
    assert {cell.mode: (config.grid(cell)[0], config.grid(cell)[-1]) for cell in config.cells()} == {
        "eager": (64, 4096),
        "graph": (64, 512),
    }
    (tmp_path / "m.csv").write_text("\n".join([lines[0], *lines[5:]]))
    assert "has no latency: there is nothing to replay" in str(refusal(text, str(tmp_path / "c.yaml")))
    (tmp_path / "m.csv").write_text("\n".join([lines[0], lines[1], *lines[5:]]))
    assert "no all_gather cell with the baseline 'base' and a candidate" in str(refusal(text, str(tmp_path / "c.yaml")))


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"candidates": ["quickreduse"]}, "candidates[0]", "Did you mean 'quickreduce'?"),
        ({"collective": "all_gather"}, "collective", "expected one of all_reduce"),
        ({"world_sizes": [6]}, "world_sizes[0]", "There are 2, 4, 8"),
        ({"sizes": {"min": "128 MiB", "max": "1 GiB"}}, "replay", "rccl from 32 KiB to 64 MiB"),
        ({"replay": {"file": "x.csv", "noise": -1}}, "replay.file", "there is no file"),
        ({"replay": {**REPLAY["replay"], "noise": -1}}, "replay.noise", "found -1, expected at least 0"),
        ({"replay": {**REPLAY["replay"], "outliers": 1}}, "replay.outliers", "expected a share below 1"),
        ({"replay": {**REPLAY["replay"], "where": {"platform": ["a"]}}}, "replay.where.platform", "found a list"),
        ({"replay": {"noise": 0}}, "replay.file", "missing"),
    ],
)
def test_a_replay_that_cannot_be_served_is_refused(changes: dict[str, Any], key: str, words: str) -> None:
    """What the file does not have is an error at the key that asks for it, with what the file does have."""
    error = refusal(written({**REPLAY, **changes}), str(DATA / "c.yaml"))
    assert words in str(error)
    assert error.key == key


def test_a_replayed_file_is_looked_for_in_two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the config first, then in the working directory; an absent file is named in both."""
    config, work = tmp_path / "configs", tmp_path / "work"
    config.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    name = "mi300x-all_reduce-rccl-quickreduce.csv"
    text = written({**REPLAY, "replay": {"file": name}})
    error = refusal(text, str(config / "c.yaml"))
    assert f"there is no file {config / name} nor {name}" in str(error)
    (work / name).write_bytes((DATA / name).read_bytes())
    found = parse_config(text, str(config / "c.yaml")).replay
    assert found is not None
    assert found.file == name
    (config / name).write_bytes((DATA / name).read_bytes())
    found = parse_config(text, str(config / "c.yaml")).replay
    assert found is not None
    assert found.file == str(config / name)
