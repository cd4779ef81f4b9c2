"""The error tree: what processes and copies keep of an error."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ccl_dispatch.runtime import errors, load_table
from ccl_dispatch.runtime.errors import AbsentTableError, CclDispatchError, TableError
from ccl_dispatch.tuner.measure.fault import WorkerFault
from ccl_dispatch.tuner.verify.reference import ReferenceFileError


def _tree(kind: type[CclDispatchError]) -> Iterator[type[CclDispatchError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


KINDS = [*_tree(CclDispatchError)]


def _made(kind: type[CclDispatchError]) -> CclDispatchError:
    """One with a value for every parameter that its class has."""
    given: dict[str, Any] = {
        "source": "größe.yaml",
        "line": 7,
        "key": "cells[2].bands",
        "fix": "Write two",
        "others": True,
        "rank": 3,
        "backend": "shm",
        "log": Path("rank3.log"),
    }
    if not any("__init__" in vars(above) for above in kind.__mro__ if issubclass(above, CclDispatchError)):
        return kind("2 found where 3 was expected")
    named = inspect.signature(kind).parameters
    return kind(**{name: given.get(name, f"some {name}") for name in named})


def test_the_tree_is_whole() -> None:
    """Every error of the module is looked at, and those that the tuner derives as well."""
    own = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert {*own, WorkerFault, ReferenceFileError} <= {*KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_elsewhere(kind: type[CclDispatchError]) -> None:
    """Pickled in any protocol, or copied: kind, message, attributes, notes and exit code are those of the original."""
    error = _made(kind)
    error.exit_code = 3
    error.__dict__["__notes__"] = ["on rank 3"]  # what `add_note` of Python 3.11 sets
    others = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]  # noqa: S301
    for other in (*others, copy.copy(error), copy.deepcopy(error)):
        assert type(other) is kind
        assert str(other) == str(error)
        assert vars(other) == vars(error)
        assert other.args == error.args
        assert other.exit_code == 3


def test_a_process_of_a_pool_raises_what_its_caller_gets() -> None:
    """A table that a pool's process can't load is the caller's error, at once, as if it had been loaded here."""
    # Not forked: this process has threads of numpy and torch.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with pytest.raises(TableError) as found:
            pool.apply_async(load_table, ("nope.yaml",)).get(30)
        assert (found.value.source, found.value.exit_code) == ("nope.yaml", 2)
    assert pickle.loads(pickle.dumps(AbsentTableError("none", others=True))).others is True  # noqa: S301
