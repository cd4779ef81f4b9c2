"""The counts of decisions for Prometheus. `prometheus_client` is the engine's or the user's, and imported when used."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

from ccl_dispatch.runtime.counting import all_counts

NAME = "ccl_dispatch_decisions"
LABELS = ("group", "collective", "mode", "dim", "dtype", "world_size", "answer")


class DecisionCollector:
    """Gives Prometheus the counter `ccl_dispatch_decisions_total`, read at each scrape; nothing is kept in between."""

    def describe(self) -> list[Any]:
        """The counter without samples, by which a registry knows what it has."""
        return [_family()]

    def collect(self) -> Iterator[Any]:
        """One counter, a sample for each installation, cell and answer."""
        family = _family()
        total: dict[tuple[str, ...], int] = {}
        for label, (cell, answer, calls) in all_counts():
            key = (label, cell.collective, cell.mode, cell.dim, cell.dtype, str(cell.world_size), answer)
            total[key] = total.get(key, 0) + calls
        for labels, calls in sorted(total.items()):
            family.add_metric(labels, calls)
        yield family


def _family() -> Any:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(NAME, "Decisions of ccl-dispatch by cell and answer", labels=LABELS)


# The collector of each registry that has one.
_collectors: weakref.WeakKeyDictionary[Any, DecisionCollector] = weakref.WeakKeyDictionary()


def register_metrics(registry: Any = None) -> DecisionCollector:
    """Add the decisions of this process to a Prometheus registry, the default one when none is given.

    May be called again, by each part of a program that wants them: a registry gets them once.

    Raises:
        ModuleNotFoundError: `prometheus_client` is not installed.
    """
    try:
        from prometheus_client import REGISTRY
    except ModuleNotFoundError as problem:
        raise ModuleNotFoundError(
            "register_metrics() needs prometheus_client: pip install prometheus_client", name=problem.name
        ) from None

    registry = REGISTRY if registry is None else registry
    collector = _collectors.get(registry)
    if collector is None:
        collector = DecisionCollector()
        registry.register(collector)
        _collectors[registry] = collector
    else:
        with contextlib.suppress(ValueError):  # it is there, unless somebody has taken it away
            registry.register(collector)
    return collector
