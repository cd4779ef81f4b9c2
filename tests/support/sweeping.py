"""Real sweeps that something is done to: started, watched, their workers found, samples read, words checked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import optuna
from command import COMMAND, ccl_dispatch

from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study import SweepStudy, open_storage

SUPPORT = Path(__file__).parent
PAGE = SUPPORT.parents[1] / "docs" / "operations.md"
# By this variable the processes of a sweep are told from all others.
MARK = "CCL_DISPATCH_TEST"
FULL = "CCL_DISPATCH_STORM"


def write_config(folder: Path, name: str, backends: str, more: str = "") -> None:
    """A config of one cell of two ranks, with small sizes and few short visits, unless `more` says otherwise."""
    keys = {
        "collective": "all_gather",
        "world_sizes": "[2]",
        "dtypes": "[bfloat16]",
        "sizes": "{min: 64 B, max: 4 KiB, per_octave: 1}",
        "measure": "{max_seconds: 0.3, timeout: 20}",
        "budget": "{executions: 400}",
    }
    said = [line.partition(":")[0] for line in more.splitlines()]
    lines = [f"{key}: {value}" for key, value in keys.items() if key not in said]
    (folder / f"{name}.yaml").write_text("\n".join([f"name: {name}", backends, *lines, more]) + "\n")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """This process's, with the failing backends, and the mark of `folder`."""
    path = [str(SUPPORT / "registering"), str(SUPPORT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), MARK: str(folder), **more}


def sweep(
    folder: Path, name: str, *arguments: str, timeout: float = 120.0, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the sweep of `name`.yaml to its end."""
    found = environment(folder, **(variables or {}))
    return ccl_dispatch("sweep", f"{name}.yaml", *arguments, folder=folder, environment=found, timeout=timeout)


@contextmanager
def running(
    folder: Path, name: str, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The sweep of `name`.yaml while it runs; ended at the end, if it has not."""
    with subprocess.Popen(
        [*COMMAND, "sweep", f"{name}.yaml", *arguments],
        cwd=folder,
        env=environment(folder, **(variables or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for_points(folder: Path, name: str, count: int, process: subprocess.Popen[str]) -> None:
    """Return when the journal holds that many points."""
    journal = folder / "runs" / name / "study.journal"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        # What a trial's completion looks like in Optuna's journal: operation 6, state 1.
        if journal.exists() and len(re.findall(rb'"op_code":6[^\n]*"state":[12]', journal.read_bytes())) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{count} points did not come: {process.communicate()}")


def processes(folder: Path) -> dict[int, str]:
    """The names (`ccl rank 0`) of the processes that carry the mark of `folder`."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue
    return found


def rank_process(folder: Path, rank: int) -> int:
    """The process of a rank, once it is there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = [pid for pid, name in processes(folder).items() if name == f"ccl rank {rank}"]
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"rank {rank} is not running")


def left_behind(folder: Path, grace: float = 3.0) -> dict[int, str]:
    """The processes of `folder` that don't end within `grace` seconds."""
    deadline = time.monotonic() + grace
    while (found := processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def stored(journal: Path) -> dict[int, str]:
    """The samples in a journal, by trial, whatever became of it. A copy is read: the journal is the sweep's to mend."""
    if not journal.exists():
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    copy = journal.with_suffix(".copy")
    shutil.copyfile(journal, copy)
    with open_storage(str(copy), write=True) as storage:
        if not optuna.get_all_study_names(storage.optuna):
            return {}
        trials = SweepStudy.load(storage, None).study.get_trials(deepcopy=False)
    return {trial.number: trial.user_attrs["result"] for trial in trials if "result" in trial.user_attrs}


def results(folder: Path, name: str) -> list[PointResult]:
    """All points of the study of `name`."""
    with open_storage(str(folder / "runs" / name / "study.journal"), write=False) as storage:
        return SweepStudy.load(storage, None).results()


def is_quoted(text: str, beginning: str) -> bool:
    """Whether `text` has the message that docs/operations.md quotes with this beginning; `...` stands for anything."""
    quotes = [quote for quote in all_quotes() if quote.startswith(beginning)]
    assert len(quotes) == 1, f"the page has {len(quotes)} messages that begin with {beginning!r}"
    pattern = ".*?".join(re.escape(part) for part in quotes[0].split("..."))
    return re.search(pattern, text, re.DOTALL) is not None


def all_quotes() -> list[str]:
    """The messages that docs/operations.md quotes."""
    return [block.strip() for block in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)]
