"""What a sweep's table is valid for, as its config and this process's environment say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_configs import SMALL

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.probe import is_setting, settings_in_force
from ccl_dispatch.tuner.config.parsing import config_digest, parse_config
from ccl_dispatch.tuner.machine import sweep_platform
from ccl_dispatch.tuner.plan import make_plan

ENVIRONMENT = "environment: {NCCL_GRAPH_REGISTER: 0}\n"


def test_variables_of_a_config_are_those_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go before what this process has, and are as good as exported ones: the config's samples mean the same."""
    config, bare = (parse_config(text, "c.yaml") for text in (SMALL + ENVIRONMENT, SMALL))
    for name in settings_in_force(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("NCCL_X", "2")
    monkeypatch.setenv("NCCL_GRAPH_REGISTER", "1")
    assert sweep_platform(make_plan(config)).settings == {"NCCL_GRAPH_REGISTER": "0", "NCCL_X": "2"}
    monkeypatch.setenv("NCCL_GRAPH_REGISTER", "0")
    assert sweep_platform(make_plan(config)).settings == sweep_platform(make_plan(bare)).settings
    assert config_digest(config) == config_digest(bare)


def test_a_sweep_with_variables_of_its_own(tmp_path: Path) -> None:
    """The plan and a warning tell them, the table has them, and `verify` measures with them without being told."""
    (tmp_path / "c.yaml").write_text(SMALL + ENVIRONMENT + "budget: {executions: 200}\n")
    bare = {name: value for name, value in os.environ.items() if not is_setting(name)}
    planned = ccl_dispatch("sweep", "c.yaml", "--dry-run", folder=tmp_path)
    assert "the ranks get NCCL_GRAPH_REGISTER=0\n" in planned.stdout
    done = ccl_dispatch(
        "sweep", "c.yaml", "--out", "t.yaml", folder=tmp_path, environment={**bare, "NCCL_GRAPH_REGISTER": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "the ranks get NCCL_GRAPH_REGISTER=0 (c.yaml), not 1 as this process has" in done.stderr
    assert load_table(tmp_path / "t.yaml").platform.settings == {"NCCL_GRAPH_REGISTER": "0"}
    verified = ccl_dispatch("verify", "t.yaml", "--seconds", "3", folder=tmp_path, environment=bare)
    assert verified.returncode in (0, 1, 3), verified.stderr
    assert "NCCL_GRAPH_REGISTER" not in verified.stdout + verified.stderr
