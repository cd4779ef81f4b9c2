"""`fleet` where there is nothing to compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import ccl_dispatch
from fleets import write_config

from ccl_dispatch.tuner.cli.fleet import shared_advice


@pytest.mark.parametrize("storage", ["s.journal", "sqlite:///s.db"])
def test_on_a_storage_of_one_machine_the_advice_is_another(tmp_path: Path, storage: str) -> None:
    """Nobody is sent to run a sweep on another node with a storage that this node alone reaches."""
    config = write_config(tmp_path, 1)
    done = ccl_dispatch("sweep", str(config), "--quiet", "--storage", storage, "--out", "t.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = ccl_dispatch("fleet", "--storage", storage, folder=tmp_path)
    assert told.returncode == 2
    assert "lies on one machine" in told.stderr
    assert "one --storage that all of them reach, such as postgresql://" in told.stderr
    assert "with this --storage on another node" not in told.stderr


@pytest.mark.parametrize(
    ("nodes", "goes_on", "advice"),
    [
        (["a"], True, "Run the same sweep with this --storage on another node"),
        (["a"], False, "on all nodes, with another --storage"),
        (["a", "b"], False, "a, b shared the work without such points, which a sweep leaves out with `--common 0`"),
    ],
)
def test_nobody_is_sent_to_run_a_sweep_that_would_measure_no_common_points(
    nodes: list[str], goes_on: bool, advice: str
) -> None:
    """Where two nodes have shared a sweep already, or it has ended, the same sweep again would change nothing."""
    told = shared_advice(nodes, goes_on=goes_on)
    assert advice in told
    assert ("with this --storage" in told) == (len(nodes) < 2 and goes_on)
