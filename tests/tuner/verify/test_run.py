"""Whole verifications: on a file that is replayed, where the truth is known, and on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from command import COMMAND, ccl_dispatch
from made_curves import write_config, write_curves
from made_tables import make_cell
from verifying import swept, verify

from ccl_dispatch.runtime import Table, load_table
from ccl_dispatch.runtime.errors import MeasuringError, UsageError
from ccl_dispatch.runtime.table import Platform
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.emit.text import write_table
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.plan import Plan, make_measurer
from ccl_dispatch.tuner.progress import SilentProgress
from ccl_dispatch.tuner.sweep import run_sweep
from ccl_dispatch.tuner.verify.keep import keep_reference
from ccl_dispatch.tuner.verify.run import verify_table
from ccl_dispatch.tuner.verify.setup import VerifyOptions

MIB = 1 << 20
ROOT = Path(__file__).parents[3]
SUPPORT = str(Path(__file__).parents[2] / "support")


def test_an_unchanged_machine_is_nearly_always_still_right(made: tuple[Path, dict[str, Path]]) -> None:
    """Of 20 runs with seeds of their own at least 19 say still right, all that do are sure to see 15 %."""
    table, configs = made
    found = [verify(table, configs["same"], seed).verification for seed in range(20)]
    assert sum(item.verdict == "still right" for item in found) >= 19
    assert all(item.exit_code == 0 and item.stopped_by == "settled" for item in found if item.verdict == "still right")
    assert all(cell.seen is not None and cell.seen <= 0.15 for item in found for cell in item.cells)


def test_fifteen_per_cent_above_a_size_is_always_found(made: tuple[Path, dict[str, Path]]) -> None:
    """In 20 of 20 runs a candidate that became 15 % slower above 64 KiB is told, though no choice is wrong by it."""
    table, configs = made
    for seed in range(20):
        verification = verify(table, configs["slower"], seed).verification
        assert (verification.verdict, verification.exit_code) == ("drifted", 1), seed
        (cell,) = verification.cells
        (shift,) = cell.shifts
        assert (shift.candidate, shift.low > 32 * 1024, shift.high <= 4 * MIB) == ("cand", True, True)
        assert any("cand takes 1." in reason for reason in cell.why)
        assert cell.cost is not None
        assert cell.cost.low <= 0.01


@pytest.mark.parametrize(("name", "low", "high"), [("worse", 64 * 1024, 2 * MIB), ("moved", 8192, 2 * MIB)])
def test_choices_that_lose_now_are_wrong(made: tuple[Path, dict[str, Path]], name: str, low: int, high: int) -> None:
    """Where the table's backend is slower than the other now, these sizes are named, with what the cell loses by it."""
    table, configs = made
    verification = verify(table, configs[name]).verification
    (cell,) = verification.cells
    assert (cell.verdict, verification.exit_code) == ("now wrong", 1)
    assert cell.wrong
    assert all(low < choice.place.size <= high for choice in cell.wrong)
    assert {(choice.use, choice.against) for choice in cell.wrong} == {("cand", "base")}
    assert cell.cost is not None
    assert cell.cost.low > 0.01


def test_without_time_the_answer_is_not_sure(made: tuple[Path, dict[str, Path]]) -> None:
    """When time ends before every size was visited twice, that is said, with exit code 3, and not that all is right."""
    table, configs = made
    verification = verify(table, configs["same"], seconds=0.001).verification
    assert (verification.verdict, verification.exit_code, verification.stopped_by) == ("not sure", 3, "seconds")
    assert "give more --seconds" in verification.cells[0].why[0]


def test_the_study_serves_as_reference(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """Without a kept reference the samples of the sweep are compared with; without those, choices alone are judged."""
    table, configs = made
    reference = table.with_name("table.reference.json")
    moved = reference.rename(tmp_path / "away.json")
    try:
        by_study = verify(table, configs["same"])
    finally:
        moved.rename(reference)
    assert "the samples of the study" in by_study.verification.reference
    assert by_study.verification.cells[0].seen is not None
    alone = tmp_path / "alone.yaml"
    alone.write_bytes(table.read_bytes())
    bare = verify(alone, configs["same"])
    assert (bare.verification.verdict, bare.verification.cells[0].seen) == ("still right", None)
    assert any("verify --keep" in note for note in bare.verification.notes)


def test_a_study_that_the_table_was_not_made_from_is_not_taken_for_it(tmp_path: Path) -> None:
    """Beside the table it is left aside, with what differs, and nothing is compared; named by --storage it is refused.

    So it is with a table that another sweep of the same config has made and that lies where its own was.
    """
    config = write_config(tmp_path, "c")
    table = swept(tmp_path, config)
    longer = load_config(config)
    other = tmp_path / "other.yaml"
    longer = replace(longer, budget=replace(longer.budget, executions=5))
    run_sweep(longer, str(tmp_path / "other.journal"), other, tmp_path / "logs", SilentProgress())
    journal = table.parent / "study.journal"
    journal.write_bytes((tmp_path / "other.journal").read_bytes())
    verified = verify(table, config).verification
    assert verified.reference == "none"
    (note, _) = verified.notes
    assert note.startswith(f"the table was not made from the samples in {journal} beside it, and they are left aside: ")
    assert "Give the --storage that it was made from" in note
    with pytest.raises(UsageError, match=r"is not the one that .*table.yaml was made from: it tells of \d+ points"):
        verify(table, config, storage=str(journal))


def test_visits_are_kept_only_of_what_is_right(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """A drifted run adds nothing; a right one is added to what is there."""
    table, configs = made
    target = tmp_path / "r.json"
    assert "nothing was added" in keep_reference(verify(table, configs["slower"]), target)
    assert not target.exists()
    keep_reference(verify(table, configs["same"], 1), target)
    first = json.loads(target.read_text())["sets"]
    keep_reference(verify(table, configs["same"], 2), target)
    assert json.loads(target.read_text())["sets"] > first


def test_a_replayed_and_a_measured_table_are_not_compared(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """A replayed table needs the config that replays; a measured one refuses it."""
    table, configs = made
    with pytest.raises(UsageError, match=r"has to be replayed again\. Give --config"):
        verify(table, None)
    with pytest.raises(UsageError, match=r"is replayed, and .* measures this machine"):
        verify(table, ROOT / "configs" / "cpu.yaml")
    measured = tmp_path / "measured.yaml"
    write_table(load_table(table)._replace(provenance="measured"), measured)
    with pytest.raises(UsageError, match=r"is measured, and .* replays a file"):
        verify(measured, configs["same"])


def test_a_config_of_other_backends_or_cells_is_refused(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """A candidate that the config doesn't have, and a file without any of the table's cells, are told."""
    table, _ = made
    other = write_curves(tmp_path / "o.csv", dtypes=("float32",))
    config = tmp_path / "o.yaml"
    config.write_text(f"name: o\nbaseline: base\ncandidates: [cand]\nreplay: {{file: {other.name}}}\n")
    with pytest.raises(UsageError, match=r"no cell of .* can be verified here: .*bfloat16/ws2: .* no measurement"):
        verify(table, config)
    renamed = load_table(table)._replace(candidates=("cand", "more"))
    write_table(renamed, tmp_path / "more.yaml")
    with pytest.raises(UsageError, match="has no backend more"):
        verify(tmp_path / "more.yaml", config)


class _Failing:
    """A measurer whose first point comes to nothing, by no candidate's fault."""

    def __init__(self) -> None:
        self.ended = False

    def __enter__(self) -> _Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True

    def start(self) -> None:
        """Nothing has to be started."""

    def measure(self, *_: object) -> None:
        raise MeasuringError("the baseline crashed")


def test_a_fault_of_the_baseline_ends_it(made: tuple[Path, dict[str, Path]]) -> None:
    """The error comes through as it is, with its exit code 3, and what was started is ended."""
    table, configs = made
    failing = _Failing()

    def measurer(_plan: Plan, _folder: Path) -> Measurer:
        return failing  # type: ignore[return-value]

    options = VerifyOptions(config=load_config(configs["same"]))
    with pytest.raises(MeasuringError, match="the baseline crashed"):
        verify_table(table, options, table.parent, lambda _: None, measurer=measurer)
    assert failing.ended


def test_the_command_says_it_in_lines_and_as_json(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """The last line is the verdict, progress goes to standard error, a CSV has every sample; exit codes are right."""
    table, configs = made
    csv = tmp_path / "new.csv"
    more = ("--config", str(configs["slower"]), "--seed", "3")
    said = ccl_dispatch("verify", str(table), *more, "--csv", str(csv), folder=tmp_path)
    assert said.returncode == 1, said.stderr
    assert said.stdout.splitlines()[-1].startswith("drifted: of 1 cell 1 drifted (")
    assert "random sizes (--seed 3): all_gather/eager/first/bfloat16/ws2 " in said.stdout
    assert "after 2 sets of workers" in said.stderr
    assert len(csv.read_text().splitlines()) > 1000
    update = ccl_dispatch(
        "verify", str(table), *more, "--json", "--quiet", "--update", "--out", str(tmp_path / "n.yaml"), folder=tmp_path
    )
    found = json.loads(update.stdout)
    assert (update.returncode, update.stderr) == (1, "")
    assert (found["verdict"], found["seed"]) == ("drifted", 3)
    assert found["cells"][0]["shifts"][0]["change"] > 0.05
    assert found["update"]["digest"] == load_table(tmp_path / "n.yaml").digest
    refused = ccl_dispatch("verify", str(table), "--out", "n.yaml", folder=tmp_path)
    assert (refused.returncode, "give --update as well" in refused.stderr) == (2, True)


CPU = """
name: small
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2]
dtypes: [bfloat16]
sizes: {min: 1 KiB, max: 64 KiB}
measure: {min_seconds: 0.0, max_seconds: 0.1}
budget: {executions: 200}
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of this machine, with its study."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "small.yaml").write_text(CPU)
    return swept(folder, folder / "small.yaml")


def test_this_machine_is_as_it_was_a_moment_ago(measured: Path) -> None:
    """Straight after a sweep of this machine no choice is proven wrong, and its settings are those of its study.

    What else runs here decides whether all of it can be judged: it may end as not sure. On few cores Gloo waits at two
    paces, ten times apart, and the few visits of this sweep may all have seen the other one: such a shift is real.
    """
    verification = verify(measured, None, seconds=5.0, seen=0.5).verification
    assert verification.verdict != "now wrong", [cell.why for cell in verification.cells]
    assert all(cell.wrong == () and cell.refusals == () for cell in verification.cells)
    assert verification.config.startswith("its study in ")
    assert verification.differs == ()
    # Where others use the cores one round, which is set aside, may take all of the time.
    assert verification.rounds >= 2 or verification.set_aside == 1


def test_an_output_that_is_wrong_now_is_found_on_this_machine(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate that gives stale output since the table was made is told as wrong, where it is used, and why."""
    # Which backend was the faster while the table was made is up to what else ran; here the candidate was, everywhere.
    table: Table = load_table(measured)
    (made,) = table.cells
    path = tmp_path / "t.yaml"
    cell = make_cell(made.cell, made.measured_from, [made.measured_to], ["shm"])
    band = cell.bands[0]._replace(against="gloo")
    write_table(table._replace(cells=(cell._replace(bands=(band,)),)), path)
    monkeypatch.setenv("PYTHONPATH", SUPPORT, prepend=os.pathsep)

    def stale(plan: Plan, folder: Path) -> Measurer:
        settings = replace(plan.settings, extra_backends={"shm": "faulty:Stale"})
        return make_measurer(replace(plan, settings=settings), folder)

    options = VerifyOptions(seconds=30.0)
    verification = verify_table(path, options, tmp_path, lambda _: None, measurer=stale).verification
    (judged,) = verification.cells
    assert (judged.verdict, verification.exit_code) == ("now wrong", 1)
    assert {(item.backend, item.reason) for item in judged.refusals} == {("shm", "wrong_output")}
    assert judged.why[0].startswith("shm can't be used at 1 KiB")


def test_another_platform_is_told_and_measured_all_the_same(measured: Path, tmp_path: Path) -> None:
    """After an upgrade what differs is named, the cells are judged, and the settings are found without the study."""
    table: Table = load_table(measured)
    platform: Platform = table.platform._replace(versions={**table.platform.versions, "torch": "0.1"})
    write_table(table._replace(platform=platform), tmp_path / "old.yaml")
    verification = verify(tmp_path / "old.yaml", None, seconds=8.0).verification
    assert [line.partition(":")[0] for line in verification.differs] == ["versions.torch"]
    assert verification.config.startswith("the table says")
    assert verification.cells[0].points > 0


def test_a_table_in_a_folder_that_takes_no_files_is_verified(measured: Path, tmp_path: Path) -> None:
    """On a file system that is mounted to be read only, also for root, with its study beside it; no log is left."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    for path in (measured, measured.parent / "study.journal"):
        (folder / path.name).write_bytes(path.read_bytes())
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" || exit 77; exec "$@"'
    own = tmp_path / "tmp"
    own.mkdir()
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(folder), *COMMAND]
    done = subprocess.run(
        [*command, "verify", str(folder / measured.name), "--seconds", "4", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(own)},
    )
    if done.returncode in (77, 127) or "unshare" in done.stderr:
        pytest.skip("file systems can't be mounted here")
    words = {"still right": 0, "drifted": 1, "now wrong": 1, "not sure": 3}
    assert words[done.stdout.splitlines()[-1].partition(":")[0]] == done.returncode, done.stderr
    assert "the samples of the study in" in done.stdout
    assert list(own.iterdir()) == []


def test_ctrl_c_ends_workers_and_says_so(measured: Path, tmp_path: Path) -> None:
    """Interrupted while it measures, it ends with 130, and no worker is left (the suite looks for those)."""
    command = [*COMMAND, "verify", str(measured), "--seconds", "60"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("set 1, round 1"))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in errors
