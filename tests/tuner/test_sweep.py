"""The whole sweep, replayed on published figures and interrupted at any moment, and on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from command import COMMAND, ccl_dispatch
from fleets import write_config
from named_memory import named_memory
from sweeping import FULL

from ccl_dispatch.runtime import Table, load_table
from ccl_dispatch.tuner.study import SweepStudy, open_storage

DATA = Path(__file__).parent.parent / "data" / "measurements"
MI300X = DATA / "mi300x-all_reduce-rccl-quickreduce.csv"
MARENOSTRUM = "CPU (MareNostrum5) 32 nodes x 1 [2025_04_12___14_04_47#0]"
MIB = 1 << 20
# Quickly measured on any machine.
REAL = """\
baseline: gloo
candidates: [shm]
collective: all_gather
world_sizes: [2]
dtypes: [bfloat16]
sizes: {min: 64 B, max: 1 KiB}
"""


def _config(folder: Path, name: str, baseline: str, candidate: str, replay: str, more: str = "") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\nbaseline: {baseline}\ncandidates: [{candidate}]\nreplay: {{{replay}}}\n{more}")
    return str(path)


def _swept(folder: Path, config: str) -> tuple[Table, dict[str, Any]]:
    done = ccl_dispatch("sweep", config, "--quiet", "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    return load_table(folder / summary["table"]), summary


@pytest.mark.parametrize("noise", ["", ", noise: 0.05, outliers: 0.01, seed: 3"])
def test_rccl_against_quickreduce(tmp_path: Path, noise: str) -> None:
    """At 8 MI300X there is one crossover near 8 MiB, and nothing above it goes to QuickReduce: 16 MiB is a tie."""
    config = _config(tmp_path, "mi300x", "rccl", "quickreduce", f"file: {MI300X}{noise}", "world_sizes: [8]\n")
    table, summary = _swept(tmp_path, config)
    (cell,) = table.cells
    assert [band.use for band in cell.bands] == ["quickreduce", "rccl"]
    (crossover,) = cell.crossovers
    assert 4 * MIB <= crossover.at <= 8 * MIB
    if not noise:
        assert any(tie.low <= 16 * MIB <= tie.high for tie in cell.ties)
    assert table.provenance == summary["provenance"] == "replayed"
    assert {"cells", "trials", "executions", "collective_seconds", "wall_seconds", "table", "digest"} <= set(summary)


@pytest.mark.parametrize("noise", ["", ", noise: 0.05, outliers: 0.01, seed: 3"])
def test_open_mpi_default_against_recursive_doubling(tmp_path: Path, noise: str) -> None:
    """At 32 ranks on MareNostrum5 recursive doubling wins between two crossovers, and nowhere else."""
    file = f'file: {DATA / "cpu-clusters-all_gather-mpi-algorithms.csv"}, where: {{platform: "{MARENOSTRUM}"}}'
    table, _ = _swept(tmp_path, _config(tmp_path, "mn5", "default_ompi", "recursive_doubling_ompi", file + noise))
    (cell,) = table.cells
    assert [band.use for band in cell.bands] == ["default_ompi", "recursive_doubling_ompi", "default_ompi"]
    assert len(cell.crossovers) == 2


@pytest.mark.parametrize(
    ("file", "baseline", "candidate"),
    [
        ("mi300-all_reduce-custom-quickreduce.csv", "custom", "quickreduce"),
        ("rtx5090-all_gather-nccl-repeats.csv", "nccl", "nccl_simple"),
    ],
)
def test_every_published_file_gives_a_table(tmp_path: Path, file: str, baseline: str, candidate: str) -> None:
    """The other files run through as well, and what comes of them says that it is replayed."""
    replay = f"file: {DATA / file}, noise: 0.02"
    table, _ = _swept(tmp_path, _config(tmp_path, "published", baseline, candidate, replay))
    assert table.cells
    assert table.provenance == "replayed"


def test_build_gives_the_same_bytes(tmp_path: Path) -> None:
    """The table that is rebuilt from the storage is the sweep's, byte for byte."""
    _swept(tmp_path, _config(tmp_path, "again", "rccl", "quickreduce", f"file: {MI300X}, noise: 0.05"))
    done = ccl_dispatch("build", "--storage", "runs/again/study.journal", "--out", "built.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "built.yaml").read_bytes() == (tmp_path / "runs/again/table.yaml").read_bytes()


def test_where_a_replayed_file_lies_changes_no_byte(tmp_path: Path) -> None:
    """Also where a candidate is left out since the file has no curve of it in a cell: a table says so in its words."""
    tables = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "m.csv").write_text(
            "collective,mode,dtype,world_size,shape,bytes,backend,latency_us\n"
            "all_gather,,int8,2,,64,base,9\nall_gather,,int8,2,,64,one,5\n"
            "all_gather,,bool,2,,64,base,9\nall_gather,,bool,2,,64,two,5\n"
        )
        config = _config(folder, "same", "base", "one, two", "file: m.csv", "budget: {executions: 60}\n")
        _swept(folder, config)
        tables.append((folder / "runs" / "same" / "table.yaml").read_text())
    assert "m.csv has no measurement of 'one' in all_gather/eager/first/bool/ws2" in tables[0]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(("budget", "word"), [("executions: 500", "executions"), ("seconds: 0.01", "seconds")])
def test_a_budget_ends_the_sweep(tmp_path: Path, budget: str, word: str) -> None:
    """A spent budget ends the sweep with a table, and the summary says which it was."""
    replay = f"file: {MI300X}, noise: 0.05"
    config = _config(tmp_path, "short", "rccl", "quickreduce", replay, f"budget: {{{budget}}}\n")
    _, summary = _swept(tmp_path, config)
    assert summary["stopped_by"] == word


@pytest.mark.parametrize(
    ("budget", "more", "visit"), [("seconds: 4", "seconds: 6", "0.5"), ("executions: 500", "executions: 900", "0.01")]
)
def test_a_spent_budget_stays_spent(tmp_path: Path, budget: str, more: str, visit: str) -> None:
    """A sweep on this machine that its budget ended measures nothing when repeated: the same table, for the same
    reason, and what to do is said. With a larger budget it goes on.
    """
    config = tmp_path / "spent.yaml"
    # The first look alone takes more.
    large = REAL.replace("[bfloat16]", "[bfloat16, float16, float32]").replace("1 KiB", "64 KiB")
    config.write_text(f"name: spent\n{large}budget: {{{budget}}}\nmeasure: {{min_seconds: {visit}}}\n")
    first, summary = _swept(tmp_path, str(config))
    again = ccl_dispatch("sweep", str(config), "--summary", "again.json", folder=tmp_path)
    repeated = json.loads((tmp_path / "again.json").read_text())
    assert load_table(tmp_path / "runs/spent/table.yaml").digest == first.digest
    assert (repeated["trials"], repeated["stopped_by"]) == (summary["trials"], budget.split(":", maxsplit=1)[0])
    assert f"To go on raise `budget.{budget.split(':', maxsplit=1)[0]}`" in again.stdout
    config.write_text(config.read_text().replace(budget, more))
    assert _swept(tmp_path, str(config))[1]["trials"] > summary["trials"]


def test_work_of_others_is_told(tmp_path: Path) -> None:
    """What others use of the processors while a sweep measures is in its summary and in the table's evidence."""
    # A second has to pass before what others use is known.
    more = "budget: {seconds: 12}\nmeasure: {min_seconds: 0.4}\n"
    (tmp_path / "beside.yaml").write_text(f"name: beside\n{REAL}{more}")
    # Ends by itself, should the test not get to it.
    spin = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as other:
        table, summary = _swept(tmp_path, "beside.yaml")
        other.kill()
    assert summary["disturbed"]
    assert table.evidence["others_used"]["share"] >= 0.05
    shown = ccl_dispatch("show", "runs/beside/table.yaml", folder=tmp_path).stdout
    assert "others used" in shown


def test_what_a_budget_left_out_is_told(tmp_path: Path) -> None:
    """Cells that were not measured, or not from end to end, are told beside the estimate, which leaves them out."""
    replay = f"file: {MI300X}, noise: 0.05"
    config = _config(tmp_path, "few", "rccl", "quickreduce", replay, "budget: {executions: 14}\n")
    done = ccl_dispatch("sweep", config, "--quiet", "--summary", "summary.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    table = load_table(tmp_path / summary["table"])
    assert {cell.cell.name for cell in table.cells}.isdisjoint(summary["unmeasured_cells"])
    assert len(table.cells) + len(summary["unmeasured_cells"]) == 3
    assert summary["unmeasured_cells"] or summary["partly_measured_cells"]
    assert "not measured: " in done.stdout
    assert "calls there use rccl, and the estimate leaves them out" in done.stdout
    config = _config(tmp_path, "all", "rccl", "quickreduce", replay, "budget: {executions: 400}\n")
    done = ccl_dispatch("sweep", config, "--quiet", folder=tmp_path)
    assert "not measured" not in done.stdout


def test_shapes_that_a_budget_left_out_are_told(tmp_path: Path) -> None:
    """The heaviest first; a shape is asked for exactly, and who reads the table may think that it was."""
    workload = "workload: [{shape: [5000], dtype: bfloat16}, {shape: [70000], dtype: bfloat16, weight: 3}]\n"
    for executions, told in ((20, True), (2000, False)):
        more = f"budget: {{executions: {executions}}}\n{workload}"
        config = write_config(tmp_path, 1, "noise: 0.05", more=more, name=f"of{executions}")
        done = ccl_dispatch("sweep", str(config), "--quiet", folder=tmp_path)
        assert ("shapes of the workload ([70000] in all_gather/eager/first/bfloat16/ws2; " in done.stdout) is told


@pytest.mark.parametrize(
    "how",
    [
        f"baseline: rccl\ncandidates: [quickreduce]\nreplay: {{file: {MI300X}}}\nmeasure: {{min_samples: 3}}\n",
        REAL,
    ],
    ids=["replayed", "measured"],
)
def test_a_budget_without_room_for_a_point_is_named(tmp_path: Path, how: str) -> None:
    """Exit code 2 before any worker is started, and the words how much a visit takes: with just as much it goes."""

    def run(executions: int) -> subprocess.CompletedProcess[str]:
        (tmp_path / "b.yaml").write_text(f"name: b\n{how}budget: {{executions: {executions}}}\n")
        return ccl_dispatch("sweep", "b.yaml", "--quiet", folder=tmp_path)

    done = run(1)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    told = re.search(r"`budget.executions` is 1 and has no room .* takes at least (\d+): .* Raise it", done.stderr)
    assert told, done.stderr
    assert not (tmp_path / "runs/b/logs/rank0.log").exists()
    least = int(told[1])
    assert run(least - 1).returncode == 2
    done = run(least)
    assert done.returncode == 0, done.stderr
    assert load_table(tmp_path / "runs/b/table.yaml").evidence["trials"] == 1


def test_seconds_that_are_over_before_the_first_point_are_named(tmp_path: Path) -> None:
    """A budget that starting the workers has used up ends with exit code 2 and its name."""
    (tmp_path / "b.yaml").write_text(f"name: b\n{REAL}budget: {{seconds: 0.001}}\n")
    done = ccl_dispatch("sweep", "b.yaml", "--quiet", folder=tmp_path)
    assert done.returncode == 2
    assert "`budget.seconds` is 0.001 and was over before a single point" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.storm
def test_interruptions_lose_nothing(tmp_path: Path) -> None:
    """Interrupted at random moments and continued, a sweep keeps every point and ends as if it never was.

    The signals alternate between SIGINT, SIGKILL and SIGTERM; `make storm` has twenty.
    """
    more = "sizes: {min: 32 KiB, max: 64 MiB, per_octave: 40}\nmeasure: {min_samples: 60}\n"
    config = _config(tmp_path, "cut", "rccl", "quickreduce", f"file: {MI300X}, noise: 0.3, outliers: 0.01", more)
    rng = random.Random(11)
    kept: dict[int, str] = {}
    journal = tmp_path / "runs/cut/study.journal"
    for turn in range(20 if os.environ.get(FULL) else 9):
        process = subprocess.Popen(
            [*COMMAND, "sweep", config, "--quiet"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # Three times of four in the midst of measuring, else while it starts.
        if turn % 4:
            _wait_for_growth(journal, process)
        time.sleep(rng.random() * 0.2)
        process.send_signal((signal.SIGINT, signal.SIGKILL, signal.SIGTERM)[turn % 3])
        process.wait(20)
        kept = _still_there(journal, kept)
    table, summary = _swept(tmp_path, config)
    _still_there(journal, kept)
    assert kept, "not one interruption came after a completed point"
    calm = _config(tmp_path, "calm", "rccl", "quickreduce", f"file: {MI300X}, noise: 0.3, outliers: 0.01", more)
    undisturbed, other = _swept(tmp_path, calm)
    assert table.cells == undisturbed.cells
    assert summary["executions"] == other["executions"]


def _wait_for_growth(journal: Path, process: subprocess.Popen[bytes]) -> None:
    """Return once the journal has grown, or the process has ended."""
    before = journal.stat().st_size if journal.exists() else 0
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.stat().st_size > before + 4096:
            return
        time.sleep(0.01)


def _still_there(journal: Path, kept: dict[int, str]) -> dict[int, str]:
    """The stored samples by trial, after making sure that those of before are among them, unchanged.

    A copy is read: the journal itself is the next sweep's to mend.
    """
    if not journal.exists():
        return kept
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    copy = journal.with_suffix(".copy")
    shutil.copyfile(journal, copy)
    with open_storage(str(copy), write=True) as storage:
        if not optuna.get_all_study_names(storage.optuna):
            return kept
        trials = SweepStudy.load(storage, None).study.get_trials(deepcopy=False)
    found = {trial.number: trial.user_attrs["result"] for trial in trials if trial.state.name == "COMPLETE"}
    assert {number: found.get(number) for number in kept} == kept
    return found


@pytest.mark.slow
@pytest.mark.storm
def test_a_real_sweep_survives_interruptions(tmp_path: Path) -> None:
    """Interrupted by SIGINT, SIGKILL and SIGTERM again and again, a sweep of this machine loses no completed point.

    Two of five moments are in the midst of measuring, the others come while it starts up. After each, no process and
    no shared memory is left; the same command goes on, and in the end its table is the one that `build` makes as well.
    """
    (tmp_path / "real.yaml").write_text(
        "name: real\ncollective: all_gather\nbaseline: gloo\ncandidates: [shm]\nworld_sizes: [2]\n"
        "dtypes: [bfloat16, float32]\nsizes: {min: 16 B, max: 64 KiB}\nbudget: {executions: 10000}\n"
        "measure: {min_seconds: 0.15, max_seconds: 0.3}\n"
    )
    journal = tmp_path / "runs/real/study.journal"
    marker = f"CCL_DISPATCH_TEST={tmp_path}"
    environment = {**os.environ, **dict([marker.split("=", 1)])}
    command = [*COMMAND, "sweep", "real.yaml"]
    shared_before = named_memory()
    rng = random.Random(7)
    kept: dict[int, str] = {}
    for turn in range(20 if os.environ.get(FULL) else 4):
        number = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM)[turn % 3]
        measuring = turn % 5 in {1, 3}
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stderr is not None
            if measuring:
                next(line for line in process.stderr if "] visit " in line)  # the first point of this turn is stored
            time.sleep(rng.random() * (0.5 if measuring else 1.8))
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        if measuring:
            expected = {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143}[number]
            assert process.returncode == expected, errors
        assert _left_behind(marker) == []
        assert named_memory() <= shared_before
        before = len(kept)
        kept = _still_there(journal, kept)
        assert len(kept) > before or not measuring
    table, summary = _swept(tmp_path, "real.yaml")
    kept = _still_there(journal, kept)
    assert len(kept) == summary["trials"]
    assert table.provenance == "measured"
    assert all(cell.bands for cell in table.cells)
    assert list((tmp_path / "runs/real").glob(".*.part")) == []
    built = ccl_dispatch("build", "--storage", str(journal), "--out", "built.yaml", folder=tmp_path)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "built.yaml").read_bytes() == (tmp_path / "runs/real/table.yaml").read_bytes()


def _left_behind(marker: str, grace: float = 3.0) -> list[str]:
    """Command lines of processes that carry `marker` in their environment and don't end within `grace` seconds."""
    deadline = time.monotonic() + grace
    while True:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if marker.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)
