"""A workload as serving recorded it: each kind of call is measured where it was made, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from made_configs import SMALL

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
