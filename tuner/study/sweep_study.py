"""A sweep's study: trials are points, samples are kept with them, and any process can take it up again."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import StorageError, UsageError
from ccl_dispatch.tuner.config.model import differences
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
from ccl_dispatch.tuner.study.claims import ENDED, WHY, counts, is_decided, table_before
from ccl_dispatch.tuner.study.dashboard import describe_study, trial_attributes
from ccl_dispatch.tuner.study.filling import Recorded, cut_short, filled_by, without_copies
from ccl_dispatch.tuner.study.keeper import BEAT
from ccl_dispatch.tuner.study.meta import OTHER_VERSION, StudyMeta, of_another_sweep
from ccl_dispatch.tuner.study.platforms import beside, listed, platform_differences
from ccl_dispatch.tuner.study.storage import Storage

META = "ccl_dispatch"
RESULT = "result"
# For so long the description of a study that another process has just made is waited for.
_DESCRIBED_SECONDS = 5.0

logger = logging.getLogger(__name__)


class SweepStudy:
    """One study in a storage. The objective's value is the log-ratio of the best candidate, for dashboards."""

    def __init__(self, study: optuna.Study, meta: StudyMeta, storage: Storage) -> None:
        self.study = study
        self.meta = meta
        self.storage = storage
        self.id = storage.optuna.get_study_id_from_name(study.study_name)

    @classmethod
    def create_or_continue(cls, storage: Storage, meta: StudyMeta, sampler: optuna.samplers.BaseSampler) -> SweepStudy:
        """The study of that name in the storage, made when it is not there.

        Where the one that is there holds samples of another platform, it stays as it is, and this platform gets a study
        of its own beside it, with a digest of the platform in its name; a warning says what differs.

        Raises:
            StorageError: it is there, but its samples are of another config.
        """
        study, found = _opened(storage, meta, sampler)
        changed = differences(found.identity, meta.identity)
        other = platform_differences(found.platform, meta.platform)
        if (changed or other) and storage.exclusive:
            trials = study.get_trials(deepcopy=False)
            if not any(RESULT in trial.user_attrs for trial in trials):
                # Its maker went before the first point: whatever it was made for, no sample holds us to that.
                optuna.delete_study(study_name=meta.name, storage=storage.optuna)
                return cls.create_or_continue(storage, meta, sampler)
        if changed:
            raise of_another_sweep(meta.name, storage.url, changed)
        if other:
            own = beside(meta)
            logger.warning(
                "study %r in %s is of another platform and is left as it is: %s (its value first). "
                "What is measured here goes into study %r and a table of its own",
                meta.name,
                storage.url,
                "; ".join(other),
                own.name,
            )
            study, found = _opened(storage, own, sampler)
            if changed := differences(found.identity, meta.identity):
                raise of_another_sweep(own.name, storage.url, changed)
        return cls(study, found, storage)

    @classmethod
    def load(cls, storage: Storage, name: str | None) -> SweepStudy:
        """The study `name` of a storage, or its only one.

        Raises:
            StorageError: none of that name, or several to choose from.
        """
        study = optuna.load_study(storage=storage.optuna, study_name=find_study(storage, name))
        _await_description(study, storage)
        return cls(study, _meta_of(study, storage.url), storage)

    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def filled_by(self, verb: str, sources: Iterable[str]) -> contextlib.AbstractContextManager[None]:
        """Within it samples are brought in; where that is cut short the study says so until it is done again."""
        return filled_by(self.study, verb, sources)

    def unfinished(self) -> str:
        """Why there may be more samples to come, and what to do, in words; empty where nothing is known of any."""
        if marks := cut_short(self.study):
            return f"The {marks[0]} was cut short; the same command again completes it"
        if self.goes_on():
            return "A sweep is at work on it, or was cut short, and then the same sweep command continues"
        return ""

    def goes_on(self) -> bool:
        """Whether it is known that the search has not ended: a sweep is at work, or was cut short.

        A search that is alone notes its end with the study, one of several nodes in a trial. Of imported points, and of
        studies that are older than that note, nothing is known.
        """
        noted = self.study.user_attrs.get(ENDED)
        if noted is not None:
            # Older studies have the word alone.
            return not (noted["word"] if isinstance(noted, dict) else noted)
        trials = self.trials()
        return any(BEAT in trial.user_attrs for trial in trials) and math.isinf(table_before(trials))

    def ended(self, budget: Mapping[str, Any]) -> str | None:
        """The word for what ended a search that is alone; None where that is not known, or not so any more.

        With more budget, or with samples that came to the study since, it goes on.
        """
        noted = self.study.user_attrs.get(ENDED)
        if not isinstance(noted, dict) or noted["budget"] != dict(budget) or noted["trials"] != self._sampled():
            return None
        return noted["word"] or None

    def note_end(self, word: str, budget: Mapping[str, Any]) -> None:
        """Keep the word for what ended a search that is alone; an empty one while it goes on."""
        self.study.set_user_attr(ENDED, {"word": word, "budget": dict(budget), "trials": self._sampled()})

    def _sampled(self) -> int:
        return sum(RESULT in trial.user_attrs for trial in self.trials())

    def running(self) -> list[FrozenTrial]:
        """Those that are not finished."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def complete(self, trial_id: int, result: PointResult) -> None:
        """Store the samples of a running trial, and then finish it: no moment loses them.

        Raises:
            UpdateFinishedTrialError: it is finished already.
        """
        storage = self.storage.optuna
        storage.set_trial_user_attr(trial_id, RESULT, result.to_text())
        storage.set_trial_user_attr(trial_id, OBSERVED, encode(self.observation(result)))
        verdicts = self.verdicts(result)
        for key, text in trial_attributes(self.meta, result, verdicts).items():
            storage.set_trial_user_attr(trial_id, key, text)
        value = _value(verdicts)
        # A point where no candidate could be timed has no value; it is an answer all the same, not a failure.
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        storage.set_trial_state_values(trial_id, state, None if value is None else (value,))

    def settle(self, trial: FrozenTrial, why: str) -> bool:
        """Finish the running trial of a process that is gone; whether its samples were whole."""
        storage = self.storage.optuna
        trial_id = trial._trial_id  # noqa: SLF001 - storages know trials by nothing else
        whole = RESULT in trial.user_attrs
        with contextlib.suppress(UpdateFinishedTrialError):  # its process lives, or another one was quicker
            if whole:
                self.complete(trial_id, self.result_of(trial))
            else:
                storage.set_trial_user_attr(trial_id, WHY, why)
                storage.set_trial_state_values(trial_id, TrialState.FAIL)
                if not self.storage.exclusive:
                    logger.warning("trial %d is given back: %s", trial.number, why)
        return whole

    def add(self, space: SearchSpace, result: PointResult, more: Mapping[str, Any] | None = None) -> int:
        """Keep a point that nobody waits for: of an import, or of a trial that was taken back; `more` attributes.

        Returns:
            The trial's id in the storage.
        """
        params = {
            CELL: result.cell.name,
            SIZE_INDEX: space.sizes.index(result.size),
            REPEATS: min(max(map(len, result.latencies_us.values()), default=1), MOST_REPEATS),
        }
        return self.adopt(result, params, space.distributions(), more or {})

    def adopt(
        self,
        result: PointResult,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        more: Mapping[str, Any],
    ) -> int:
        """Keep a point of another study, with the parameters and attributes of its trial there; the trial's id."""
        verdicts = self.verdicts(result)
        return self.storage.optuna.create_new_trial(
            self.id,
            create_trial(
                state=TrialState.COMPLETE if verdicts else TrialState.PRUNED,
                value=_value(verdicts),
                params=dict(params),
                distributions=dict(distributions),
                user_attrs={
                    RESULT: result.to_text(),
                    OBSERVED: encode(self.observation(result)),
                    **trial_attributes(self.meta, result, verdicts),
                    **more,
                },
            ),
        )

    def describe(self, meta: StudyMeta) -> None:
        """Let the study say this of itself from now on."""
        if meta.to_json() != self.meta.to_json():
            self.study.set_user_attr(META, meta.to_json())
            self.meta = meta

    def results(self, before: float = math.inf, only: str = "") -> list[PointResult]:
        """The samples of all recorded points, each visit once, in the order of their trials.

        Args:
            before: of trials with a lower number.
            only: of trials that have this attribute.
        """
        wanted = (t for t in self.trials() if t.number < before and (not only or only in t.user_attrs))
        return [result for _, result in self.visits(wanted)]

    def visits(self, trials: Iterable[FrozenTrial] | None = None) -> list[Recorded]:
        """The recorded ones of these trials, or of all, with their samples; of copies the first.

        Raises:
            StorageError: samples are damaged, or of a version whose trials say otherwise which point they are of.
        """
        among = list(self.trials() if trials is None else trials)
        if odd := [trial.number for trial in among if RESULT in trial.user_attrs and not is_decided(trial)]:
            where = f"study {self.meta.name!r} in {self.storage.url}, trial {odd[0]}"
            raise StorageError(f"{where}: its samples are of another version of ccl-dispatch. {OTHER_VERSION}")
        return without_copies([(trial, self.result_of(trial)) for trial in among if is_recorded(trial)])

    def table_results(self, until: float = math.inf) -> list[PointResult]:
        """Those that a table is made of: the same for whoever builds it, until somebody measures again.

        Args:
            until: as they were when the trial of this number ended the search.
        """
        return self.results(before=table_before(self.trials(), until))

    def result_of(self, trial: FrozenTrial) -> PointResult:
        """The samples of one trial.

        Raises:
            StorageError: they can't be read.
        """
        try:
            result = PointResult.from_text(trial.user_attrs[RESULT])
            if (said := trial.params.get(CELL, result.cell.name)) != result.cell.name:
                raise ValueError(f"they are of {result.cell.name}, and the trial is of {said}")
            if strange := set(result.latencies_us) - {self.meta.baseline, *self.meta.candidates}:
                raise ValueError(f"they are of {', '.join(sorted(strange))}, which the study does not compare")
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise StorageError(
                f"study {self.meta.name!r} in {self.storage.url}, trial {trial.number}: its samples are damaged: "
                f"{problem}. Take the storage back from a copy; without one, `ccl-dispatch merge --without-damaged` "
                "brings all other samples into another --storage"
            ) from problem
        return result

    def verdicts(self, result: PointResult) -> dict[str, Interval]:
        """Per candidate that was timed the interval of its log-ratio, at the policy's confidence for all together."""
        confidence = shared_confidence(self.meta.policy.confidence, len(self.meta.candidates))
        ratios = {name: result.log_ratios(self.meta.baseline, name) for name in self.meta.candidates}
        return {name: median_interval(values, confidence) for name, values in ratios.items() if values}

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
        excluded, refused = result.unusable()
        return Observation(result.cell.name, result.size, samples, visit, excluded, refused=refused)


def is_recorded(trial: FrozenTrial) -> bool:
    """Whether the trial is finished and its samples are whole."""
    return trial.state.is_finished() and counts(trial) and RESULT in trial.user_attrs


def described_studies(storage: Storage) -> list[str]:
    """The names of those that say what they are: not of one whose maker went before it could describe it."""
    return [study.study_name for study in storage.optuna.get_all_studies() if META in study.user_attrs]


def studies_in(storage: Storage) -> list[str]:
    """The names of all studies that the storage has, whatever they hold."""
    return optuna.get_all_study_names(storage.optuna)


def find_study(storage: Storage, name: str | None) -> str:
    """The study meant by `name`, or the only one there is.

    Raises:
        StorageError: the storage has none, or several and `name` is None.
        UsageError: there is no study of that name.
    """
    names = studies_in(storage)
    if not names:
        raise StorageError(f"{storage.url} holds no study. Run a sweep or an import with this --storage first")
    if name is None and len(names) > 1:
        metas = {study.study_name: _meta_if_any(study) for study in storage.optuna.get_all_studies()}
        raise StorageError(f"{storage.url} holds several studies: {listed(metas)}. Choose one with --study")
    if name is not None and name not in names:
        raise UsageError(f"{storage.url} has no study {name!r}. {nearest(name, sorted(names))}")
    return name or names[0]


def _value(verdicts: Mapping[str, Interval]) -> float | None:
    return max((interval.median for interval in verdicts.values()), default=None)


def _opened(storage: Storage, meta: StudyMeta, sampler: optuna.samplers.BaseSampler) -> tuple[optuna.Study, StudyMeta]:
    """The study of that name and what it says of itself; made with `meta` when it is not there."""
    try:
        study = optuna.create_study(storage=storage.optuna, study_name=meta.name, direction="maximize", sampler=sampler)
        study.set_user_attr(META, meta.to_json())
        describe_study(study, storage.optuna, meta)
        return study, meta
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(storage=storage.optuna, study_name=meta.name, sampler=sampler)
    _await_description(study, storage)
    if META not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(META, meta.to_json())
        if not storage.exclusive:
            time.sleep(0.5)  # another one may have thought the same: the last word counts for both
    return study, _meta_of(study, storage.url)


def _await_description(study: optuna.Study, storage: Storage) -> None:
    """Give the maker of a study that has no points yet the time to describe it: we may have come in between.

    Its maker may also have gone there; then it stays as it is.
    """
    deadline = time.monotonic() + (0.0 if storage.exclusive else _DESCRIBED_SECONDS)
    while META not in study.user_attrs and not study.get_trials(deepcopy=False) and time.monotonic() < deadline:
        time.sleep(0.1)


def _meta_if_any(study: Any) -> StudyMeta | None:
    with contextlib.suppress(StorageError):
        return _meta_of(study, "")
    return None


def _meta_of(study: optuna.Study, where: str) -> StudyMeta:
    data: Any = study.user_attrs.get(META)
    if not isinstance(data, Mapping):
        raise StorageError(f"study {study.study_name!r} in {where} was not made by ccl-dispatch")
    return StudyMeta.from_json(data, f"{where}, study {study.study_name!r}")


def _short(log_ratios: Sequence[float]) -> tuple[float, ...]:
    """To a millionth: what is left out is far below any noise, and storages are read often."""
    return tuple(round(value, 6) for value in log_ratios)
