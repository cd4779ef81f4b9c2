"""The disagreement matrix: every fault, at world sizes 2 and 4, on each rank in turn, with real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_tables import make_cell, make_table
from ranks import run_ranks

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal, write_table

# Fault of one rank: the state that every rank ends in, where nobody has to wait for a rank that does not come.
PROMPT = {
    "none": "table",
    "missing": "baseline",
    "other": "baseline",
    "corrupt": "baseline",
    "newer": "baseline",
    "attack": "baseline",
    "elsewhere": "baseline",
    "replayed": "baseline",
    "no such world size": "baseline",
    "exception": "baseline",
    "candidate": "baseline",
    "capture mode": "baseline",
    "capture around": "baseline",
    "dtypes": "baseline",
    "strict": "baseline",
    "other world size": "baseline",
    "disabled": "baseline",
    "no communicator": "baseline",
    "no methods": "baseline",
    "frozen": "as it was",
    "late": "table",
}
# Faults that the other ranks learn of by waiting.
WAITED_FOR = ("never", "too late", "off", "record", "misspelt", "no group", "loses the store early")
SECONDS, SHORT = 15.0, 2.0

WORKER = """
import fault_matrix
fault_matrix.main(sys.argv[4])
"""


def _table(up_to: int, world_sizes: tuple[int, ...] = (2, 4), **changes: Any) -> Table:
    cells = tuple(
        make_cell(Cell("all_gather", "eager", "first", "bfloat16", ranks), 16, [up_to], ["aiter"])
        for ranks in world_sizes
    )
    table = make_table(cells)._replace(candidates=("aiter",), provenance="measured", platform=this_platform("cpu", {}))
    return seal(table._replace(**changes))


def _write_tables(folder: Path) -> dict[str, str]:
    elsewhere = this_platform("cpu", {})._replace(architecture="riscv128")
    for name, table in {
        "good": _table(1024),
        "other": _table(2048),
        "elsewhere": _table(1024, platform=elsewhere),
        "replayed": _table(1024, provenance="replayed"),
        "no such world size": _table(1024, (8,)),
    }.items():
        write_table(table, folder / f"{name}.yaml")
    good = (folder / "good.yaml").read_text()
    (folder / "corrupt.yaml").write_text(good.replace("1024", "1040"))
    (folder / "newer.yaml").write_text(good.replace("table/v1", "table/v2"))
    (folder / "attack.yaml").write_text(good.replace("name: made", "name: &a [*a, !!python/object:os.system {}]"))
    names = ("good", "other", "elsewhere", "replayed", "no such world size", "corrupt", "newer", "attack", "missing")
    return {"folder": str(folder / "recorded"), **{name: str(folder / f"{name}.yaml") for name in names}}


def _cases(fault: str, timeout: float) -> dict[str, dict[str, Any]]:
    return {
        f"{fault}/{ranks}/{rank}": {"fault": fault, "world_size": ranks, "rank": rank, "timeout": timeout}
        for ranks in (2, 4)
        for rank in range(ranks)
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By case, what each of its ranks says of itself."""
    folder = tmp_path_factory.mktemp("matrix")
    waited_for: dict[str, Any] = {}
    for fault in (*WAITED_FOR, "loses the store late"):
        waited_for |= _cases(fault, SHORT)
    batches = [*(_cases(fault, SECONDS if fault != "late" else 3 * SHORT) for fault in PROMPT), waited_for]
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"tables": _write_tables(folder), "batches": batches}))
    told = [json.loads(output) for output in run_ranks(WORKER, 4, str(plan), timeout=120.0)]
    return {
        name: [told[rank][name] for rank in range(case["world_size"])]
        for batch in batches
        for name, case in batch.items()
    }


def _of(results: dict[str, list[dict[str, Any]]], fault: str) -> dict[str, list[dict[str, Any]]]:
    found = {name: ranks for name, ranks in results.items() if name.split("/")[0] == fault}
    assert len(found) == 6, "world sizes 2 and 4, each rank in turn"
    return found


@pytest.mark.parametrize("fault", PROMPT)
def test_every_rank_ends_in_one_state(results: dict[str, list[dict[str, Any]]], fault: str) -> None:
    """Whichever rank has the fault, all end in the state that it calls for, at once, and one of them says why."""
    for name, ranks in _of(results, fault).items():
        assert [rank["state"] for rank in ranks] == [PROMPT[fault]] * len(ranks), (name, ranks)
        told = [line for rank in ranks for line in rank["told"]]
        assert len(told) == (PROMPT[fault] != "table"), (name, told)
        assert all(rank["seconds"] < SECONDS for rank in ranks), name
        assert len({rank["reason"] for rank in ranks}) == 1, "all know the same reason"


@pytest.mark.parametrize("fault", WAITED_FOR)
def test_a_rank_that_does_not_come_leaves_all_as_they_were(
    results: dict[str, list[dict[str, Any]]], fault: str
) -> None:
    """Without one rank's word the others change nothing, since it may be one that never will: after the time limit,
    with one warning of the ranks that waited, and no rank is apart, also not one that comes later.
    """
    for name, ranks in _of(results, fault).items():
        faulty = int(name.rpartition("/")[2])
        assert [rank["state"] for rank in ranks] == ["as it was"] * len(ranks), (name, ranks)
        waited = [line for number, rank in enumerate(ranks) if number != faulty for line in rank["told"]]
        assert len(waited) == 1, (name, waited)
        assert f"rank {faulty} did not" in waited[0]
        # A rank that can't reach the others has to tell by itself; one that is late finds it told.
        own = 1 if fault in ("no group", "misspelt", "loses the store early") else 0
        assert len(ranks[faulty]["told"]) == own, (name, ranks[faulty])
        assert all(rank["seconds"] < 2 * SHORT + 2 for rank in ranks), (name, ranks)


def test_a_rank_that_loses_the_store_at_the_last_moment_says_so(results: dict[str, list[dict[str, Any]]]) -> None:
    """The one case in which ranks can be apart: the store is lost between "read it" and the final word. Such a rank
    stays as it was and logs an error that asks for a restart; the others agree with each other.
    """
    for name, ranks in _of(results, "loses the store late").items():
        faulty = int(name.rpartition("/")[2])
        assert ranks[faulty]["state"] == "as it was"
        assert [line.split()[0] for line in ranks[faulty]["told"]] == ["ERROR"]
        assert "restart the job" in ranks[faulty]["told"][0]
        assert len({rank["state"] for number, rank in enumerate(ranks) if number != faulty}) == 1
