"""What the runtime costs a serving process at start: import and load of a table, against `import yaml` alone.

Every figure is from processes of its own, the two kinds in turn, so that a machine that changes speed changes both.
Ends with exit code 1 when the ratio of the medians is above 2, when a table of 200 cells takes more than 20 ms to load,
or when torch or optuna were imported.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ccl_dispatch.runtime.table import Band, CellTable, Platform, Policy, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal, write_table

RUNS = 25
LIMIT = 2.0
LOADING_MS = 20.0

_YAML = """
import time; start = time.perf_counter()
import yaml
print(time.perf_counter() - start)
"""
_RUNTIME = """
import time; start = time.perf_counter()
from ccl_dispatch.runtime import load_table
table = load_table({path!r})
print(time.perf_counter() - start)
import sys; print([name for name in ("torch", "optuna") if name in sys.modules])
"""
_LOAD = """
import time
from ccl_dispatch.runtime import load_table
start = time.perf_counter()
table = load_table({path!r})
print(time.perf_counter() - start)
"""


def main() -> int:
    """Measure, print, judge."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.yaml", Path(folder) / "large.yaml"
        write_table(_table(4), small)
        write_table(_table(200), large)
        alone, runtime, loading, whole_alone, whole_runtime = [], [], [], [], []
        heavy: list[str] = []
        environment = _environment(Path(folder) / "compiled")
        for code in (_YAML, _RUNTIME.format(path=str(small))):
            _run(code, environment)  # compiles; not counted
        for _ in range(RUNS):
            seconds, lines = _run(_YAML, environment)
            alone.append(float(lines[0]))
            whole_alone.append(seconds)
            seconds, lines = _run(_RUNTIME.format(path=str(small)), environment)
            runtime.append(float(lines[0]))
            whole_runtime.append(seconds)
            heavy += json.loads(lines[1].replace("'", '"'))
            loading.append(float(_run(_LOAD.format(path=str(large)), environment)[1][0]))
    ratio = statistics.median(runtime) / statistics.median(alone)
    print(f"{machine()}, {RUNS} processes of each")
    print(f"import yaml:                     {_ms(alone)} in the process, {_ms(whole_alone)} as a whole")
    print(f"runtime, with a 4-cell table:    {_ms(runtime)} in the process, {_ms(whole_runtime)} as a whole")
    print(f"ratio in the process: {ratio:.2f} (at most {LIMIT:g})")
    print(f"ratio as a whole:     {statistics.median(whole_runtime) / statistics.median(whole_alone):.2f}")
    print(f"loading a table of 200 cells:    {_ms(loading)} (at most {LOADING_MS:g} ms)")
    print(f"of torch and optuna in sys.modules: {sorted(set(heavy)) or 'none'}")
    return 0 if ratio <= LIMIT and not heavy and statistics.median(loading) * 1e3 <= LOADING_MS else 1


def machine() -> str:
    """CPU model, cores, Python."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _environment(cache: Path) -> dict[str, str]:
    """Modules come byte-compiled, as pip installs them, whatever this environment does about its caches."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPYCACHEPREFIX": str(cache)}


def _run(code: str, environment: dict[str, str]) -> tuple[float, list[str]]:
    """Seconds of a whole process, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return time.perf_counter() - start, done.stdout.splitlines()


def _ms(seconds: list[float]) -> str:
    low, high = min(seconds), max(seconds)
    return f"{statistics.median(seconds) * 1e3:6.1f} ms ({low * 1e3:.1f} to {high * 1e3:.1f})"


def _bands(step: int) -> tuple[Band, ...]:
    return (
        Band(65536 + 16 * step, "aiter", "faster", "rccl", 0.5 + step / 1000, (0.4, 0.6 + step / 900), 9, 200 + step),
        Band((1 << 20) + 16 * step, "rccl", "tie", "aiter", 0.01, (-0.001, 0.02 + step / 5000), 5, 300 + step),
        Band(1 << 26, "aiter", "faster", "rccl", 0.2 + step / 3000, (0.1, 0.3 + step / 700), 6, 90 + step),
    )


def _table(cells: int) -> Table:
    """A table of that many cells with three bands each; its figures are made up and no part of any result."""
    # No two rows alike, as in a table that was measured.
    names = [Cell("all_gather", "graph", "first", "bfloat16", 2 + number) for number in range(cells)]
    found = tuple(CellTable(name, 16, 1 << 26, _bands(step), (), (), (), (), 0.001) for step, name in enumerate(names))
    platform_ = Platform("cuda", "made up", "made up", 8, "", {}, {})
    policy = Policy(0.03, 0.95, "isolated")
    return seal(Table("made-up", "benchmark", "replayed", "rccl", ("aiter",), platform_, policy, found, {}, "", ""))


if __name__ == "__main__":
    sys.exit(main())
