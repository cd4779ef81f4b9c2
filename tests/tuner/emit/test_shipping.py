"""What may lie in tables/: each defect keeps a table out, and all that lie there are without any."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_studies import made_study

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.find import search
from ccl_dispatch.runtime.platform import judge
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.shipping import shipped_name, shipping_problems
from ccl_dispatch.tuner.emit.text import seal, write_table
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import SweepStudy, open_storage

TABLES = Path(__file__).parents[3] / "tables"
SHIPPED = sorted([*TABLES.glob("*.yaml"), *(TABLES / "examples").glob("*.yaml")])
EXAMPLE = TABLES / "examples" / "x86_64-host_memory-2.yaml"
CELL = Cell("all_gather", "eager", "first", "bfloat16", 8)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, Path]:
    """A table that would be shipped if its figures were not made up, and the journal of its study."""
    meta, results = made_study([CELL])
    platform = meta.platform._replace(device_type="cuda", architecture="gfx942:sramecc+", link="XGMI")
    meta = replace(meta, provenance="measured", platform=platform)
    results = [replace(result, measured_at="2026-01-01T00:00:00Z") for result in results]
    space = SearchSpace({CELL.name: tuple(sorted(result.size for result in results))})
    journal = tmp_path_factory.mktemp("good") / "study.journal"
    with open_storage(str(journal), write=True) as storage:
        study = SweepStudy.create_or_continue(storage, meta, RegretSampler(space, meta.candidates))
        for result in results:
            study.add(space, result)
    return build_table(meta, results), journal


def _shipped(folder: Path, table: Table, journal: Path) -> Path:
    path = folder / "gfx942-xgmi-8.yaml"
    write_table(seal(table), path)
    shutil.copyfile(journal, path.with_suffix(".journal"))
    return path


def test_a_measured_table_with_its_samples_may_be_shipped(tmp_path: Path, good: tuple[Table, Path]) -> None:
    """Nothing is said of it, and `validate --shipped` ends with 0."""
    path = _shipped(tmp_path, *good)
    assert shipped_name(good[0]) == path.name
    assert shipping_problems(path) == []
    assert ccl_dispatch("validate", "--shipped", path.name, folder=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table._replace(provenance="replayed"), "only measured tables are shipped"),
        (lambda table: table._replace(evidence={"note": "x"}), "evidence has no study, config_digest"),
        (lambda table: table._replace(evidence={**table.evidence, "samples": 0}), "evidence has no samples"),
        (
            lambda table: table._replace(evidence={**table.evidence, "executions": {"base": 1}}),
            "executions has none of fast",
        ),
        (lambda table: table._replace(platform=table.platform._replace(versions={})), "platform has no versions"),
        (lambda table: table._replace(platform=table.platform._replace(device="")), "platform has no device"),
        (lambda table: table._replace(platform=table.platform._replace(link="PCIe")), "called gfx942-pcie-8.yaml"),
        (lambda table: table._replace(cells=()), "it has no cells"),
    ],
)
def test_each_defect_is_told(
    tmp_path: Path, good: tuple[Table, Path], change: Callable[[Table], Table], words: str
) -> None:
    """A table with one thing missing is refused for that, and `validate --shipped` ends with 1 and says it."""
    path = _shipped(tmp_path, change(good[0]), good[1])
    assert [problem for problem in shipping_problems(path) if words in problem]
    done = ccl_dispatch("validate", "--shipped", path.name, folder=tmp_path)
    assert done.returncode == 1
    assert words in done.stdout


def test_an_unknown_platform_has_no_name_to_be_called_by(tmp_path: Path, good: tuple[Table, Path]) -> None:
    """A table without a platform, an imported one say, is not told to be called after it."""
    nothing = good[0].platform._replace(architecture="", device="", device_count=0, link="", versions={})
    problems = shipping_problems(_shipped(tmp_path, good[0]._replace(platform=nothing), good[1]))
    assert [problem for problem in problems if "nobody can tell which machines it is for" in problem]
    assert not [problem for problem in problems if "called" in problem]


def test_the_samples_must_be_those_of_the_table(tmp_path: Path, good: tuple[Table, Path]) -> None:
    """Without its journal, with a broken one, and with one of another number of points a table is refused."""
    path = _shipped(tmp_path, *good)
    journal = path.with_suffix(".journal")
    journal.unlink()
    assert shipping_problems(path) == [
        "its samples are missing: put the study's journal beside it, as gfx942-xgmi-8.journal"
    ]
    journal.write_text("no journal\n")
    assert "its samples can't be read: " in shipping_problems(path)[0]
    whole = good[1].read_text().splitlines(keepends=True)
    journal.write_text("".join(whole[:-1]))
    assert shipping_problems(path) == [
        "evidence and the samples in gfx942-xgmi-8.journal differ in collective_seconds, executions, samples, trials"
    ]


def test_another_form_of_the_same_table_is_not_canonical(tmp_path: Path, good: tuple[Table, Path]) -> None:
    """A comment more changes no meaning and no digest, and is refused all the same."""
    path = _shipped(tmp_path, *good)
    path.write_text("# mine\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert shipping_problems(path) == [
        "not in the form that this version writes: write it again with `ccl-dispatch build`"
    ]
    path.write_bytes(b"\xff")
    with pytest.raises(TableError, match="not UTF-8"):
        shipping_problems(path)


def test_every_table_in_the_folder_may_be_shipped() -> None:
    """Of all tables of the repository, the example among them, none has a problem."""
    assert EXAMPLE in SHIPPED
    assert [(path.name, problems) for path in SHIPPED if (problems := shipping_problems(path))] == []


def test_the_example_takes_over_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the very machine that it was measured on, serving does not find the example: only who names it gets it."""
    example = load_table(EXAMPLE)
    assert judge(example, example.platform).fits
    found = search({"HOME": "/nowhere"}, lambda _: example.platform)
    assert str(TABLES) in found.folders
    assert found.table is None
    assert str(EXAMPLE) not in [item.path for item in found.considered]
    named = search({"CCL_DISPATCH_TABLE": str(EXAMPLE)}, lambda _: example.platform)
    assert named.table is not None
    assert named.table.digest == example.digest
