"""A sweep's study: trials are points, samples are kept with them, and any process can take it up again."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import StorageError, StorageWriteError, UsageError
from ccl_dispatch.tuner.config_model import differences
from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search.base import (
    CELL,
    MOST_REPEATS,
    OBSERVED,
    REPEATS,
    SIZE_INDEX,
    Observation,
    SearchSpace,
    Visit,
    encode,
)
from ccl_dispatch.tuner.statistics import Interval, median_interval, shared_confidence
from ccl_dispatch.tuner.study.dashboard import describe_study, trial_attributes
from ccl_dispatch.tuner.study.meta import StudyMeta
from ccl_dispatch.tuner.study.storage import Storage

META = "ccl_dispatch"
RESULT = "result"
OWNER = "owner"
WHY = "why"


class SweepStudy:
    """One study in a storage. The objective's value is the log-ratio of the best candidate, for dashboards."""

    def __init__(self, study: optuna.Study, meta: StudyMeta, *, exclusive: bool = False) -> None:
        self.study = study
        self.meta = meta
        self._exclusive = exclusive

    @classmethod
    def create_or_continue(cls, storage: Storage, meta: StudyMeta, sampler: optuna.samplers.BaseSampler) -> SweepStudy:
        """The study of that name in the storage, made when it is not there.

        Raises:
            StorageError: it is there, but its samples mean something else: another config, or another platform.
        """
        names = optuna.get_all_study_names(storage.optuna)
        if meta.name not in names:
            study = optuna.create_study(
                storage=storage.optuna, study_name=meta.name, direction="maximize", sampler=sampler
            )
            study.set_user_attr(META, meta.to_json())
            describe_study(study, storage.optuna, meta)
            return cls(study, meta, exclusive=storage.exclusive)
        study = optuna.load_study(storage=storage.optuna, study_name=meta.name, sampler=sampler)
        trials = study.get_trials(deepcopy=False)
        if not trials:
            # Its maker went before the first point: whatever it was made for, no sample holds us to that.
            study.set_user_attr(META, meta.to_json())
            return cls(study, meta, exclusive=storage.exclusive)
        found = _meta_of(study, storage.url)
        changed = differences(found.identity, meta.identity)
        changed += differences({"platform": found.platform._asdict()}, {"platform": meta.platform._asdict()})
        if changed:
            if storage.exclusive and not any(RESULT in trial.user_attrs for trial in trials):
                optuna.delete_study(study_name=meta.name, storage=storage.optuna)  # nothing but failures: start anew
                return cls.create_or_continue(storage, meta, sampler)
            raise StorageError(
                f"study {meta.name!r} in {storage.url} holds samples of another sweep; what differs, the study's "
                f"first: {'; '.join(changed)}. Give another --storage, or another `name` in the config"
            )
        return cls(study, found, exclusive=storage.exclusive)

    @classmethod
    def load(cls, storage: Storage, name: str | None) -> SweepStudy:
        """The study `name` of a storage, or its only one.

        Raises:
            StorageError: none of that name, or several to choose from.
        """
        study = optuna.load_study(storage=storage.optuna, study_name=find_study(storage, name))
        return cls(study, _meta_of(study, storage.url))

    def recover(self) -> tuple[int, int]:
        """Settle trials that a dead process left running: (those whose samples were whole, those given up).

        A trial whose samples were stored is completed; one without is failed, so that its point is measured again.
        Trials of processes that are alive, or on other hosts, are left alone; a storage that is ours alone has none.
        """
        completed = failed = 0
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not self._exclusive and _is_alive(trial.user_attrs.get(OWNER, "")):
                continue
            if RESULT in trial.user_attrs and OBSERVED in trial.user_attrs:
                self._tell(trial.number, self.result_of(trial))
                completed += 1
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
                failed += 1
        return completed, failed

    def ask(self, space: SearchSpace) -> tuple[Trial, str, int, int]:
        """A new trial with the cell's name, the size and the repetitions that its sampler chose."""
        with self._writing():
            trial = self.study.ask(space.distributions())
            trial.set_user_attr(OWNER, f"{socket.gethostname()}:{os.getpid()}")
        params = trial.params
        return trial, params[CELL], space.sizes[params[SIZE_INDEX]], params[REPEATS]

    def record(self, trial: Trial, result: PointResult) -> None:
        """Keep the samples of a point. They are stored before the trial is completed: no moment loses them.

        Raises:
            StorageWriteError: the storage does not take them: a full disk, a database that is gone.
        """
        with self._writing():
            trial.set_user_attr(RESULT, json.dumps(result.to_json(), separators=(",", ":")))
            trial.set_user_attr(OBSERVED, encode(self.observation(result)))
            for key, value in trial_attributes(self.meta, result, self.verdicts(result)).items():
                trial.set_user_attr(key, value)
            self._tell(trial.number, result)

    def add(self, space: SearchSpace, result: PointResult) -> None:
        """Keep a point that nobody asked for: an import."""
        verdicts = self.verdicts(result)
        self.study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if verdicts else TrialState.PRUNED,
                value=_value(verdicts),
                params={
                    CELL: result.cell.name,
                    SIZE_INDEX: space.sizes.index(result.size),
                    REPEATS: min(max(map(len, result.latencies_us.values()), default=1), MOST_REPEATS),
                },
                distributions=space.distributions(),
                user_attrs={
                    RESULT: json.dumps(result.to_json(), separators=(",", ":")),
                    OBSERVED: encode(self.observation(result)),
                    **trial_attributes(self.meta, result, verdicts),
                },
            )
        )

    def give_up(self, trial: Trial, why: str) -> None:
        """The trial ends without samples; its point will be asked for again."""
        trial.set_user_attr(WHY, why)
        self.study.tell(trial.number, state=TrialState.FAIL)

    def results(self) -> list[PointResult]:
        """The samples of all recorded points, in the order of their trials."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [self.result_of(trial) for trial in trials if RESULT in trial.user_attrs]

    def result_of(self, trial: FrozenTrial) -> PointResult:
        """The samples of one trial.

        Raises:
            StorageError: they can't be read.
        """
        try:
            return PointResult.from_json(json.loads(trial.user_attrs[RESULT]))
        except (KeyError, TypeError, ValueError) as problem:
            raise StorageError(
                f"study {self.meta.name!r}, trial {trial.number}: its samples can't be read ({problem!r})"
            ) from problem

    def verdicts(self, result: PointResult) -> dict[str, Interval]:
        """Per candidate that was timed the interval of its log-ratio, at the policy's confidence for all together."""
        confidence = shared_confidence(self.meta.policy.confidence, len(self.meta.candidates))
        ratios = {name: result.log_ratios(self.meta.baseline, name) for name in self.meta.candidates}
        return {name: median_interval(values, confidence) for name, values in ratios.items() if values}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, optuna.exceptions.StorageInternalError) as problem:
            text = (problem.strerror if isinstance(problem, OSError) else None) or str(problem).partition("\n")[0]
            raise StorageWriteError(
                f"study {self.meta.name!r}: the storage takes no more samples: {text}. The points before this one are "
                "kept; once it is mended (room on the disk, the database back) the same command continues"
            ) from problem

    def observation(self, result: PointResult) -> Observation:
        """What samplers are told of a point: its log-ratios and its cost."""
        baseline = self.meta.baseline
        samples = {}
        for name in self.meta.candidates:
            repeats = result.log_ratios(baseline, name)
            if repeats:
                firsts = result.first_log_ratios(baseline, name)
                samples[name] = PointSamples(_short(repeats), _short(firsts))
        count = max(map(len, result.latencies_us.values()), default=0)
        each = result.collective_seconds / max(count, 1)
        if result.latencies_us:
            calls = result.calls_per_sample
            means = {name: math.fsum(values) / len(values) for name, values in result.latencies_us.items() if values}
            each = max(math.fsum(calls.get(name, 1) * mean * 1e-6 for name, mean in means.items()), 1e-9)
        visit = Visit(
            seconds=round(result.wall_seconds, 9),
            repeats=count,
            repeat_seconds=round(each, 9),
            repeat_executions=sum(result.calls_per_sample.values()),
            executions=sum(result.executions.values()),
        )
        excluded = frozenset(item.backend for item in result.exclusions)
        return Observation(result.cell.name, result.size, samples, visit, excluded)

    def _tell(self, number: int, result: PointResult) -> None:
        value = _value(self.verdicts(result))
        # A point where no candidate could be timed has no value; it is an answer all the same, not a failure.
        self.study.tell(number, value, state=TrialState.PRUNED if value is None else TrialState.COMPLETE)


def find_study(storage: Storage, name: str | None) -> str:
    """The study meant by `name`, or the only one there is.

    Raises:
        StorageError: the storage has none, or several and `name` is None.
        UsageError: there is no study of that name.
    """
    names = optuna.get_all_study_names(storage.optuna)
    if not names:
        raise StorageError(f"{storage.url} holds no study. Run a sweep or an import with this --storage first")
    if name is None and len(names) > 1:
        raise StorageError(f"{storage.url} holds several studies: {', '.join(sorted(names))}. Choose one with --study")
    if name is not None and name not in names:
        raise UsageError(f"{storage.url} has no study {name!r}. {nearest(name, sorted(names))}")
    return name or names[0]


def _value(verdicts: Mapping[str, Interval]) -> float | None:
    return max((interval.median for interval in verdicts.values()), default=None)


def _meta_of(study: optuna.Study, where: str) -> StudyMeta:
    data: Any = study.user_attrs.get(META)
    if not isinstance(data, Mapping):
        raise StorageError(f"study {study.study_name!r} in {where} was not made by ccl-dispatch")
    return StudyMeta.from_json(data, f"{where}, study {study.study_name!r}")


def _is_alive(owner: str) -> bool:
    """Whether the process behind `host:pid` may still work on its trial; another host's always may."""
    host, _, pid = owner.rpartition(":")
    if not pid.isdigit() or host != socket.gethostname():
        return bool(host) and host != socket.gethostname()
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _short(log_ratios: Sequence[float]) -> tuple[float, ...]:
    """To a millionth: what is left out is far below any noise, and storages are read often."""
    return tuple(round(value, 6) for value in log_ratios)
