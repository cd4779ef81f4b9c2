"""A workload as serving recorded it: each kind of call is measured where it was made, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_configs import SMALL, refusal

from ccl_dispatch.tuner.config.parsing import parse_config
from ccl_dispatch.tuner.plan import make_plan

RECORD = """\
schema: ccl-dispatch/workload/v1
not_kept: 0
calls:
  - {collective: all_gather, mode: eager, dim: first, dtype: bfloat16, world_size: 2, shape: [4, 64], calls: 30}
  - {collective: all_gather, mode: eager, dim: last, dtype: bfloat16, world_size: 2, shape: [4, 64], calls: 10}
  - {collective: all_gather, mode: eager, dim: last, dtype: bfloat16, world_size: 2, shape: [2, 64], calls: 20}
"""


def test_calls_count_along_the_dim_that_they_gathered(tmp_path: Path) -> None:
    """A shape that both dims were called with has a weight for each; one of the last dim is in no cell of the first."""
    (tmp_path / "a.workload.yaml").write_text(RECORD)
    text = SMALL + f"dims: [first, last]\nworkload: {{recorded: {tmp_path}}}\n"
    config = parse_config(text, str(tmp_path / "c.yaml"))
    assert [(entry.dim, entry.shape, entry.weight) for entry in config.workload] == [
        ("first", (4, 64), 1.0),
        ("last", (2, 64), 0.666667),
        ("last", (4, 64), 0.333333),
    ]
    workload = {cell.dim: [shape for shape, _, _ in rows] for cell, rows in make_plan(config).workload.items()}
    assert workload == {"first": [(4, 64)], "last": [(2, 64), (4, 64)]}


def _record(*calls: str) -> str:
    """A record of calls, each of which says in what it is not like the others."""
    told = {"collective": "all_gather", "mode": "eager", "dim": "first", "dtype": "bfloat16", "world_size": "2"}
    lines = []
    for call in calls:
        entry = {**told, "shape": "[4, 64]", "calls": "8", **dict(part.split("=") for part in call.split())}
        lines.append("  - {" + ", ".join(f"{key}: {value.replace(',', ', ')}" for key, value in entry.items()) + "}\n")
    return "schema: ccl-dispatch/workload/v1\nnot_kept: 0\ncalls:\n" + "".join(lines)


# Sizes are tuned from 64 B to 1 KiB.
_ELSEWHERE = (
    "collective=all_reduce",
    "mode=graph",
    "dim=last",
    "dtype=float32",
    "dtype=complex128",
    "world_size=8",
    "shape=[]",
    "shape=[31]",
    "shape=[513]",
)


def test_calls_count_once_for_all_ranks_that_made_them(tmp_path: Path) -> None:
    """Over all files, by calls over ranks; calls that are in no tuned cell or size are left out, those of the smallest
    and of the largest size are not, and the most frequent ones come first.
    """
    (tmp_path / "a.workload.yaml").write_text(_record("calls=6", "world_size=4 calls=40", *_ELSEWHERE, "shape=[32]"))
    (tmp_path / "b.workload.yaml").write_text(_record("calls=14", "shape=[512] calls=5", *_ELSEWHERE))
    (tmp_path / "c.yaml").write_text("no record")
    text = SMALL.replace("[2]", "[2, 4]") + f"workload: {{recorded: {tmp_path}, top: TOP}}\n"
    found = [
        (entry.world_size, entry.shape, entry.weight)
        for entry in parse_config(text.replace("TOP", "9"), str(tmp_path / "c.yaml")).workload
    ]
    assert found == [(2, (4, 64), 1.0), (4, (4, 64), 1.0), (2, (32,), 0.4), (2, (512,), 0.25)]
    one = SMALL + f"workload: {{recorded: {tmp_path}/b.workload.yaml}}\n"
    assert [(entry.shape, entry.weight) for entry in parse_config(one, str(tmp_path / "c.yaml")).workload] == [
        ((4, 64), 1.0),
        ((512,), 0.357143),
    ]
    first = parse_config(text.replace("TOP", "3"), str(tmp_path / "c.yaml")).workload
    assert [entry.shape for entry in first] == [shape for _, shape, _ in found[:3]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_record(*_ELSEWHERE), "1 file with 72 calls, none of which is in the cells and sizes of this config"),
        (_record("calls=1").replace("/v1", "/v2"), "schema: found 'ccl-dispatch/workload/v2'"),
        (_record("calls=0"), "calls"),
        (_record("shape=[0]"), "shape"),
        ("\xff", "can't be read"),
        (None, "has no file that ends with .workload.yaml"),
    ],
)
def test_what_is_no_record_of_tuned_calls_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    """With the file, or with how much was in it; nothing is tuned by a part of it."""
    if content is not None:
        (tmp_path / "a.workload.yaml").write_bytes(content.encode("latin-1"))
    told = str(refusal(SMALL + f"workload: {{recorded: {tmp_path}}}\n", str(tmp_path / "c.yaml")))
    assert words in told
