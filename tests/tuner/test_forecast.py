"""A dry run tells the whole plan, refuses what can't fit, and does nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import ccl_dispatch
from fleets import write_config

REPOSITORY = Path(__file__).parents[2]
MI300X = REPOSITORY / "configs" / "mi300x.yaml"


def test_the_plan_of_a_node_that_is_elsewhere(tmp_path: Path) -> None:
    """For eight MI300X: 54 cells, their points, minutes and memory per rank, and nothing is written."""
    done = ccl_dispatch("sweep", "--dry-run", "mi300x", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "aiter against rccl, on cuda (gfx942, 8 devices)" in text
    assert text.count("all_gather/") == 54
    for words in (
        "points: ",
        "minutes; the budget ends it at",
        "memory per rank: ",
        "aiter 9 GiB",
        "there are 191 GiB",
    ):
        assert words in text
    assert "nothing was started" in text
    assert list(tmp_path.iterdir()) == []
    facts = json.loads(ccl_dispatch("sweep", "--dry-run", "--json", "mi300x", folder=tmp_path).stdout)
    assert len(facts["cells"]) == 54
    assert facts["memory_per_rank"] == sum(facts["memory"].values()) < facts["memory_available"]
    assert 0 < facts["first_look"] == facts["visits"][0] < facts["visits"][1]
    assert facts["first_look"] < facts["sizes"] == sum(cell["sizes"] for cell in facts["cells"])
    assert facts["minutes"][0] < facts["minutes"][1] <= facts["budget"]["seconds"] / 60


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max: 64 MiB", "max: 16 GiB", "A rank takes: context 2 GiB, inputs and outputs"),
        ("max_size: 1 GiB", "max_size: 64 GiB", "aiter 576 GiB"),
        ("memory: 191 GiB", "memory: 8 GiB", "`machine.memory`) has 8 GiB"),
    ],
)
def test_what_can_not_fit_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    """Too large inputs, pools or a small device: exit code 2, with what a rank takes and what to lower."""
    text = MI300X.read_text()
    assert old in text
    (tmp_path / "c.yaml").write_text(text.replace(old, new))
    done = ccl_dispatch("sweep", "--dry-run", "c.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Lower `world_sizes`" in done.stderr


def test_a_budget_of_executions_has_room_for_so_many_visits(tmp_path: Path) -> None:
    """What is forecast is no more than the budget can pay for, and a sweep makes no more visits than that."""
    config = write_config(tmp_path, 4, "noise: 0.05", more="budget: {executions: 60}\n")
    facts = json.loads(ccl_dispatch("sweep", "--dry-run", "--json", str(config), folder=tmp_path).stdout)
    ccl_dispatch("sweep", str(config), "--quiet", "--summary", "summary.json", folder=tmp_path)
    made = json.loads((tmp_path / "summary.json").read_text())["trials"]
    assert 0 < made <= facts["visits"][1] <= 60 // 2
    plenty = write_config(tmp_path, 4, "noise: 0.05", more="budget: {executions: 6000}\n", name="plenty")
    assert " visits in all" in ccl_dispatch("sweep", "--dry-run", str(plenty), folder=tmp_path).stdout
    few = write_config(tmp_path, 4, "noise: 0.05", more="budget: {executions: 20}\n", name="few")
    assert "at most 10 visits by the budget" in ccl_dispatch("sweep", "--dry-run", str(few), folder=tmp_path).stdout


def test_a_budget_without_room_for_a_visit_is_refused(tmp_path: Path) -> None:
    """A plan that says it is fine for a sweep that will not start is none; the smallest that does start is told."""
    text = (
        "baseline: gloo\ncandidates: [shm]\ncollective: all_gather\nworld_sizes: [2]\ndtypes: [int8]\n"
        "sizes: {min: 64 B, max: 1 KiB}\nbudget: {executions: %s}\n"
    )
    (tmp_path / "none.yaml").write_text(text % 7)
    (tmp_path / "one.yaml").write_text(text % 8)
    planned = ccl_dispatch("sweep", "none.yaml", "--dry-run", folder=tmp_path)
    assert (planned.returncode, planned.stdout) == (2, "")
    assert "has no room for a single visit of a point, which takes at least 8: " in planned.stderr
    assert "at most 1 visit by the budget" in ccl_dispatch("sweep", "one.yaml", "--dry-run", folder=tmp_path).stdout


@pytest.mark.parametrize(("executions", "fits"), [(3, False), (4, True)])
def test_a_replay_has_room_for_its_first_visit_or_is_refused(tmp_path: Path, executions: int, fits: bool) -> None:
    """Later visits of a replay may go without a warm-up, the first one never: plan and sweep say so alike."""
    config = str(write_config(tmp_path, 1, name="c", more=f"budget: {{executions: {executions}}}\n"))
    planned = ccl_dispatch("sweep", "--dry-run", config, folder=tmp_path)
    swept = ccl_dispatch("sweep", "--quiet", config, folder=tmp_path)
    assert [done.returncode for done in (planned, swept)] == ([0, 0] if fits else [2, 2])
    assert planned.stderr == swept.stderr
    assert ("takes at least 4: 2 to warm up" in planned.stderr) is not fits


def test_visits_that_last_are_told_where_executions_are_few(tmp_path: Path) -> None:
    """A visit of `measure.min_seconds` has as many executions as fit into it, which no plan knows beforehand."""
    text = (
        "name: few\ncollective: all_gather\nbaseline: gloo\ncandidates: [shm]\nworld_sizes: [2]\ndtypes: [float32]\n"
        "sizes: {min: 64 B, max: 1 KiB}\nbudget: {executions: 100}\n"
    )
    for more, told in (("", True), ("measure: {min_seconds: 0}\n", False)):
        (tmp_path / "few.yaml").write_text(text + more)
        plan = ccl_dispatch("sweep", "--dry-run", "few.yaml", folder=tmp_path).stdout
        assert ("each visit goes on for 0.03 s at least" in plan) is told


def test_what_a_candidate_will_not_take_is_told(tmp_path: Path) -> None:
    """Sizes past the pool, and shapes whose last dim AITER would garble, are counted with their reason."""
    text = MI300X.read_text().replace("max_size: 1 GiB", "max_size: 128 MiB")
    row = "  - {shape: [8, 1001], dtype: bfloat16, dim: last, weight: 1.0}\n"
    (tmp_path / "c.yaml").write_text(text + row)
    done = ccl_dispatch("sweep", "--dry-run", "c.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "aiter will not take 6: above the pool's limit of 8 MiB per rank at world size 8" in done.stdout
    assert "aiter will not take 1: the last dim of 2002 bytes is not a multiple of 16" in done.stdout


def test_a_config_of_another_machine_makes_no_study(tmp_path: Path) -> None:
    """Measuring for RCCL where there is none is refused before anything is written."""
    done = ccl_dispatch("sweep", "mi300x", folder=tmp_path)
    assert done.returncode == 2
    assert "the backend rccl can't run on this machine" in done.stderr
    assert not list(tmp_path.rglob("*.journal"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("device: cuda\n", "the backend gloo runs on cpu, this sweep on cuda (as `device` says)"),
        ("share_devices: true\n", "share_devices is for GPUs"),
        ("backends: {shm: {max_sise: 1 MiB}}\n", "shm has no such option. Did you mean 'max_size'?"),
        ("backends: {shm: {max_size: big}}\n", "backends.shm.max_size: 'big' is not a size"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, more: str, words: str) -> None:
    """A device that a backend does not run on, and options that it does not have, are found before measuring."""
    (tmp_path / "c.yaml").write_text(
        "collective: all_gather\nbaseline: gloo\ncandidates: [shm]\nworld_sizes: [2]\ndtypes: [float32]\n"
        f"sizes: {{min: 16 B, max: 64 B}}\n{more}"
    )
    done = ccl_dispatch("sweep", "--dry-run", "c.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_replay_has_a_plan_too(tmp_path: Path) -> None:
    """Its backends are names in a file: points are counted, memory is not."""
    write_config(tmp_path, 1, name="c")
    done = ccl_dispatch("sweep", "--dry-run", "c.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "c: all_gather, fast against base, on replay" in done.stdout
    assert "memory" not in done.stdout
    facts = json.loads(ccl_dispatch("sweep", "--dry-run", "--json", "c.yaml", folder=tmp_path).stdout)
    assert (facts["memory_per_rank"], facts["minutes"]) == (0, [0.0, 0.0])
    assert facts["first_look"] >= 3
