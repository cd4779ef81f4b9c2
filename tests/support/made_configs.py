"""Configs for tests: one with every key, one of a replay, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.tuner.config.parsing import SweepConfig, parse_config

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY / "tests" / "data" / "measurements"

# A small sweep of this machine.
SMALL = """\
name: small
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2]
dtypes: [bfloat16]
sizes: {min: 64 B, max: 1 KiB}
"""

FULL: dict[str, Any] = {
    "name": "full",
    "collective": "all_gather",
    "baseline": "gloo",
    "candidates": ["shm"],
    "device": "cpu",
    "share_devices": False,
    "machine": {"architecture": "gfx942", "devices": 2, "memory": "4 GiB"},
    "environment": {"NCCL_GRAPH_REGISTER": 0, "AITER_ONE": "yes"},
    "world_sizes": [2, 4],
    "dtypes": ["bfloat16", "float32"],
    "modes": ["eager", "graph"],
    "dims": ["first", "last"],
    "timing": "back_to_back",
    "sizes": {"min": "16 B", "max": 65536, "per_octave": 2},
    "workload": [
        {"shape": [4, 320], "dtype": "bfloat16", "weight": 2.0, "world_size": 4, "mode": "graph", "dim": "last"},
        {"shape": [4, 320], "dtype": "bfloat16"},
    ],
    "measure": {
        "min_samples": 5,
        "max_samples": 50,
        "min_seconds": 0.0,
        "max_seconds": 1.0,
        "warmup": 0,
        "timeout": 5,
        "cache": "cold",
        "graph_calls": 4,
        "host_graphs": True,
    },
    "policy": {"min_gain": 0.05, "confidence": 0.9},
    "budget": {"regret": 0.01, "seconds": 60, "executions": 1000},
    "backends": {"shm": {"max_size": "64 MiB"}},
    "seed": 7,
}
REPLAY: dict[str, Any] = {
    "baseline": "rccl",
    "candidates": ["quickreduce"],
    "replay": {"file": "mi300x-all_reduce-rccl-quickreduce.csv", "noise": 0.05, "outliers": 0.01, "seed": 3},
}


def written(data: dict[str, Any]) -> str:
    """As YAML."""
    return yaml.safe_dump(data, sort_keys=False)


def full(**changes: Any) -> SweepConfig:
    """The one with every key, some of them changed."""
    return parse_config(written({**FULL, **changes}), "c.yaml")


def replayed(**changes: Any) -> SweepConfig:
    """The one of a replay, some of its keys changed."""
    return parse_config(written({**REPLAY, **changes}), str(DATA / "c.yaml"))


def refusal(text: str, source: str = "c.yaml") -> ConfigError:
    """What a config that is wrong is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source)
    return caught.value
