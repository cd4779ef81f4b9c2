"""Which calls a serving process makes: counted in memory, written to a file of its own every few seconds.

Nothing is decided while recording: the communicator's own check answers every call. Processes never share a file, and a
file is replaced in one step, so a process that is killed leaves the whole file of some seconds before. A sweep config
takes the folder as its `workload` (see docs/serving.md).
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize
from types import MappingProxyType
from typing import Any

from ccl_dispatch.runtime.patience import SECONDS
from ccl_dispatch.runtime.vocabulary import Cell, dtype_name

SCHEMA = "ccl-dispatch/workload/v1"
SUFFIX = ".workload.yaml"
WRITE_SECONDS = 5.0
# Dynamic batches can have any number of shapes; beyond these a call is only counted.
MAX_SHAPES = 4096

Predicate = Callable[[Any], bool]
_Key = tuple[str, Any, tuple[int, ...], int]
NO_VIEWS: Mapping[Any, Any] = MappingProxyType({})

_log = logging.getLogger("ccl_dispatch")


class Recorder:
    """The calls of one process, of however many communicators.

    Args:
        folder: where its file goes; made when it is not there.
    """

    def __init__(self, folder: str) -> None:
        # A host's name and a process id are not unique when containers share a folder.
        name = f"{os.uname().nodename}-{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
        self.path = os.path.join(os.path.abspath(folder), name)
        self._counts: dict[_Key, int] = {}
        self._dropped = [0]
        self._process = os.getpid()
        self._written = -1
        self._warned = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_now_and_then, name="ccl-dispatch-record", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        # A process that multiprocessing has forked, such as a worker of vLLM, runs no exit handlers but these.
        self._finalizer = Finalize(None, self.close, exitpriority=0)

    def watch(
        self, original: Predicate, mode_of: Callable[[], str], ranks: int, views: Mapping[Any, Any] = NO_VIEWS
    ) -> Predicate:
        """A predicate that answers as `original` does and counts the call.

        Args:
            original: the communicator's own check.
            mode_of: the mode of a call that is made now.
            ranks: the world size.
            views: dtypes whose calls run, and count, as those of another one, each with that.
        """
        counts, dropped = self._counts, self._dropped

        def should_custom_ag(inp: Any) -> bool:
            try:
                dtype = inp.dtype
                key = (mode_of(), views.get(dtype, dtype), inp.shape, ranks)
                count = counts.get(key)
                if count is not None:
                    counts[key] = count + 1
                elif len(counts) < MAX_SHAPES:
                    counts[key] = 1
                else:
                    dropped[0] += 1
            except Exception:  # noqa: BLE001 - what can't be counted is still answered
                dropped[0] += 1
            return original(inp)

        return should_custom_ag

    def text(self) -> str:
        """The file's text: one line per kind of call, the most frequent first."""
        found = sorted(_entries(dict(self._counts)).items(), key=lambda item: (-item[1], item[0]))
        lines = [
            "# Calls that one serving process made, recorded by ccl-dispatch; every rank of a group records the same.",
            "# A captured graph is counted when it is captured, not when it is replayed.",
            f"schema: {SCHEMA}",
            f"not_kept: {self._dropped[0]}",
            "calls:" if found else "calls: []",
        ]
        lines += [
            f"  - {{collective: {cell.collective}, mode: {cell.mode}, dim: {cell.dim}, dtype: {cell.dtype}, "
            f"world_size: {cell.world_size}, shape: [{', '.join(map(str, shape))}], calls: {calls}}}"
            for (cell, shape), calls in found
        ]
        return "\n".join(lines) + "\n"

    def write(self) -> bool:
        """Write the file when there is something new; false when that failed, which is warned of once."""
        if self._is_parents():
            return True
        with self._lock:
            seen = sum(self._counts.copy().values()) + self._dropped[0]
            if seen == self._written:
                return True
            part = f"{self.path}.part"
            try:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                with open(part, "w", encoding="utf-8") as file:
                    file.write(self.text())
                os.replace(part, self.path)
            except OSError as problem:
                with contextlib.suppress(OSError):  # a full disk leaves the half of it
                    os.unlink(part)
                if not self._warned:
                    self._warned = True
                    _log.warning(
                        "ccl-dispatch: calls are counted but can't be recorded: %s. It is tried again every %g s; "
                        "another folder is named by $CCL_DISPATCH_RECORD, at the next start",
                        problem,
                        WRITE_SECONDS,
                    )
                return False
            self._written = seen
            return True

    def close(self) -> None:
        """Write what is new and stop writing. May be called twice.

        The thread writes: on a network mount that is dead that never ends, and a process has to.
        """
        if not self._is_parents():
            self._stop.set()
            self._thread.join(SECONDS)
        atexit.unregister(self.close)
        self._finalizer.cancel()

    def _is_parents(self) -> bool:
        """A forked child has its parent's recorder, but the file is the parent's. Asked before any lock is taken: one
        that the parent's thread held when the child was forked is held in the child for ever.
        """
        return os.getpid() != self._process

    def _write_now_and_then(self) -> None:
        while not self._stop.wait(WRITE_SECONDS):
            self.write()
        self.write()


def _entries(counts: dict[_Key, int]) -> dict[tuple[Cell, tuple[int, ...]], int]:
    return {
        (Cell("all_gather", mode, "first", dtype_name(dtype), ranks), tuple(shape)): calls
        for (mode, dtype, shape, ranks), calls in counts.items()
        if all(extent > 0 for extent in shape)
    }


_recorders: dict[tuple[int, str], Recorder] = {}


def recorder_of(folder: str) -> Recorder:
    """This process's recorder into `folder`; a forked child gets one of its own."""
    key = (os.getpid(), os.path.abspath(folder))
    if key not in _recorders:
        _recorders[key] = Recorder(folder)
    return _recorders[key]
