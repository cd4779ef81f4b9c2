"""The optional Prometheus collector."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from ccl_dispatch.runtime import register_metrics
from ccl_dispatch.runtime.counting import Counters, keep
from ccl_dispatch.runtime.vocabulary import Cell


def test_a_scrape_has_every_count() -> None:
    """Two installations of one group are added up; the counter is named and labelled as Prometheus has it."""
    registry = CollectorRegistry()
    register_metrics(registry)
    held = [keep(Counters("rccl", "aiter", "tp:cpu")) for _ in range(2)]
    for counters in held:
        counters.add_cell(Cell("all_gather", "graph", "first", "bfloat16", 8))[1] += 21
    text = generate_latest(registry).decode()
    labels = 'answer="aiter",collective="all_gather",dim="first",dtype="bfloat16",group="tp:cpu",mode="graph"'
    found = [line for line in text.splitlines() if 'group="tp:cpu"' in line]
    assert len(found) == 1
    name, _, rest = found[0].partition("{")
    assert name == "ccl_dispatch_decisions_total"
    assert sorted(rest.partition("}")[0].split(",")) == sorted([*labels.split(","), 'world_size="8"'])
    assert rest.endswith(" 42.0")
