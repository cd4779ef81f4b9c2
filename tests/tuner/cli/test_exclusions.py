"""What may not be used stays so when measurements go out and come back: `export`, `import`, a replay, logs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from command import ccl_dispatch
from made_logs import rccl_log, sglang_log
from made_studies import keep_study, made_study

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.measurements.csv_file import COLUMNS, read_measurements
from ccl_dispatch.tuner.samples import PointExclusion, PointResult
from ccl_dispatch.tuner.study import StudyMeta

CELLS = [Cell("all_gather", mode, "first", "bfloat16", 8) for mode in ("eager", "graph")]
REFUSED = Cell("all_gather", "graph_copy_in", "first", "bfloat16", 8)


def _study() -> tuple[StudyMeta, list[PointResult]]:
    """Two cells, in which `fast` gave a wrong output at one size where it wins, and one that nothing can serve."""
    meta, results = made_study(CELLS)
    wrong = PointExclusion("fast", "wrong_output", 'rank 1: 0x01 instead of 0x13, "so"')
    results = [
        replace(
            result,
            latencies_us={name: values for name, values in result.latencies_us.items() if name != "fast"},
            exclusions=(*result.exclusions, wrong),
        )
        if result.cell == CELLS[0] and result.size == 4096
        else result
        for result in results
    ]
    nothing = tuple(PointExclusion(name, "unsupported", f"{name} has no graphs") for name in meta.candidates)
    return meta, [*results, *(PointResult(REFUSED, size, {}, nothing, stopped_by="excluded") for size in (64, 4096))]


def _done(folder: Path, *arguments: str) -> str:
    done = ccl_dispatch(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _decided(table: Table) -> list[object]:
    """What a table decides, cell by cell."""
    return [
        (
            cell.cell,
            cell.measured_from,
            cell.measured_to,
            [(band.up_to, band.use) for band in cell.bands],
            cell.exclusions,
        )
        for cell in table.cells
    ]


def test_a_study_that_goes_out_and_comes_back_excludes_and_decides_the_same(tmp_path: Path) -> None:
    """`export`, `import` and `build` keep every exclusion, also of a cell in which nothing was timed."""
    meta, results = _study()
    keep_study(tmp_path / "s.journal", meta, results)
    told = _done(tmp_path, "export", "--storage", "s.journal", "--out", "m.csv")
    count = sum(len(result.exclusions) for result in results)
    assert f" latencies, {count} exclusions (replayed)" in told
    told = _done(tmp_path, "import", "m.csv", "--baseline", "base", "--storage", "i.journal")
    assert f"{count} exclusions" in told
    assert "nothing tells whether outputs were right" not in told
    assert "left out" not in told
    _done(tmp_path, "build", "--storage", "i.journal", "--out", "t.yaml")
    original, imported = build_table(meta, results), load_table(tmp_path / "t.yaml")
    assert [item.low for item in imported.cells[0].exclusions if item.backend == "fast"] == [4096]
    assert _decided(imported) == _decided(original)
    _done(tmp_path, "export", "--storage", "i.journal", "--out", "again.csv")
    once, again = (read_measurements(tmp_path / name) for name in ("m.csv", "again.csv"))
    assert [replace(row, extra={}) for row in again.exclusions] == [replace(row, extra={}) for row in once.exclusions]


def test_exclusions_of_several_visits_are_written_once(tmp_path: Path) -> None:
    """What two visits of a size say alike is one row, what they say differently is two; latencies are all there."""
    meta, results = made_study(CELLS[:1], visits=2)
    last = results[-1]
    results[-1] = replace(last, exclusions=(PointExclusion("odd", "hung", "made up"),))
    keep_study(tmp_path / "s.journal", meta, results)
    _done(tmp_path, "export", "--storage", "s.journal", "--out", "m.csv")
    found = read_measurements(tmp_path / "m.csv")
    sizes = sorted({result.size for result in results if result.exclusions})
    assert sorted(row.size for row in found.exclusions) == sorted([*sizes, last.size])
    assert {row.reason for row in found.exclusions if row.size == last.size} == {"crashed", "hung"}
    assert len(found.rows) == sum(len(values) for result in results for values in result.latencies_us.values())


def test_a_size_that_sglang_calls_not_correct_never_uses_aiter(tmp_path: Path) -> None:
    """One such row in the middle of a range in which AITER is faster excludes it there, and nowhere else."""
    rows = [
        ("bfloat16", f"({n}, 32320)", 0, n * 64640, str(n != 12), "30.00", "None" if n == 12 else "15.00")
        for n in range(1, 24)
    ]
    (tmp_path / "sglang.txt").write_text("\n".join(sglang_log(rows)))
    told = _done(tmp_path, "import", "sglang.txt", "--baseline", "rccl", "--world-size", "4", "--storage", "s.journal")
    assert "left out: not correct, or refused by AITER" in told
    _done(tmp_path, "build", "--storage", "s.journal", "--out", "t.yaml")
    table = load_table(tmp_path / "t.yaml")
    dispatcher = table.dispatcher("all_gather", 4)
    used = [dispatcher.select(n * 64640, "bfloat16", "eager", "first") for n in range(1, 24)]
    assert used == ["aiter"] * 11 + ["rccl"] + ["aiter"] * 11
    ((backend, reason, low, high, _),) = table.cells[0].exclusions
    assert (backend, reason, low, high) == ("aiter", "wrong_output", 12 * 64640, 12 * 64640)


def test_wrong_values_in_logs_exclude_the_candidate_and_drop_points_of_the_baseline(tmp_path: Path) -> None:
    """Of two logs of rccl-tests the candidate is not used where it was wrong; of a wrong baseline there is no point."""
    times = {1 << power: (100.0, 1.0) for power in range(4, 25)}
    names = list(times)

    def log(time: float, wrong: int) -> str:
        lines = rccl_log(dict.fromkeys(times, (time, 1.0)))
        first = next(index for index, line in enumerate(lines) if "(elements)" in line) + 1
        place = first + names.index(wrong)
        lines[place] = lines[place].replace("1.00      0  ", "1.00      3  ", 1)
        return "\n".join(lines)

    (tmp_path / "rccl.log").write_text(log(100.0, 1 << 20))
    (tmp_path / "mine.log").write_text(log(50.0, 1 << 13))
    words = ("import", "rccl.log", "mine.log", "--backend", "rccl", "--backend", "mine", "--baseline", "rccl")
    told = _done(tmp_path, *words, "--storage", "s.journal")
    assert "nothing compared at 1 size, the smallest 2 MiB: there the baseline rccl may not be used" in told
    assert "with 20 imported points" in told
    _done(tmp_path, "build", "--storage", "s.journal", "--out", "t.yaml")
    table = load_table(tmp_path / "t.yaml")
    dispatcher = table.dispatcher("all_gather", 8)
    assert dispatcher.select(16384, "float16", "eager", "first") == "rccl"
    assert dispatcher.select(8192, "float16", "eager", "first") == "mine"
    assert [(item.backend, item.low, item.high) for item in table.cells[0].exclusions] == [("mine", 16384, 16384)]


def test_a_replay_excludes_what_its_file_excludes(tmp_path: Path) -> None:
    """With the file's reason, marked as replayed, also at sizes beyond those that were timed."""
    with (tmp_path / "m.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow([*COLUMNS, "excluded"])
        for power in range(6, 21):
            size = 1 << power
            start = ["all_gather", "", "bfloat16", 2, "", size]
            says = (10, "") if power < 10 else ("", "wrong_output: rank 1: made up")
            # Where nothing may replace the baseline a sweep doesn't time it.
            if power < 17:
                out.writerow([*start, "base", 20 + size / 5000, ""])
            out.writerow([*start, "fast", *(says if power < 16 else ("", "unsupported: past the pool"))])
    config = "name: r\nbaseline: base\ncandidates: [fast]\nreplay: {file: m.csv, noise: 0.02}\n"
    (tmp_path / "r.yaml").write_text(config)
    _done(tmp_path, "sweep", "r.yaml", "--out", "t.yaml", "--storage", "s.journal", "--quiet")
    (cell,) = load_table(tmp_path / "t.yaml").cells
    assert (cell.measured_from, cell.measured_to) == (64, 1 << 20)
    assert {item.reason for item in cell.exclusions} == {"wrong_output", "unsupported"}
    assert {item.detail.partition(": ")[2] for item in cell.exclusions} <= {"rank 1: made up", "past the pool"}
    assert all(item.detail.startswith("replayed") for item in cell.exclusions)
    assert cell.bands[-1].use == "base"
    assert cell.bands[0].use == "fast"
    assert cell.bands[0].up_to < 1024
    with (tmp_path / "m.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["all_gather", "", "bfloat16", 2, "", 64, "base", "", "wrong_output: made up"])
    refused = ccl_dispatch("sweep", "r.yaml", "--out", "u.yaml", "--storage", "u.journal", "--quiet", folder=tmp_path)
    assert refused.returncode == 3
    assert "the baseline base can't be measured (wrong_output: replayed: made up)" in refused.stderr


def test_a_replay_has_cells_of_which_its_file_holds_exclusions_alone(tmp_path: Path) -> None:
    """Nothing was timed there, so the baseline is used; the file's other cells are tuned as ever."""
    timed = [f"all_gather,,bfloat16,2,,{size},{name},{us}," for size in (64, 512) for name, us in (("a", 9), ("b", 5))]
    head = ",".join((*COLUMNS, "excluded"))
    (tmp_path / "m.csv").write_text("\n".join([head, *timed, "all_gather,,float32,2,,256,b,,crashed: signal 11"]))
    (tmp_path / "r.yaml").write_text("name: r\nbaseline: a\ncandidates: [b]\nreplay: {file: m.csv, noise: 0.02}\n")
    _done(tmp_path, "sweep", "r.yaml", "--out", "t.yaml", "--storage", "s.journal", "--quiet")
    cells = {cell.cell.dtype: cell for cell in load_table(tmp_path / "t.yaml").cells}
    assert [band.use for band in cells["bfloat16"].bands] == ["b"]
    assert [(band.use, band.why) for band in cells["float32"].bands] == [("a", "excluded")]
