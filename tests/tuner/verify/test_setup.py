"""What is known of a table's measuring: by itself, and by a study that says less or more than this version's own."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_configs import SMALL, full
from made_studies import keep_study, made_study
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.config.parsing import parse_config
from ccl_dispatch.tuner.device import Placement
from ccl_dispatch.tuner.fleet.merging import merged_meta
from ccl_dispatch.tuner.plan import make_plan
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage
from ccl_dispatch.tuner.sweep import study_meta
from ccl_dispatch.tuner.verify import update
from ccl_dispatch.tuner.verify.setup import _not_here, config_of_study, config_of_table

CELL = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 2), 64, [1024], ["aiter"])
TABLE = make_table((CELL,))._replace(baseline="gloo", candidates=("shm",))


def _meta(more: str) -> StudyMeta:
    return study_meta(make_plan(parse_config(f"{SMALL}{more}", "small.yaml")))


def test_how_devices_were_used_is_known_from_the_table() -> None:
    """Ranks that shared a GPU, and host calls in place of graphs: the table's settings name both."""
    cell = make_cell(Cell("all_gather", "graph", "first", "bfloat16", 2), 16, [65536], ["aiter"])
    table = make_table((cell,))
    for shared, host_graphs in ((False, False), (True, False), (False, True)):
        settings = Placement("cuda" if shared else "cpu", shared=shared, host_graphs=host_graphs).settings()
        config = config_of_table(table._replace(platform=table.platform._replace(settings=settings)))
        assert (config.share_devices, config.measure.host_graphs) == (shared, host_graphs)


def test_studies_that_were_merged_tell_how_they_measured() -> None:
    """In what they have in common: the config of one of them, with the shapes of all, whatever sizes each had."""
    metas = [
        _meta(
            f"measure: {{warmup: 3}}\nbackends: {{shm: {{max_size: 1 MiB}}}}\nseed: {seed}\n"
            f"workload: [{{shape: [{rows}, 16], dtype: bfloat16}}]\n"
        )
        for seed, rows in ((1, 3), (2, 5))
    ]
    config = config_of_study(merged_meta("both", {"a": metas[0], "b": metas[1]}), TABLE)
    own = config_of_study(metas[0], TABLE)
    assert [entry.shape for entry in config.workload] == [(3, 16), (5, 16)]
    assert [entry.shape for entry in own.workload] == [(3, 16)]
    assert (own.sizes.minimum, own.sizes.maximum, own.seed, own.measure.warmup) == (64, 1024, 1, 3)
    told = ("collective", "candidates", "timing", "measure", "backends", "device", "share_devices", "world_sizes")
    assert [getattr(config, name) for name in told] == [getattr(own, name) for name in told]


def test_a_study_of_an_older_version_measured_by_the_defaults_of_what_it_did_not_know() -> None:
    """Keys that came later, as `device` did, are as if they were not given."""
    meta = _meta("")
    older = {key: value for key, value in meta.identity.items() if key not in {"device", "share_devices"}}
    older["measure"] = {key: value for key, value in older["measure"].items() if key != "graph_calls"}
    config = config_of_study(replace(meta, identity=older), TABLE)
    assert (config.share_devices, config.measure.graph_calls) == (False, 8)


@pytest.mark.parametrize("key", ["sizes", "measure"])
def test_a_study_that_measured_in_an_unknown_way_wants_a_config(key: str) -> None:
    """A key of a newer version is not passed over: it may change what a sample means."""
    meta = _meta("")
    newer = {**meta.identity, key: {**meta.identity[key], "tail": 0.99}}
    with pytest.raises(UsageError, match=r"study 'small' is of another version .*'tail'.* Give the --config"):
        config_of_study(replace(meta, identity=newer), TABLE)


@pytest.mark.parametrize(
    ("gpus", "told"), [(None, None), (5, None), (4, None), (3, "needs as many GPUs, this process")]
)
def test_a_cell_is_verified_where_its_ranks_have_room(gpus: int | None, told: str | None) -> None:
    """As many as there are GPUs, or any number; and by a config of its collective alone."""
    cell = Cell("all_gather", "eager", "first", "bfloat16", 4)
    reason = _not_here(cell, full(), gpus)
    assert (reason is None) == (told is None)
    assert (told or "") in (reason or "")
    assert _not_here(cell._replace(collective="all_reduce"), full(), gpus) == "c.yaml is for all_gather"


@pytest.mark.parametrize(
    ("ago", "name", "seed", "written", "goes_on"),
    [
        (60, "t", 7, False, True),
        (-60, "t", 7, False, True),
        (2 * update._STALE_SECONDS, "t", 7, False, False),
        (-2 * update._CLOCK_SECONDS, "t", 7, False, False),
        (60, "other", 7, False, False),
        (60, "t", 8, False, False),
        (60, "t", 7, True, False),
    ],
)
def test_an_update_goes_on_that_was_cut_short_lately(
    tmp_path: Path, ago: int, name: str, seed: int, written: bool, goes_on: bool
) -> None:
    """Of the same table with the same config, whose own table was not written; else there is a new one."""
    config = full(seed=7)
    began = time.strftime(update._TIME, time.gmtime(time.time() - ago))
    meta, results = made_study([Cell("all_gather", "eager", "first", "bfloat16", 2)])
    meta = replace(meta, name=f"{name}{update._UPDATE_OF}{began}", identity=full(seed=seed).identity())
    assert update._cut_short(str(tmp_path / "s.journal"), config, "t") is None
    journal = keep_study(tmp_path / "s.journal", meta, results[:1])
    if written:
        with open_storage(journal, write=True) as storage:
            SweepStudy.load(storage, meta.name).study.set_user_attr(update._WRITTEN, "t.yaml")
    assert update._cut_short(journal, config, "t") == (meta.name if goes_on else None)
