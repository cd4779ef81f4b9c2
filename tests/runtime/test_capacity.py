"""The checks that are known to the letter: which ones, and what they come to for plain tensors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from known_check import Known, digests

from ccl_dispatch.runtime import capacity
from ccl_dispatch.runtime.capacity import code_digest, known_capacity


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of `Known` counts as one whose source was read."""
    monkeypatch.setattr(capacity, "AITER_CHECKS", digests())


def test_only_the_very_source_is_known(known: None) -> None:
    """A subclass with a check of its own, a function, a check with another word in it: all are called."""

    class Other(Known):
        def should_custom_ag(self, inp: torch.Tensor) -> bool:
            return inp.numel() < 100

    found = known_capacity(Known().should_custom_ag)
    assert found is not None
    assert found.limit == (1 << 20) // 8
    assert known_capacity(Other().should_custom_ag) is None
    assert known_capacity(lambda inp: True) is None
    assert known_capacity(torch.zeros(1).numel) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
@pytest.mark.parametrize("connected", [False, True])
def test_a_known_capacity_is_what_the_check_itself_takes(known: None, ranks: int, connected: bool) -> None:
    """For every aligned size around the limit, also where that is no whole number: as the check says, which of more
    than two ranks that are not all linked takes none.
    """
    for most in (0, 16 * ranks, 64 * ranks - 1, 64 * ranks, 64 * ranks + 1):
        communicator = Known(most, ranks, fully_connected=connected)
        found = known_capacity(communicator.should_custom_ag)
        assert found is not None
        assert found.state is communicator
        for size in range(0, 80, 16):
            assert (size <= found.limit) == communicator.should_custom_ag(torch.zeros(size, dtype=torch.uint8)), (
                most,
                size,
            )


def _module(path: Path, text: str) -> Any:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_layout_and_comments_are_no_part_of_a_digest(tmp_path: Path) -> None:
    """The words of a function count, be it a method or not, and nothing else of its source; its first and its last
    word as well.
    """
    plain = _module(tmp_path / "plain.py", "def first(x):\n    return x + 1\n")
    method = (
        "class A:\n  class B:\n    # a comment\n    def first( x ):\n      # another\n      return (x\n        + 1)\n"
    )
    within = _module(tmp_path / "within.py", method.replace("(x\n", "x \\\n").replace("1)", "1  # one"))
    assert code_digest(plain.first) == code_digest(within.A.B.first)
    assert len(code_digest(plain.first)) == 16
    assert code_digest(None) == ""
    others = (
        "async def first(x):\n    return x + 1",
        "def other(x):\n    return x + 1",
        "def first(x):\n    return x + 2",
    )
    digests = {code_digest(plain.first)}
    for number, text in enumerate((*others, "def first(x):\n    return x + 1.0", "def first(x):\n    return x - 1")):
        module = _module(tmp_path / f"other{number}.py", text + "\n")
        digests.add(code_digest(getattr(module, "first", None) or module.other))
    assert len(digests) == 6
