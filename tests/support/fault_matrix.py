"""One rank of the disagreement matrix: runs every case of a JSON file, several at once, and prints what came of each.

A case is a fault, a world size, and which of its ranks has the fault. All its ranks call `install` (but for those whose
fault is not to), each on a communicator of its own, over a store that no other case uses.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from ccl_dispatch.runtime import Modes, installation, telling
from ccl_dispatch.runtime.errors import InstallError

SMALL, LARGE = torch.zeros(64, dtype=torch.bfloat16), torch.zeros(65536, dtype=torch.bfloat16)
STATES = {(True, True): "as it was", (False, False): "baseline", (True, False): "table"}


class Communicator:
    """Takes every tensor: then `should_custom_ag` tells the three states apart."""

    def __init__(self, ranks: int) -> None:
        self.world_size = ranks
        self.disabled = False
        self._IS_CAPTURING = False

    def should_custom_ag(self, inp: torch.Tensor) -> bool:
        return not self.disabled


class Frozen(Communicator):
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "should_custom_ag":
            raise AttributeError("frozen")
        super().__setattr__(name, value)


class Broken:
    """Stands for a table's file and fails in a way that no loader expects."""

    def __fspath__(self) -> str:
        raise ZeroDivisionError("an accident")


class LosingStore:
    """The shared store, until the operation `at` on a key that has `word` in it: from then on it is gone."""

    def __init__(self, store: Any, at: str, word: str) -> None:
        self._store, self._at, self._word, self._lost = store, at, word, False

    def __getattr__(self, name: str) -> Any:
        def operation(key: Any, *rest: Any) -> Any:
            self._lost = self._lost or (name == self._at and self._word in str(key))
            if self._lost:
                raise RuntimeError("connection reset by peer")
            return getattr(self._store, name)(key, *rest)

        return operation


class Never(set):  # type: ignore[type-arg]
    """Remembers nothing: the cases of the matrix must not hush each other's warnings."""

    def __contains__(self, item: object) -> bool:
        return False


class Warnings(logging.Handler):
    """What was logged in each case's thread, by level."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.by_thread: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.by_thread.setdefault(str(record.threadName), []).append(f"{record.levelname} {record.getMessage()}")


def run_case(case: dict[str, Any], rank: int, store: Any, tables: dict[str, str]) -> dict[str, Any]:
    """This rank's part of one case; the state it ends in, and whether a table is in use."""
    fault = case["fault"] if rank == case["rank"] else ""
    ranks = case["world_size"]
    communicator: Any = Frozen(ranks) if fault == "frozen" else Communicator(ranks)
    asked = communicator
    group = SimpleNamespace(store=store, rank=rank, world_size=ranks)
    options: dict[str, Any] = {"timeout": case["timeout"], "environ": {}}
    source: Any = tables.get(fault, tables["good"])
    if fault in ("off", "record", "strict", "misspelt"):
        options["environ"] = {"CCL_DISPATCH": fault, "CCL_DISPATCH_RECORD": tables["folder"]}
    elif fault == "exception":
        source = Broken()
    elif fault == "candidate":
        options["candidate"] = "other"
    elif fault == "capture mode":
        options["modes"] = Modes("graph_copy_in")
    elif fault == "capture around":
        options["modes"] = Modes("graph", around=SimpleNamespace(_IS_CAPTURING=False))
    elif fault == "dtypes":
        options["modes"] = Modes("graph", views=(("int32", "float32"),))
    elif fault == "disabled":
        communicator.disabled = True
    elif fault == "no communicator":
        asked = None
    elif fault == "no methods":
        asked = object()
    elif fault == "other world size":
        communicator.world_size = ranks + 1
    elif fault == "no group":
        group = SimpleNamespace(rank=rank)
    elif fault == "late":
        time.sleep(case["timeout"] / 3)
    elif fault == "too late":
        time.sleep(3 * case["timeout"])
    elif fault == "loses the store early":
        group.store = LosingStore(store, "check", "claim")
    elif fault == "loses the store late":
        group.store = LosingStore(store, "check", "read")
    begun = time.monotonic()
    if fault == "never":
        return {"state": "as it was", "seconds": 0.0}
    try:
        reason = installation.install(asked, source, group, **options).reason
    except InstallError as problem:
        reason = str(problem).partition("; ")[2]
    seconds = time.monotonic() - begun
    if fault in ("disabled", "no communicator", "no methods"):
        return {"state": "baseline", "seconds": seconds, "reason": reason}
    answers = (communicator.should_custom_ag(SMALL), communicator.should_custom_ag(LARGE))
    return {"state": STATES[answers], "seconds": seconds, "reason": reason}


def main(path: str) -> None:
    """Run the file's batches one after another, the cases of a batch side by side; print the results as JSON."""
    with open(path, encoding="utf-8") as file:
        plan = json.load(file)
    telling._told = Never()
    warnings = Warnings()
    logging.getLogger("ccl_dispatch").addHandler(warnings)
    base, rank = dist.distributed_c10d._get_default_store(), dist.get_rank()
    results: dict[str, Any] = {}
    for batch in plan["batches"]:
        dist.barrier()

        def run(name: str, case: dict[str, Any]) -> None:
            store = dist.PrefixStore(f"matrix/{name}", base)
            results[name] = run_case(case, rank, store, plan["tables"])

        threads = [
            threading.Thread(target=run, args=(name, case), name=name)
            for name, case in batch.items()
            if rank < case["world_size"]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name, result in results.items():
        result["told"] = warnings.by_thread.get(name, [])
    print(json.dumps(results))  # noqa: T201 - the parent reads it
