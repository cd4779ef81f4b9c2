from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_studies import keep_study, made_study

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.table import Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.text import render, write_table
from ccl_dispatch.tuner.evidence.disturbed import disturbed_in_words
from ccl_dispatch.tuner.evidence.faults import faults_of
from ccl_dispatch.tuner.fleet.merging import merged_meta, merged_table
from ccl_dispatch.tuner.samples import PointFault, PointResult
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage

CELLS = [Cell("all_gather", mode, "first", "bfloat16", 8) for mode in ("eager", "graph")]
META, RESULTS = made_study(CELLS, visits=2)


def _store(path: Path, results: Sequence[PointResult], meta: StudyMeta = META) -> str:
    return keep_study(path, meta, results, RESULTS)


def test_merged_studies_give_the_table_of_all_samples(tmp_path: Path) -> None:
    """Halves that overlap are joined, what both have counts once, and the same merge again changes not a byte."""
    shuffled = list(RESULTS)
    random.Random(1).shuffle(shuffled)
    third = len(shuffled) // 3
    first = _store(tmp_path / "a.journal", shuffled[: 2 * third])
    second = _store(tmp_path / "b.journal", shuffled[third:])
    merge = ("merge", first, second, "--storage", "joined.journal", "--out", "joined.yaml")
    done = ccl_dispatch(*merge, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(RESULTS)} visits; of " in done.stdout
    assert f"that were merged {len(RESULTS)} are new" in done.stdout
    bytes_once = (tmp_path / "joined.yaml").read_bytes()
    whole = build_table(META, RESULTS)
    assert load_table(tmp_path / "joined.yaml").cells == whole.cells
    assert bytes_once == render(whole).encode()
    again = ccl_dispatch(*merge, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "that were merged 0 are new" in again.stdout
    assert (tmp_path / "joined.yaml").read_bytes() == bytes_once


def test_studies_of_other_configs_are_joined_by_their_cells(tmp_path: Path) -> None:
    """Two sweeps of one machine, each with cells of its own, become one study; the workload is that of both."""
    results, metas = {}, {}
    for place, cell in enumerate(CELLS):
        results[place] = [result for result in RESULTS if result.cell == cell]
        metas[place] = replace(META, digest=f"sha256:{place}", workload={cell: (((4, 2), 16, 1.0),)})
        grid = SearchSpace({cell.name: tuple(sorted({result.size for result in results[place]}))})
        with open_storage(str(tmp_path / f"{place}.journal"), write=True) as storage:
            study = SweepStudy.create_or_continue(storage, metas[place], RegretSampler(grid, META.candidates))
            for result in results[place]:
                study.add(grid, result)
    done = ccl_dispatch(
        "merge",
        "0.journal",
        "1.journal",
        "--storage",
        "j.journal",
        "--study",
        "both",
        "--out",
        "t.yaml",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    table = load_table(tmp_path / "t.yaml")
    assert [cell.cell for cell in table.cells] == sorted(CELLS)
    assert table.name == "both"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"policy": Policy(0.1, 0.95, "isolated")}, "policy.min_gain: 0.03 against 0.1"),
        ({"platform": META.platform._replace(versions={"torch": "1"})}, 'platform.versions.torch: "0" against "1"'),
        ({"provenance": "measured"}, "provenance: replayed against measured"),
        ({"baseline": "other"}, "baseline: base against other"),
        ({"candidates": ("fast",)}, "candidates: fast, odd against fast"),
        ({"identity": {"measure": {"warmup": 9}}}, 'measure: nothing against {"warmup": 9}'),
    ],
)
def test_what_does_not_belong_together_is_refused(change: dict[str, object], reason: str) -> None:
    """Studies that differ in what a sample means are not joined, and the error says in what they differ."""
    other = replace(META, **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="don't belong together") as caught:
        merged_meta("joined", {"a": META, "b": other})
    assert reason in str(caught.value)


def test_a_refused_merge_leaves_no_storage_behind(tmp_path: Path) -> None:
    """Studies that don't belong together end with 2, and the storage they were to be joined in is not made."""
    first = _store(tmp_path / "a.journal", RESULTS[:4])
    second = _store(tmp_path / "b.journal", RESULTS[4:], replace(META, baseline="odd", candidates=("base", "fast")))
    before = sorted(tmp_path.iterdir())
    for url in ("joined.journal", "sqlite:///joined.db"):
        done = ccl_dispatch("merge", first, second, "--storage", url, folder=tmp_path)
        assert done.returncode == 2
        assert "baseline: base against odd" in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_tables_are_united_only_where_their_cells_differ(tmp_path: Path) -> None:
    """Tables with different cells become one, with the evidence of both; a cell that both have needs samples."""
    tables = {}
    for cell in CELLS:
        table = build_table(META, [result for result in RESULTS if result.cell == cell])
        write_table(table, tmp_path / f"{cell.mode}.yaml")
        tables[f"{cell.mode}.yaml"] = load_table(tmp_path / f"{cell.mode}.yaml")
    done = ccl_dispatch("merge", "eager.yaml", "graph.yaml", "--out", "both.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    both = load_table(tmp_path / "both.yaml")
    assert both.cells == build_table(META, RESULTS).cells
    assert set(both.evidence["merged"]) == {"eager.yaml", "graph.yaml"}
    with pytest.raises(UsageError, match="merge their studies"):
        merged_table({"both.yaml": both, **tables})


def test_what_went_wrong_is_told_of_merged_tables_too() -> None:
    """Faults, slow ranks and the work of others are in the evidence of the tables that were merged, and are read there.

    Tables may be merged again. The share of the processors is the mean over the disturbed visits of all.
    """
    fault = PointFault("odd", "crashed", 1, "killed by signal 11", "", "odd")
    tables = {}
    for place, cell in enumerate(CELLS):
        results = [
            replace(result, condition={"others": 0.5 + 0.2 * place}, faults=(fault,))
            for result in RESULTS
            if result.cell == cell
        ]
        tables[f"{cell.mode}.yaml"] = build_table(META, results)
    both = merged_table({"pair.yaml": merged_table(tables)})
    (one, other) = (disturbed_in_words(table) for table in tables.values())
    visits = len(RESULTS)
    assert f"others used 60% of the processors during at least {visits} of {visits} visits" in disturbed_in_words(both)
    assert "50%" in one
    assert "70%" in other
    assert sum(group.times for group in faults_of(both)) == visits
