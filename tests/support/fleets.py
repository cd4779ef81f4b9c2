"""Fleets for tests and benchmarks: made-up cells to replay, and `sweep` processes that stand for nodes.

Every latency here is made up; what comes of it says `replayed`.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from command import COMMAND, ccl_dispatch

BASELINE, CANDIDATE = "base", "fast"
_DTYPES = ("bfloat16", "float16", "float32", "int8")
_WORLD_SIZES = (2, 4, 8, 16, 32)
_MODES = ("eager", "graph", "graph_copy_in")


def write_cells(path: Path, cells: int) -> None:
    """A measurement CSV of up to 60 cells from 1 KiB to 16 MiB; in each the candidate wins up to a size of its own."""
    lines = ["collective,mode,dtype,world_size,shape,bytes,backend,latency_us,platform"]
    for place, (mode, dtype, ranks) in enumerate(itertools.product(_MODES, _DTYPES, _WORLD_SIZES)):
        if place >= cells:
            break
        crossover = 4096 * 2 ** (place % 9)
        for step in range(15):
            size = 1024 << step
            base = 12.0 + ranks + size / 40_000
            # Half as long, or half as long again: no size is near a tie.
            ratio = 0.5 if size <= crossover else 1.5
            for name, latency in ((BASELINE, base), (CANDIDATE, base * ratio)):
                lines.append(f"all_gather,{mode},{dtype},{ranks},,{size},{name},{latency:.4f},made up")
    path.write_text("\n".join(lines) + "\n")


def write_config(folder: Path, cells: int, replay: str = "", more: str = "", name: str = "fleet") -> Path:
    """A config in `folder` that replays such cells; `replay` and `more` are added to it."""
    write_cells(folder / f"{name}.csv", cells)
    path = folder / f"{name}.yaml"
    path.write_text(
        f"name: {name}\nbaseline: {BASELINE}\ncandidates: [{CANDIDATE}]\n"
        f"replay: {{file: {name}.csv{', ' if replay else ''}{replay}}}\n{more}"
    )
    return path


def replayed_journal(folder: Path, cells: int) -> Path:
    """The journal of a sweep over so many cells."""
    write_config(folder, cells)
    done = ccl_dispatch("sweep", "fleet.yaml", "--storage", "s.journal", "--quiet", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "s.journal"


def start_node(folder: Path, config: Path, storage: str, node: str, *options: str) -> subprocess.Popen[str]:
    """One node's `sweep`, in the background; its table is `<node>.yaml`, its messages are in `<node>.log`."""
    command = [*COMMAND, "sweep", str(config), "--storage", storage, "--node", node, "--out", f"{node}.yaml", *options]
    with (folder / f"{node}.log").open("a") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )


def wait_for(folder: Path, nodes: Sequence[str], processes: Sequence[subprocess.Popen[str]], seconds: float) -> None:
    """Wait until all have ended well.

    Raises:
        AssertionError: one has not; with its messages.
    """
    for node, process in zip(nodes, processes, strict=True):
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        assert code == 0, f"{node} ended with {code}:\n{(folder / f'{node}.log').read_text()[-3000:]}"
