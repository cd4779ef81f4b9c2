"""Samples that several processes bring into one study at once: each visit counts once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from command import COMMAND, ccl_dispatch
from made_studies import keep_study, made_study
from postgres import PostgresServer

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.text import render
from ccl_dispatch.tuner.fleet.merging import add_missing, samples_of, take_in
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.search.base import VISIT
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage
from ccl_dispatch.tuner.study.filling import cut_short, filled_by

CELL = Cell("all_gather", "eager", "first", "bfloat16", 8)
META, _ALL = made_study([CELL], visits=2)
RESULTS = _ALL[::2]
SPACE = SearchSpace({CELL.name: tuple(sorted({result.size for result in RESULTS}))})
PROCESSES = 3


def _study(storage: object, meta: StudyMeta = META) -> SweepStudy:
    return SweepStudy.create_or_continue(storage, meta, RegretSampler(SPACE, meta.candidates))  # type: ignore[arg-type]


def _store(path: Path, results: Sequence[PointResult], meta: StudyMeta = META) -> str:
    return keep_study(path, meta, results, RESULTS)


def _at_once(folder: Path, commands: Sequence[Sequence[str]]) -> list[str]:
    """Run these verbs all at once; what each printed. All must end with 0."""
    with ThreadPoolExecutor(len(commands)) as threads:
        done = list(threads.map(lambda words: ccl_dispatch(*words, folder=folder), commands))
    assert [process.returncode for process in done] == [0] * len(done), done
    return [process.stdout for process in done]


def _merge_at_once(folder: Path, url: str) -> None:
    halves = [
        _store(folder / name, part)
        for name, part in (("a.journal", RESULTS[: len(RESULTS) // 2]), ("b.journal", RESULTS[len(RESULTS) // 3 :]))
    ]
    told = _at_once(
        folder,
        [("merge", *halves, "--storage", url, "--study", META.name, "--out", f"{i}.yaml") for i in range(PROCESSES)],
    )
    # Each sample is new to one of them alone.
    assert sum(int(words.split(" are new")[0].rpartition(" ")[2]) for words in told) == len(RESULTS)
    done = ccl_dispatch("build", "--storage", url, "--out", "built.yaml", folder=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "built.yaml").read_bytes() == render(build_table(META, RESULTS)).encode()


def test_merges_at_once_into_sqlite_count_each_visit_once(tmp_path: Path) -> None:
    """Real processes that merge the same journals into one new file: the table is that of the samples, each once."""
    _merge_at_once(tmp_path, f"sqlite:///{tmp_path}/m.db")


def test_merges_at_once_into_postgresql_count_each_visit_once(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """The same with a real server."""
    _merge_at_once(tmp_path, postgres_server.database())


def test_imports_at_once_into_a_new_file_all_end_well_and_count_once(tmp_path: Path) -> None:
    """None fails as another makes the tables of the database, and the table is that of one import."""
    rows = ["collective,mode,dtype,world_size,shape,bytes,backend,latency_us,platform"]
    for step in range(6):
        for name, factor in (("base", 2.0), ("fast", 1.0)):
            rows += [
                f"all_gather,eager,bfloat16,8,,{1024 << step},{name},{10 * factor + step + 0.1 * i},made up"
                for i in range(4)
            ]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    words = ("import", "m.csv", "--baseline", "base", "--storage")
    _at_once(tmp_path, [(*words, "sqlite:///m.db")] * 4)
    _at_once(tmp_path, [(*words, "alone.journal")])
    for storage, out in (("sqlite:///m.db", "m.yaml"), ("alone.journal", "alone.yaml")):
        assert ccl_dispatch("build", "--storage", storage, "--out", out, folder=tmp_path).returncode == 0
    assert load_table(tmp_path / "m.yaml") == load_table(tmp_path / "alone.yaml")._replace(
        source=load_table(tmp_path / "m.yaml").source
    )


def test_killed_merges_are_completed_and_nothing_counts_twice(tmp_path: Path) -> None:
    """SIGKILL at several moments of two merges at once: the study says so, and the same command completes it."""
    source = _store(tmp_path / "a.journal", RESULTS)
    url = f"sqlite:///{tmp_path}/m.db"
    words = ("merge", source, "--storage", url)
    held = 0
    for _ in range(3):
        two = [subprocess.Popen([*COMMAND, *words], cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
        _await_more_than(tmp_path / "m.db", held)
        for process in two:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        with open_storage(url, write=False) as storage:
            study = SweepStudy.load(storage, None)
            held = len(study.trials())
            assert len(study.results()) == len(RESULTS) or "was cut short" in study.unfinished()
    done = ccl_dispatch(*words, "--out", "t.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.yaml").read_bytes() == render(build_table(META, RESULTS)).encode()
    with open_storage(url, write=False) as storage:
        assert SweepStudy.load(storage, None).unfinished() == ""


def _await_more_than(path: Path, trials: int) -> None:
    import sqlite3
    from contextlib import closing

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                if connection.execute("SELECT count(*) FROM trials").fetchone()[0] >= min(trials + 2, 10):
                    return
        except sqlite3.Error:
            pass
        time.sleep(0.02)
    raise AssertionError("no trial came")


def test_copies_that_a_study_holds_already_are_harmless(tmp_path: Path) -> None:
    """What two imports at once left, of before this was known: table, samples and search see each visit once."""
    with open_storage(str(tmp_path / "s.journal"), write=True) as storage:
        study = _study(storage)
        numbered = list(enumerate(RESULTS))
        for visit, result in [*numbered, *numbered, *numbered[:3]]:
            study.add(SPACE, result, {VISIT: visit})
        assert len(study.trials()) > len(study.results()) == len(samples_of(study)) == len(RESULTS)
        assert render(build_table(META, study.table_results())) == render(build_table(META, RESULTS))
        assert len(RegretSampler(SPACE, META.candidates).observations(study.study)) == len(RESULTS)
    with open_storage(str(tmp_path / "imported.journal"), write=True) as storage:
        study = _study(storage)
        for result in [*RESULTS, *RESULTS]:
            study.add(SPACE, result)
        assert render(build_table(META, study.table_results())) == render(build_table(META, RESULTS))
        assert add_missing(study, SPACE, RESULTS) == 0


def test_alike_samples_of_other_visits_all_count(tmp_path: Path) -> None:
    """A replay of figures without noise gives the same samples at each visit, and each visit has its number."""
    with open_storage(str(tmp_path / "s.journal"), write=True) as storage:
        study = _study(storage)
        for visit in (0, 1, 2, 2):
            study.add(SPACE, RESULTS[0], {VISIT: visit})
        assert len(study.results()) == 3
        assert len(RegretSampler(SPACE, META.candidates).observations(study.study)) == 3


def test_a_point_counts_as_often_as_one_import_gives_it(tmp_path: Path) -> None:
    """Given twice it is kept twice; the same import again adds nothing, and a merge takes both along."""
    points = [RESULTS[0], RESULTS[0], RESULTS[1]]
    with open_storage(str(tmp_path / "s.journal"), write=True) as storage:
        study = _study(storage)
        assert [add_missing(study, SPACE, points) for _ in range(2)] == [3, 0]
        samples = samples_of(study)
        assert len(study.results()) == len(RegretSampler(SPACE, META.candidates).observations(study.study)) == 3
    with open_storage(str(tmp_path / "t.journal"), write=True) as storage:
        study = _study(storage)
        assert [take_in(study, samples, one_config=one) for one in (True, False)] == [3, 0]
        assert len(study.results()) == 3


def test_what_is_being_filled_is_noted_for_each_by_itself(tmp_path: Path) -> None:
    """One that begins and ends while another fills takes nothing from the other's note; older notes are read too."""
    with open_storage(str(tmp_path / "s.journal"), write=True) as storage:
        study = _study(storage)
        study.study.set_user_attr("filling", ["merge of old"])
        with filled_by(study.study, "merge", ["a"]):
            with filled_by(study.study, "merge", ["b"]):
                assert cut_short(study.study) == ["merge of a", "merge of b", "merge of old"]
            assert cut_short(study.study) == ["merge of a", "merge of old"]
        with filled_by(study.study, "merge", ["old"]):
            pass
        assert cut_short(study.study) == []
        assert study.unfinished() == ""


def test_merges_of_other_sources_at_once_are_all_told_of(tmp_path: Path) -> None:
    """Each brings in a study of a config of its own: the joined study holds all, and says that it is of all."""
    metas = [replace(META, digest=f"sha256:{i}") for i in range(PROCESSES + 1)]
    parts = [RESULTS[i :: PROCESSES + 1] for i in range(PROCESSES + 1)]
    for i, (meta, part) in enumerate(zip(metas, parts, strict=True)):
        _store(tmp_path / f"{i}.journal", part, meta)
    target = ("--storage", "sqlite:///m.db", "--study", "all")
    _at_once(tmp_path, [("merge", "0.journal", *target)])
    _at_once(tmp_path, [("merge", f"{i}.journal", *target) for i in range(1, PROCESSES + 1)])
    with open_storage(f"sqlite:///{tmp_path}/m.db", write=False) as storage:
        study = SweepStudy.load(storage, "all")
        assert len(study.results()) == len(RESULTS)
        assert study.meta.identity["merged"] == sorted(meta.digest for meta in metas)
