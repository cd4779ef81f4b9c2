"""What the processes of a sweep import: what the command itself does, wherever somebody stands when calling it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from sweeping import write_config

from ccl_dispatch.tuner.launch.interpreter import python

# The installed command: `python -c`, as other tests call it, has the current folder on its own path.
COMMAND = Path(sys.executable).with_name("ccl-dispatch")
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"


def _sweep(folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    words = [str(COMMAND), "sweep", "q.yaml", "--storage", "s.journal"]
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        told = process.communicate(timeout=120)[1]
    return process.returncode, told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A config in a folder whose other files have the names of modules that a worker needs."""
    write_config(tmp_path, "q", "baseline: gloo\ncandidates: [shm]")
    (tmp_path / "random.py").touch()
    for name in ("torch", "runpy", "ccl_dispatch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize("way", ["forked", "an interpreter each"])
def test_files_that_lie_about_are_no_modules(folder: Path, tmp_path_factory: pytest.TempPathFactory, way: str) -> None:
    """A sweep completes among files named as modules are, however its workers are started."""
    environment = dict(os.environ)
    if way != "forked":
        place = tmp_path_factory.mktemp("path")
        (place / "sitecustomize.py").write_text(THREAD)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(place), environment.get("PYTHONPATH"))))
    code, told = _sweep(folder, environment)
    assert code == 0, told
    assert ("2 threads" in (folder / "logs" / "nursery.log").read_text()) is (way == "an interpreter each")


def test_nor_where_a_launcher_gave_the_ranks(folder: Path) -> None:
    """The same for the rank that hosts its worker: a nursery that takes over the process."""
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NODEID": "0", "TMPDIR": str(folder)}
    environment = {**os.environ, **step, "SLURM_STEP_TASKS_PER_NODE": "2"}
    with subprocess.Popen(
        [COMMAND, "sweep", "q.yaml"],
        cwd=folder,
        env={**environment, "SLURM_LOCALID": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as host:
        code, told = _sweep(folder, {**environment, "SLURM_LOCALID": "0"})
        assert (code, host.communicate(timeout=60)[1]) == (0, ""), told


@pytest.mark.parametrize("safe", ["", "1"])
def test_the_path_is_that_of_a_command(tmp_path: Path, safe: str) -> None:
    """What `$PYTHONPATH` names stays, also the current folder where it is named; arguments are as for `-m`."""
    (tmp_path / "shown.py").write_text(
        "import sys\nprint(__name__, sys.argv[0].rpartition('/')[2], *sys.argv[1:], *sys.path[:2], sep='|')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(("", "/elsewhere")), "PYTHONSAFEPATH": safe}
    done = subprocess.run(
        python("shown", "3", "4"), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"__main__|shown.py|3|4|{tmp_path}|/elsewhere", done.stderr
