"""Verbs that bring samples in, interrupted: what is there by then is told from the whole, and a repeat completes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from interrupting import interrupt, interrupted_at
from made_studies import made_study

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.cli import main
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import SweepStudy, open_storage

MOMENTS = 25
COLUMNS = "collective,mode,dtype,world_size,shape,bytes,backend,latency_us,platform"


def _imported(folder: Path) -> list[str]:
    """A CSV of 12 points, and the words that import it."""
    rows = [
        f"all_gather,eager,bfloat16,8,{1 << step}x128,{256 << step},{backend},{latency + step},MI300X"
        for step in range(12)
        for backend, latency in (("rccl", 20), ("aiter", 5))
    ]
    (folder / "m.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    return ["import", str(folder / "m.csv"), "--baseline", "rccl"]


def _merged(folder: Path) -> list[str]:
    """Two studies of other cells, and the words that merge them."""
    sources = []
    for mode in ("eager", "graph"):
        cell = Cell("all_gather", mode, "first", "bfloat16", 8)
        meta, results = made_study([cell], visits=1)
        grid = SearchSpace({cell.name: tuple(sorted({result.size for result in results}))})
        sources.append(str(folder / f"{mode}.journal"))
        with open_storage(sources[-1], write=True) as storage:
            study = SweepStudy.create_or_continue(
                storage, replace(meta, digest=f"sha256:{mode}"), RegretSampler(grid, meta.candidates)
            )
            for result in results[:6]:
                study.add(grid, result)
    return ["merge", *sources]


def test_each_that_was_cut_short_is_remembered(tmp_path: Path) -> None:
    """What one verb brings in to its end says nothing of another one that was cut short."""
    meta, results = made_study([Cell("all_gather", "eager", "first", "bfloat16", 8)], visits=1)
    space = SearchSpace({results[0].cell.name: tuple(sorted({result.size for result in results}))})
    with open_storage(str(tmp_path / "s.journal"), write=True) as storage:
        study = SweepStudy.create_or_continue(storage, meta, RegretSampler(space, meta.candidates))
        study.add(space, results[0])
        with pytest.raises(KeyboardInterrupt), study.filled_by("merge", ["b", "a"]):
            raise KeyboardInterrupt
        with study.filled_by("merge", ["c"]):
            assert "merge of" in study.unfinished()
        assert study.unfinished().startswith("The merge of a, b was cut short")
        with study.filled_by("merge", ["a", "b"]):
            pass
        assert study.unfinished() == ""


# An interrupt between the opening of a file and its `with` leaves it to be closed by the one who collects it.
@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("prepare", [_imported, _merged])
def test_what_was_cut_short_is_known_and_completed(
    prepare: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted at moments from its first line to its last, it is done by the same command again.

    Until then `build` says that there is more to come, or has nothing to build from; afterwards its table is the one
    of an import or a merge that nobody interrupted.
    """
    words = prepare(tmp_path)
    storages = (str(tmp_path / f"{number}.journal") for number in range(1000))

    def built(storage: str) -> tuple[int, str, bytes]:
        capsys.readouterr()
        out = tmp_path / "t.yaml"
        out.unlink(missing_ok=True)
        code = main(["build", "--storage", storage, "--out", str(out)])
        return code, "".join(capsys.readouterr()), out.read_bytes() if out.exists() else b""

    whole = next(storages)
    assert main([*words, "--storage", whole]) == 0
    code, told, table = built(whole)
    assert code == 0
    assert "has not ended" not in told
    with interrupted_at() as trace:
        assert main([*words, "--storage", next(storages)]) == 0
    parts = 0
    for moment in range(20, trace.lines, trace.lines // MOMENTS):
        storage = next(storages)
        _, raised = interrupt(partial(main, [*words, "--storage", storage]), moment)
        assert raised is None  # the command line answers it
        code, told, part = built(storage)
        assert part == table or code == 2 or "same command again completes it" in told, (moment, told)
        parts += part not in (table, b"")
        assert main([*words, "--storage", storage]) == 0, moment
        assert built(storage) == (0, built(whole)[1], table)
    assert parts > 3
