"""Questions that no table can answer, since whoever wrote them meant something else: a word or a number that is none.

The answer is the baseline, with one warning for each mistake; strict mode raises. What is asked and merely not in the
table (another dtype, a size that was not measured) is no mistake and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from ccl_dispatch.runtime.errors import UsageError

# Mistakes that were told, by what was asked for and what was found. Bounded, whatever a process asks.
_MOST = 100
_told: set[tuple[str, str]] = set()


def no_such(what: str, found: object, known: Iterable[str], *, strict: bool) -> None:
    """Tell that `found` is no `what`, with the word that was probably meant.

    Raises:
        UsageError: strict.
    """
    if _to_tell(what, found, strict):
        from ccl_dispatch.runtime.document import nearest

        _tell(f"there is no {what} {_shown(found)}. {nearest(str(found), known)}", strict)


def no_whole_number(what: str, found: object, example: str, *, strict: bool) -> None:
    """Tell that `found` is no whole number; `example` shows what `what` should have been.

    Raises:
        UsageError: strict.
    """
    if _to_tell(what, found, strict):
        _tell(
            f"{what} is {_shown(found)}, a {type(found).__name__}: expected a whole number, such as {example}", strict
        )


def _to_tell(what: str, found: object, strict: bool) -> bool:
    """Whether this is to be told. Asked first: finding the nearest word takes milliseconds."""
    key = (what, _shown(found))
    if strict:
        return True
    if key in _told or len(_told) >= _MOST:
        return False
    _told.add(key)
    return True


def _tell(message: str, strict: bool) -> None:
    if strict:
        raise UsageError(message)
    import logging  # a third of what importing the runtime costs, and seldom needed

    logging.getLogger("ccl_dispatch").warning(
        "ccl-dispatch: %s Such calls use the baseline; this is told once",
        message if message.endswith("?") else f"{message.rstrip('.')}.",
    )


def _shown(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."
