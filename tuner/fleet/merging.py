"""Studies joined by their samples, and tables whose cells lie side by side: what belongs together, what does not."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from ccl_dispatch.runtime.errors import StorageError, UsageError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.version import version
from ccl_dispatch.tuner.config.model import differences
from ccl_dispatch.tuner.emit.text import seal
from ccl_dispatch.tuner.evidence.merged import MERGED
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search.base import CELL, COPY, VISIT, SearchSpace
from ccl_dispatch.tuner.study.claims import COMMON, NODE, OWNER, RANKS
from ccl_dispatch.tuner.study.filling import fingerprint
from ccl_dispatch.tuner.study.meta import StudyMeta
from ccl_dispatch.tuner.study.sweep_study import SweepStudy, is_recorded

# What goes with a trial into another study.
_KEPT = (OWNER, NODE, RANKS, VISIT, COPY, COMMON)
# Of a config's identity these say which points were wanted, and not what a sample of one means.
_WANTED = ("world_sizes", "dtypes", "modes", "dims", "sizes", "workload", "seed")


class Sample(NamedTuple):
    """A recorded point, and what is kept of its trial."""

    result: PointResult
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    attributes: Mapping[str, Any]


def samples_of(study: SweepStudy, damaged: Callable[[str], None] | None = None) -> list[Sample]:
    """All that a study holds, each visit once, in the order of its trials.

    Args:
        damaged: told of each trial whose samples are damaged, which is left out; without it they are an error.

    Raises:
        StorageError: samples are damaged.
    """
    return [
        Sample(
            result,
            trial.params,
            trial.distributions,
            {key: trial.user_attrs[key] for key in _KEPT if key in trial.user_attrs},
        )
        for trial, result in study.visits(_whole(study, damaged) if damaged else None)
    ]


def _whole(study: SweepStudy, damaged: Callable[[str], None]) -> Iterator[FrozenTrial]:
    for trial in study.trials():
        if is_recorded(trial):
            try:
                study.result_of(trial)
            except StorageError as problem:
                damaged(f"trial {trial.number}: {problem.__cause__}")
                continue
        yield trial  # also of another version, which is refused


def merged_meta(name: str, metas: Mapping[str, StudyMeta]) -> StudyMeta:
    """What the joined study says of itself.

    Args:
        name: of the joined study.
        metas: of the sources, by what they are called in messages.

    Raises:
        UsageError: two of them don't belong together; with what differs.
    """
    (first_name, first), *others = metas.items()
    for other_name, other in others:
        reasons = conflicts(first, other)
        if reasons:
            raise UsageError(
                f"{first_name} and {other_name} don't belong together: {'; '.join(reasons)} (the first one's value "
                "first). Merge only what was measured on one platform, with one policy and in one way"
            )
    workload: dict[Any, tuple[tuple[tuple[int, ...], int, float], ...]] = {}
    for meta in metas.values():
        for cell, rows in meta.workload.items():
            # The same shape may be wanted by several; its weight is the first one's.
            known = {size for _, size, _ in workload.get(cell, ())}
            workload[cell] = workload.get(cell, ()) + tuple(row for row in rows if row[1] not in known)
    # Of a study that was merged before those of its sources: merged with them again it stays what it is.
    digests = sorted({digest for meta in metas.values() for digest in meta.identity.get("merged", [meta.digest])})
    joined = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    same = len(digests) == 1
    return replace(
        first,
        name=name,
        identity=first.identity if same else {"merged": digests, **_meaning(first)},
        digest=digests[0] if same else f"sha256:{joined}",
        workload=workload,
        source=_source([meta.source for meta in metas.values()]),
    )


def conflicts(first: StudyMeta, other: StudyMeta) -> list[str]:
    """Why two studies must not be joined; none when they may."""
    reasons = []
    for key in ("provenance", "baseline"):
        a, b = getattr(first, key), getattr(other, key)
        if a != b:
            reasons.append(f"{key}: {a} against {b}")
    if first.candidates != other.candidates:
        reasons.append(f"candidates: {', '.join(first.candidates)} against {', '.join(other.candidates)}")
    reasons += differences({"policy": first.policy._asdict()}, {"policy": other.policy._asdict()})
    reasons += differences({"platform": first.platform._asdict()}, {"platform": other.platform._asdict()})
    return reasons + differences(_meaning(first), _meaning(other))


def _meaning(meta: StudyMeta) -> dict[str, Any]:
    left_out = (*_WANTED, "baseline", "candidates", "policy", "merged")
    return {key: value for key, value in meta.identity.items() if key not in left_out}


def _source(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all say alike as it is; where they differ the values of all."""
    joined: dict[str, Any] = {}
    for key in dict.fromkeys(key for source in sources for key in source):
        values: list[Any] = []
        for source in sources:
            value = source.get(key)
            for one in value if isinstance(value, list) else [value]:
                if one is not None and one not in values:
                    values.append(one)
        joined[key] = values[0] if len(values) == 1 else sorted(values, key=str)
    return joined


def take_in(study: SweepStudy, samples: Sequence[Sample], *, one_config: bool) -> int:
    """Add the samples that the study does not hold yet; how many those were.

    Args:
        one_config: all are of one config, the study's: trials are then copied as they are, so that a sweep of that
            config can go on with them.

    Raises:
        UsageError: the study was begun for other cells.
    """
    there = samples_of(study)
    known = {_mark(sample) for sample in there}
    fresh: dict[str, Sample] = {}
    for sample in samples:
        mark = _mark(sample)
        if mark not in known:
            fresh.setdefault(mark, sample)
    if one_config:
        return _counting(
            study, [study.adopt(one.result, one.params, one.distributions, one.attributes) for one in fresh.values()]
        )
    space = SearchSpace.of(sorted((one.result.cell.name, one.result.size) for one in (*there, *samples)))
    # Optuna holds a study to the cells of its first trial.
    if there and there[0].distributions[CELL] != space.distributions()[CELL]:
        raise UsageError(
            f"study {study.meta.name!r} in {study.storage.url} was begun for other cells, and a study keeps its cells. "
            "Merge it and the others into another --storage or another --study"
        )
    return _counting(study, [study.add(space, one.result, one.attributes) for one in fresh.values()])


def add_missing(study: SweepStudy, space: SearchSpace, points: Sequence[PointResult]) -> int:
    """Add the points that the study does not hold yet, each as often as it is given; how many those were."""
    known = {_mark(sample) for sample in samples_of(study)}
    given: Counter[str] = Counter()
    added = []
    for point in points:
        mark = fingerprint(point, {})
        more = {COPY: given[mark]} if given[mark] else {}
        given[mark] += 1
        if fingerprint(point, more) not in known:
            added.append(study.add(space, point, more))
    return _counting(study, added)


def _mark(sample: Sample) -> str:
    return fingerprint(sample.result, sample.attributes)


def _counting(study: SweepStudy, added: Sequence[int]) -> int:
    """How many of the added trials count: not those that another process has added as well, and first."""
    if study.storage.exclusive:
        return len(added)
    ours = set(added)
    return sum(trial._trial_id in ours for trial, _ in study.visits())  # noqa: SLF001 - storages know them by it


def merged_table(tables: Mapping[str, Table]) -> Table:
    """One table with the cells of all.

    Raises:
        UsageError: they don't belong together, or two have the same cell: without samples nothing tells what both
            together would say.
    """
    (first_name, first), *others = tables.items()
    owner = {cell.cell: first_name for cell in first.cells}
    for name, table in others:
        reasons = [
            f"{key}: {getattr(first, key)} against {getattr(table, key)}"
            for key in ("provenance", "baseline", "candidates")
            if getattr(first, key) != getattr(table, key)
        ]
        reasons += differences({"policy": first.policy._asdict()}, {"policy": table.policy._asdict()})
        reasons += differences({"platform": first.platform._asdict()}, {"platform": table.platform._asdict()})
        if reasons:
            raise UsageError(f"{first_name} and {name} don't belong together: {'; '.join(reasons)}")
        for cell in table.cells:
            if cell.cell in owner:
                raise UsageError(
                    f"{owner[cell.cell]} and {name} both have {cell.cell.name}. A table holds no samples, so that "
                    "nothing tells what both together would say: merge their studies"
                )
            owner[cell.cell] = name
    return seal(
        first._replace(
            generated_by=f"ccl-dispatch {version()}",
            cells=tuple(sorted(cell for table in tables.values() for cell in table.cells)),
            evidence={MERGED: {name: table.evidence for name, table in tables.items()}},
            digest="",
            source="",
        )
    )
