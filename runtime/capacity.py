"""Communicators whose capacity check is known to the letter, so that its answer can be had without calling it.

AITER's `should_custom_ag` asks, in this order: not disabled, bytes a multiple of 16, weakly contiguous, at most
`max_size / (2 x world size)` bytes. For a contiguous tensor that is a range of sizes and an alignment, which a
predicate can ask together with the table at no further cost; a tensor that is not contiguous is handed to the check
itself. This holds for exactly the source that was read, so it is recognised by a digest over its code: of AITER in any
other version, or where no source is installed, the check is called as it is.
"""

from __future__ import annotations

import inspect
import io
import tokenize
from collections.abc import Callable
from typing import Any, NamedTuple

from ccl_dispatch.runtime.digest import sha256_of

# Digests of `should_custom_ag` and of `is_weak_contiguous`, which it calls: ROCm/aiter from the first commit that has
# the check to e4048607.
AITER_CHECKS = frozenset(("572c8fa8afa5eb75/b9e8c51e9bfc5f43",))
# Of a method that hands its tensor to `self._impl.should_custom_ag`: vLLM 0.33.0.
DELEGATES = frozenset(("b4e14148f4db501a",))

ALIGNMENT = 16


class Capacity(NamedTuple):
    """What a known check comes to for contiguous tensors.

    Attributes:
        state: the object whose `disabled` is asked on each call.
        limit: most bytes per rank; none can be taken when it is negative.
    """

    state: Any
    limit: int


def known_capacity(check: Callable[[Any], bool]) -> Capacity | None:
    """The capacity behind a communicator's own `check`, a bound method; None when it is not a known one."""
    try:
        bound: Any = check
        if code_digest(bound.__func__) in DELEGATES:
            bound = bound.__self__._impl.should_custom_ag  # noqa: SLF001 - vLLM's wrapper names it so
        state, function = bound.__self__, bound.__func__
        helper = function.__globals__.get("is_weak_contiguous")
        if f"{code_digest(function)}/{code_digest(helper)}" not in AITER_CHECKS:
            return None
        ranks, most = state.world_size, state.max_size
        # The check compares with the quotient as a float; the largest whole number not above it is the same bound.
        limit = int(most / (ranks * 2)) if ranks == 2 or state.fully_connected else -1
        return Capacity(state, limit)
    except Exception:  # noqa: BLE001 - whatever is odd about it, it is not the one that is known
        return None


def code_digest(function: Callable[..., Any] | None) -> str:
    """A digest over the words of a function's source, comments and layout left out.

    Raises:
        OSError: its source is not there.
        TypeError: it is no Python function, or one around another.
    """
    if function is None:
        return ""
    if hasattr(function, "__wrapped__"):
        # The source that is found is that of the inner one, and what the outer one adds would not be asked.
        raise TypeError(f"{function.__name__} wraps another function")
    source = inspect.getsource(function)
    # Indented as it may be: tokens of a method's body are the same when it is wrapped in a block.
    lines = io.StringIO(f"if 1:\n{source}" if source[:1].isspace() else source)
    words = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
    tokens = [token.string for token in tokenize.generate_tokens(lines.readline) if token.type in words]
    skip = 3 if source[:1].isspace() else 0
    return sha256_of("\x1f".join(tokens[skip:]).encode())[:16]
