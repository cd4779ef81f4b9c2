"""Samples of a visit whose trial was taken back meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_studies import made_study
from optuna.storages import InMemoryStorage

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import Node, Storage, StudyWorker, SweepStudy
from ccl_dispatch.tuner.study.claims import Claim
from ccl_dispatch.tuner.study.patience import PatientStorage

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
META, RESULTS = made_study([CELL])
SPACE = SearchSpace({CELL.name: tuple(result.size for result in RESULTS)})


@pytest.mark.parametrize("provenance", ["measured", "replayed"])
@pytest.mark.parametrize("again", ["same", "next", "elsewhere"])
def test_only_what_is_replayed_again_is_not_kept(provenance: str, again: str) -> None:
    """Measured samples are kept, whoever measured the point instead. Replayed visits of one number are the same draws:
    of them one is kept, and both of two numbers, or of two points.
    """
    meta = replace(META, provenance=provenance)
    storage = Storage("memory", PatientStorage(InMemoryStorage()), exclusive=False)
    study = SweepStudy.create_or_continue(storage, meta, RegretSampler(SPACE, meta.candidates))
    first, other = RESULTS[:2]
    with StudyWorker(study, SPACE, Node("here", grace=600)) as worker:
        if again == "next":
            worker.record(_taken(worker, first.size), first)
        claim = _taken(worker, first.size)
        if again == "next":
            assert claim.visit == 1
        study.settle(study.trials()[claim.number], "taken back")
        if again != "next":
            instead = _taken(worker, first.size if again == "same" else other.size)
            assert instead.visit == claim.visit
            worker.record(instead, first if again == "same" else other)
        worker.record(claim, replace(first, wall_seconds=9.0))
    assert len(study.results()) == (1 if (provenance, again) == ("replayed", "same") else 2)


def _taken(worker: StudyWorker, size: int) -> Claim:
    claim = worker.take(CELL.name, size, 1, {})
    assert claim is not None
    return claim
