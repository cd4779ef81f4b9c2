"""What the command line does without torch, whose import takes most of a short sweep, and with one that is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_configs import SMALL

_SWEEP = """
import sys
from ccl_dispatch.tuner.cli import main
code = main(["sweep", "small.yaml", "--quiet"])
assert code == 0, code
print(sorted({"torch", "optuna"} & {*sys.modules}))
"""


def test_a_sweep_on_the_host_leaves_torch_to_its_workers(tmp_path: Path) -> None:
    """The process of the sweep imports Optuna and not torch: the one that forks the workers does."""
    (tmp_path / "small.yaml").write_text(SMALL)
    done = subprocess.run([sys.executable, "-c", _SWEEP], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['optuna']"


_LIBRARY = "libamdhip64.so.7: cannot open shared object file"


@pytest.mark.parametrize("raised", ["ImportError", "ValueError", "AttributeError"])
@pytest.mark.parametrize("baseline", ["gloo", "rccl"])
def test_a_broken_torch_is_told_in_a_line(tmp_path: Path, baseline: str, raised: str) -> None:
    """Whatever its import ends with, and in however many lines: a sweep has exit code 2 and no study, doctor tells all.

    A torch that misses a library of CUDA's raises ValueError, one made for another Python AttributeError.
    """
    candidate = "shm" if baseline == "gloo" else "aiter"
    (tmp_path / "small.yaml").write_text(SMALL.replace("gloo", baseline).replace("shm", candidate))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text(f"raise {raised}('{_LIBRARY}\\n\\n  and more')\n")
    environment = {**os.environ, "PYTHONPATH": str(broken)}
    told = ccl_dispatch("sweep", "small.yaml", "--quiet", folder=tmp_path, environment=environment)
    assert told.returncode == 2
    assert told.stderr.startswith(f"ccl-dispatch sweep: torch can't be imported: {raised}: {_LIBRARY} and more. `")
    assert told.stderr.count("\n") == 1
    assert not [*tmp_path.rglob("*.journal")]
    told = ccl_dispatch("doctor", folder=tmp_path, environment=environment)
    assert told.returncode == 0, told.stderr
    lines = [line for line in told.stdout.splitlines() if line.startswith("backend ")]
    assert all(line.endswith(f"torch can't be imported: {raised}: {_LIBRARY} and more") for line in lines)
    assert len(lines) > 3


_WITHOUT_TORCH = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name == "torch" else found(name, *package)
from ccl_dispatch.tuner.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("baseline", ["gloo", "rccl"])
def test_a_missing_torch_is_told_with_what_to_install(tmp_path: Path, baseline: str) -> None:
    """Where torch is not installed a sweep names the extra that brings it, and leaves nothing behind."""
    candidate = "shm" if baseline == "gloo" else "aiter"
    (tmp_path / "small.yaml").write_text(SMALL.replace("gloo", baseline).replace("shm", candidate))
    command = [sys.executable, "-c", _WITHOUT_TORCH, "sweep", "small.yaml", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    needs = "this verb needs pip install 'ccl-dispatch[tuner]'"
    assert (done.returncode, done.stderr) == (2, f"ccl-dispatch sweep: torch is not installed; {needs}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_torch_that_ends_its_process_leaves_no_advice_about_samples(tmp_path: Path) -> None:
    """Where importing torch crashes nothing was measured: exit code 3, and no word of a study to build a table from."""
    (tmp_path / "small.yaml").write_text(SMALL)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    told = ccl_dispatch(
        "sweep", "small.yaml", "--quiet", folder=tmp_path, environment={**os.environ, "PYTHONPATH": str(broken)}
    )
    assert told.returncode == 3
    assert "the process that starts the workers was ended by SIGSEGV" in told.stderr.splitlines()[-1]
    assert "are kept in" not in told.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "small.yaml"]
