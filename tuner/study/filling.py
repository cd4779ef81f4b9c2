"""Samples that come into a study from elsewhere: each visit counts once, however often it was brought in.

Who brings samples in looks first which of them are there. Two that do so at once both find them missing, a storage that
did not confirm what it kept is asked again, and a trial that is finished can't be taken back. So it is the readers that
count: of copies, which have the same samples and the same number of a visit, the first one alone. That holds for every
storage, needs no lock that a killed process could leave, and makes copies harmless that were kept before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search.base import COPY, VISIT

# Of a study, with a digest behind it: a verb that is bringing samples in, from where, from before the first one until
# all are there. An attribute for each, so that two at once don't overwrite each other's.
_FILLING = "filling"
_DIGITS = 16

Recorded = tuple[FrozenTrial, PointResult]


def fingerprint(result: PointResult, attributes: Mapping[str, Any]) -> str:
    """What tells one visit from another, the same in every copy of it; `attributes` of its trial."""
    text = json.dumps([result.to_json(), *_place(attributes)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def without_copies(recorded: Sequence[Recorded]) -> list[Recorded]:
    """Of the recorded points of a study, in the order of their trials, those that are not copies of an earlier one."""
    # Only where several say that they are the same visit to the same point their samples are looked at.
    groups = Counter(_visit(trial, result) for trial, result in recorded)
    seen: set[str] = set()
    first = []
    for trial, result in recorded:
        if groups[_visit(trial, result)] > 1:
            mark = fingerprint(result, trial.user_attrs)
            if mark in seen:
                continue
            seen.add(mark)
        first.append((trial, result))
    return first


def _visit(trial: FrozenTrial, result: PointResult) -> Hashable:
    return (result.cell, result.size, *map(str, _place(trial.user_attrs)))


def _place(attributes: Mapping[str, Any]) -> tuple[Any, Any]:
    return attributes.get(VISIT), attributes.get(COPY)


@contextlib.contextmanager
def filled_by(study: optuna.Study, verb: str, sources: Iterable[str]) -> Iterator[None]:
    """Within it samples are brought in; where that is cut short the study says so until it is done again."""
    mark = f"{verb} of {', '.join(sorted(sources))}"
    key = f"{_FILLING}:{hashlib.sha256(mark.encode()).hexdigest()[:_DIGITS]}"
    study.set_user_attr(key, mark)
    yield
    study.set_user_attr(key, "")
    # One list was for all of them once.
    if mark in (before := study.user_attrs.get(_FILLING) or []):
        study.set_user_attr(_FILLING, [other for other in before if other != mark])


def cut_short(study: optuna.Study) -> list[str]:
    """What was begun by `filled_by` and has not been done; it may still be at work."""
    attributes = study.user_attrs
    marks = [str(mark) for key, mark in attributes.items() if key.startswith(f"{_FILLING}:") and mark]
    return sorted({*marks, *(attributes.get(_FILLING) or ())})
