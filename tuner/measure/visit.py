"""One visit of a point, as far as faults go: who is suspected, how often, and who pays for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from ccl_dispatch.tuner.measure.fault import WorkerFault
from ccl_dispatch.tuner.samples import PointExclusion, PointFault


class Visit:
    """The faults of one visit, and the candidates that it leaves out.

    A fault is suspected of the candidate that the failing rank was running. While it ran the baseline or nothing,
    nobody is suspected: a candidate may have left its process or its device broken, somebody may have stopped one.

    Attributes:
        faults: in the order of time.
        without: candidates that are left out, and why.
    """

    def __init__(self, without: Mapping[str, PointExclusion], candidates: tuple[str, ...]) -> None:
        self.without = dict(without)
        self.faults: list[PointFault] = []
        #: Runs of collectives that told who is at fault, and gave no samples.
        self.executions: Counter[str] = Counter()
        self._candidates = candidates
        self._suspected: Counter[str] = Counter()
        self._cleared: set[str] = set()

    @property
    def left(self) -> tuple[str, ...]:
        """The candidates that are still measured."""
        return tuple(name for name in self._candidates if name not in self.without)

    @property
    def unexplained(self) -> int:
        """Faults that no exclusion explains."""
        return sum(not fault.blamed for fault in self.faults)

    def note(self, fault: WorkerFault) -> None:
        """Keep a fault, and suspect nobody."""
        self.faults.append(PointFault(fault.backend, fault.reason, fault.rank, fault.detail, fault.tail))

    def suspect(self, fault: WorkerFault) -> tuple[str, int]:
        """Keep a fault: the candidate that it is suspected of, empty for nobody, and how many it has by now."""
        self.note(fault)
        name = fault.backend if fault.backend in self.left else ""
        self._suspected[name] += 1
        return name, self._suspected[name]

    def clear(self, name: str) -> None:
        """The candidate `name` did not fail without the others: whatever fell on it may be theirs."""
        self._cleared.add(name)
        self._suspected[name] = 0

    def is_cleared(self, name: str) -> bool:
        """Whether it was cleared before."""
        return name in self._cleared

    def forgive(self) -> None:
        """Count again from nothing."""
        self._suspected.clear()

    def exclude(self, fault: WorkerFault, name: str) -> PointExclusion:
        """Leave the candidate `name` out, for `fault`, and for what was suspected of it or of those that were cleared.

        Faults of nobody are only put down to it when `fault` is not its own: then it is what they had in common.
        """
        own = fault.backend == name
        detail = f"rank {fault.rank}: {fault.detail}"
        if not own:
            where = f"while {fault.backend} ran" if fault.backend else "between two backends"
            detail += f", {where} in a process that had run {name}; without {name} nothing fails"
        self.without[name] = PointExclusion(name, fault.reason, detail)
        mine = {name, *self._cleared} | (set() if own else {"", fault.backend})
        self.faults = [
            replace(item, blamed=name) if not item.blamed and item.backend in mine else item for item in self.faults
        ]
        return self.without[name]
