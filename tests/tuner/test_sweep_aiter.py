"""Whole sweeps through AITER's adapter with the stand-in: all modes on this machine's CPU, and each known failure."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
from command import ccl_dispatch
from ranks import STANDIN

from ccl_dispatch.runtime import Table, load_table
from ccl_dispatch.runtime.platform import match
from ccl_dispatch.runtime.probe import this_platform

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("aiter") is not None, reason="the real aiter is installed, which needs a GPU of AMD's"
)

CPU = """
baseline: gloo
candidates: [aiter]
backends: {aiter: {max_size: 16 MiB}}
measure: {host_graphs: true, min_samples: 4, max_samples: 6, min_seconds: 0.0, max_seconds: 0.2, graph_calls: 3}
"""
GPU = """
baseline: nccl
candidates: [symm_mem, aiter]
share_devices: true
backends: {aiter: {max_size: 64 MiB}, symm_mem: {max_size: 4 MiB}}
measure: {min_samples: 4, max_samples: 6, min_seconds: 0.0, max_seconds: 0.2, graph_calls: 3}
"""


def _sweep(folder: Path, name: str, config: str, fault: str = "") -> Table:
    (folder / f"{name}.yaml").write_text(f"name: {name}\ncollective: all_gather\n{config}")
    path = os.pathsep.join(filter(None, (STANDIN, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, **({"AITER_STANDIN_FAULT": fault} if fault else {})}
    # Six ranks on two busy cores take their time to start.
    done = ccl_dispatch(
        "sweep", f"{name}.yaml", "--quiet", "--json", folder=folder, environment=environment, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return load_table(folder / json.loads(done.stdout)["table"])


def _check_modes(table: Table) -> None:
    """Every cell is measured from end to end, with nothing excluded and every sample of the captured modes checked."""
    assert [cell.cell.name for cell in table.cells if cell.exclusions] == []
    assert {cell.cell.mode for cell in table.cells} == {"eager", "graph", "graph_copy_in"}
    assert {cell.cell.dim for cell in table.cells} == {"first", "last"}
    assert all(band.samples > 0 for cell in table.cells for band in cell.bands)
    assert table.platform.versions["aiter"] == "0+standin"


def test_all_modes_on_the_host(tmp_path: Path) -> None:
    """Gloo against the stand-in in eager, graph and graph_copy_in: bit-exact, timed, and a table that fits nowhere."""
    axes = "world_sizes: [2]\ndtypes: [float32]\nmodes: [eager, graph, graph_copy_in]\ndims: [first, last]\n"
    table = _sweep(tmp_path, "modes", CPU + axes + "sizes: {min: 1 KiB, max: 4 KiB, per_octave: 1}\n")
    _check_modes(table)
    assert table.platform.versions["aiter.max_size"] == "16 MiB"
    assert table.platform.settings["CCL_DISPATCH_HOST_GRAPHS"] == "1"
    assert "say nothing about a GPU's graphs" in table.evidence["note"]
    verdict = match(table.platform, this_platform("cpu"))
    assert [finding.key for finding in verdict.differs] == ["settings.CCL_DISPATCH_HOST_GRAPHS"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU on this machine")
@pytest.mark.parametrize("world_size", [2, 4])
def test_all_modes_on_one_shared_gpu(tmp_path: Path, world_size: int) -> None:
    """NCCL against symmetric memory and the stand-in, several ranks on one GPU, in all modes."""
    axes = (
        f"world_sizes: [{world_size}]\ndtypes: [bfloat16]\nmodes: [eager, graph, graph_copy_in]\ndims: [first, last]\n"
    )
    table = _sweep(tmp_path, "gpu", GPU + axes + "sizes: {min: 4 KiB, max: 16 KiB, per_octave: 1}\n")
    _check_modes(table)
    assert table.platform.device == torch.cuda.get_device_name(0)
    assert "say nothing about speed" in table.evidence["note"]
    assert table.platform.settings["CCL_DISPATCH_SHARED_DEVICES"] == "1"
    assert not match(table.platform, this_platform("cuda")).fits


def test_known_failures_are_excluded_with_their_reasons(tmp_path: Path) -> None:
    """World size 6, int64 and a misaligned last dim are refused before they are called; unwritten outputs are found."""
    sweep = (
        "world_sizes: [2, 6]\ndtypes: [bfloat16, int64]\nmodes: [eager]\ndims: [first, last]\n"
        "sizes: {min: 8 KiB, max: 64 KiB, per_octave: 1}\n"
        "workload: [{shape: [8, 1001], dtype: bfloat16, dim: last}]\n"
    )
    table = _sweep(tmp_path, "failures", CPU + sweep, fault="unwritten:32768")
    found = {}
    for cell in table.cells:
        for exclusion in cell.exclusions:
            key = (cell.cell.world_size, cell.cell.dtype, cell.cell.dim, exclusion.low)
            found[key] = (exclusion.reason, exclusion.high, exclusion.detail)
    for dim, least in (("first", 8192), ("last", 8192)):
        for dtype in ("bfloat16", "int64"):
            reason, high, detail = found[6, dtype, dim, least]
            assert (reason, high) == ("unsupported", 65536)
            assert ("no kernel for 6 ranks" if dtype == "bfloat16" else "not int64") in detail
        reason, high, detail = found[2, "int64", dim, least]
        assert (reason, high) == ("unsupported", 65536)
        assert "not int64" in detail
        reason, high, detail = found[2, "bfloat16", dim, 32768]
        assert (reason, high) == ("wrong_output", 65536)
        assert "65536 of 65536 bytes are wrong (65536 of them unwritten)" in detail
    reason, high, detail = found[2, "bfloat16", "last", 16016]
    assert (reason, high) == ("unsupported", 16016)
    assert "last dim of 2002 bytes" in detail
    for cell in table.cells:
        for size, use in ((16016, "gloo"), (32768, "gloo"), (40000, "gloo"), (65536, "gloo")):
            if cell.cell.dim == "last" or size >= 32768 or cell.cell.world_size == 6 or cell.cell.dtype == "int64":
                assert next(band.use for band in cell.bands if size <= band.up_to) == use, cell.cell.name
