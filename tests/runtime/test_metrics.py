"""The optional Prometheus collector."""

from __future__ import annotations

import sys
import threading
import time

from prometheus_client import CollectorRegistry, generate_latest

from ccl_dispatch.runtime import register_metrics
from ccl_dispatch.runtime.counting import Counters, counters, keep
from ccl_dispatch.runtime.vocabulary import Cell


def test_a_scrape_has_every_count() -> None:
    """Two installations of one group are added up; the counter is named and labelled as Prometheus has it."""
    registry = CollectorRegistry()
    register_metrics(registry)
    held = [keep(Counters("rccl", "aiter", "tp:cpu")) for _ in range(2)]
    for one in held:
        one.add_cell(Cell("all_gather", "graph", "first", "bfloat16", 8))[1] += 21
    text = generate_latest(registry).decode()
    labels = 'answer="aiter",collective="all_gather",dim="first",dtype="bfloat16",group="tp:cpu",mode="graph"'
    found = [line for line in text.splitlines() if 'group="tp:cpu"' in line]
    assert len(found) == 1
    name, _, rest = found[0].partition("{")
    assert name == "ccl_dispatch_decisions_total"
    assert sorted(rest.partition("}")[0].split(",")) == sorted([*labels.split(","), 'world_size="8"'])
    assert rest.endswith(" 42.0")


def test_a_registry_gets_the_counts_once() -> None:
    """Registered twice, by an engine and what runs in it, a scrape has each sample once; taken away, it can return."""
    registry = CollectorRegistry()
    collector = register_metrics(registry)
    assert register_metrics(registry) is collector
    assert generate_latest(registry).decode().count("# TYPE ccl_dispatch_decisions_total") == 1
    registry.unregister(collector)
    assert generate_latest(registry) == b""
    register_metrics(registry)
    assert generate_latest(registry).decode().count("# TYPE ccl_dispatch_decisions_total") == 1


def test_counts_are_read_while_another_thread_installs() -> None:
    """A scrape during the start of an engine, which makes its groups one after another, raises nothing."""
    ended = threading.Event()

    def install() -> None:
        while not ended.is_set():
            held = [keep(Counters("rccl", "aiter")) for _ in range(10)]
            del held

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    installing = threading.Thread(target=install)
    installing.start()
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            counters()
    finally:
        ended.set()
        installing.join()
        sys.setswitchinterval(before)
