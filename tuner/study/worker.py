"""This process at work on a study: it claims points, keeps their samples, and gives signs of life where others look."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccl_dispatch.runtime.errors import StorageError, StorageGoneError, StorageWriteError
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search.base import CELL, REPEATS, SIZE_INDEX, VISIT, Outlook, SearchSpace
from ccl_dispatch.tuner.study.claims import (
    COMMON,
    ENDED,
    LATE,
    NODE,
    OWNER,
    RANKS,
    WHY,
    Asked,
    Claim,
    FinishedTrials,
    counts,
    ending,
    is_decided,
    next_visit,
)
from ccl_dispatch.tuner.study.keeper import BEAT, Keeper
from ccl_dispatch.tuner.study.owner import Node, is_gone, this_process
from ccl_dispatch.tuner.study.patience import PatientStorage, words_of
from ccl_dispatch.tuner.study.storage import open_storage
from ccl_dispatch.tuner.study.sweep_study import RESULT, SweepStudy

logger = logging.getLogger(__name__)

# Between two looks at what others do, in seconds: the longer it takes already, the seldomer.
_SHORTEST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25

Decide = Callable[[], tuple[Outlook, str | None]]
Tell = Callable[[str], None]
_T = TypeVar("_T")


class StudyWorker:
    """A context manager: within it the points that are claimed are this process's.

    Args:
        study: what is worked on.
        space: its points.
        node: this one among those that share the study.
        budget: of the sweep, as JSON data: who has another one does not end when this one does.
        waiting: told what is waited for.
        rescue: the folder for a journal with samples that the storage did not take; None for one that is ours alone.
    """

    def __init__(
        self,
        study: SweepStudy,
        space: SearchSpace,
        node: Node,
        budget: Mapping[str, Any] | None = None,
        waiting: Tell = lambda _text: None,
        rescue: Path | None = None,
    ) -> None:
        self._study = study
        self._space = space
        self._node = node
        self._budget = dict(budget or {})
        self._waiting = waiting
        self._rescue = rescue
        self._storage = study.storage.optuna
        self._alone = study.storage.exclusive
        self._began = len(study.trials())
        self._finished = FinishedTrials()
        self._ended_at = math.inf
        self._noted: str | None = None
        self._keeper = None if self._alone else Keeper(self._storage, study.running, self._silent, node.grace)

    def __enter__(self) -> StudyWorker:
        if self._keeper is not None:
            self._keeper.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.__exit__(kind, value, trace)

    def recover(self) -> tuple[int, int]:
        """Settle trials that a dead process left running: (those whose samples were whole, those given up).

        A trial whose samples were stored is completed; one without is failed, so that its point is measured again.
        Trials of processes that may be alive are left alone; a storage that is ours alone has none.
        """
        settled = [
            self._study.settle(trial, "its process ended")
            for trial in self._study.running()
            if self._alone or is_gone(trial.user_attrs.get(OWNER, ""))
        ]
        return settled.count(True), settled.count(False)

    def ask(self, decide: Decide) -> Asked:
        """The next point of the search, claimed for this process; or why there is none.

        Where others may be at work it waits for its turn. When nothing is left to decide while others still measure,
        it waits for what they find; so all nodes end alike, on the same samples.

        Args:
            decide: what the search thinks of the study now, and the word for what ends it; called when it is our turn.
        """
        if self._alone:
            outlook, word = decide()
            self._note_end(word or "")
            if word is not None:
                return Asked(outlook, ended=word)
        return self._with_a_ticket(lambda trial_id: self._asked(decide, trial_id))

    def _asked(self, decide: Decide, trial_id: int) -> Asked:
        while True:
            with self._at_our_turn(trial_id) as (mine, others):
                known = self._end_before(mine)
                outlook, word = decide()
                if known is None and word is None:
                    return Asked(outlook, self._claim(mine, self._sampled(mine)))
            if known is None and others:
                self._wait_for_one(others)
                continue
            if known is None:
                self._storage.set_trial_user_attr(trial_id, ENDED, {"word": word, "budget": self._budget})
                self._ended_at = mine.number
            else:
                word = known.user_attrs[ENDED]["word"]
                self._ended_at = known.number
            self._close(trial_id, f"the search has ended: {word}")
            return Asked(outlook, ended=word or "")

    def _note_end(self, word: str) -> None:
        """Let a study that is ours alone say what ended its search, empty while it goes on; a shared one has trials."""
        if word != self._noted:
            with self._writing():
                self._study.note_end(word, self._budget)
            self._noted = word

    def _end_before(self, mine: FrozenTrial) -> FrozenTrial | None:
        """The trial that ended the search for a process like this one, before ours; None while it goes on."""
        if self._alone:
            return None  # who is alone asks for no trial once the search has ended
        return ending(self._study.trials(), self._began, mine.number, self._budget)

    def take(self, cell: str, size: int, repeats: int, more: Mapping[str, Any]) -> Claim | None:
        """A claim of a certain point, whatever the search thinks; `more` attributes for its trial.

        None once the search has ended for others: their tables are written, and a point more would not be in them.
        """

        def taken(trial_id: int) -> Claim | None:
            with self._at_our_turn(trial_id) as (mine, _):
                known = self._end_before(mine)
                if known is not None:
                    self._close(trial_id, f"the search has ended: {known.user_attrs[ENDED]['word']}")
                    return None
                for key, value in more.items():
                    self._storage.set_trial_user_attr(trial_id, key, value)
                return self._claim(mine, {CELL: cell, SIZE_INDEX: self._space.sizes.index(size), REPEATS: repeats})

        return self._with_a_ticket(taken)

    def record(self, claim: Claim, result: PointResult) -> PointResult:
        """Keep the samples of a point. They are stored before the trial is completed: no moment loses them.

        Where the trial was taken back meanwhile, because this process gave no sign of life, they are kept as a visit
        more.

        Returns:
            The result as it is kept, with the node's name.

        Raises:
            StorageWriteError, StorageGoneError: it could not be stored.
        """
        result = replace(result, node=self._node.name)
        try:
            with self._writing():
                try:
                    self._study.complete(claim.trial_id, result)
                except UpdateFinishedTrialError:
                    self._keep_late(claim, result)
        except (StorageGoneError, StorageWriteError) as problem:
            if self._rescue is None:
                raise
            raise type(problem)(f"{problem}. {self._rescued(claim, result, self._rescue)}") from problem
        except KeyboardInterrupt:
            if self._rescue is not None:
                self._keep_before_the_end(claim, result, self._rescue)
            raise
        self._hold(None)
        return result

    def _keep_before_the_end(self, claim: Claim, result: PointResult, folder: Path) -> None:
        """Keep samples whose storing an interrupt has cut short, as where the storage does not answer."""
        try:
            with contextlib.suppress(UpdateFinishedTrialError), self._writing():
                self._study.complete(claim.trial_id, result)
        except (StorageGoneError, StorageWriteError) as problem:
            logger.warning("%s. %s", problem, self._rescued(claim, result, folder))

    def _rescued(self, claim: Claim, result: PointResult, folder: Path) -> str:
        """Keep samples that the storage does not take in a journal of their own; where, and how they are brought in.

        Where that does not go either, it says so: what went first is what the user must see.
        """
        study = self._study
        path = folder / f"rescued-{study.meta.name}-{self._node.name or os.getpid()}.journal"
        more = {OWNER: this_process(), NODE: self._node.name, RANKS: self._node.ranks, VISIT: claim.visit}
        try:
            with open_storage(str(path), write=True) as storage:
                kept = SweepStudy.create_or_continue(storage, study.meta, study.study.sampler)
                kept.add(self._space, result, more)
        except (OSError, StorageError) as problem:
            reason = words_of(problem.__cause__ or problem)
            return f"What was measured last is lost, as it could not be kept in {path} either: {reason}"
        where, name = shlex.quote(study.storage.url), shlex.quote(study.meta.name)
        again = f"ccl-dispatch merge {shlex.quote(str(path))} --storage {where} --study {name}"
        return f"What was measured last is kept in {path}; this brings it in: {again}"

    def give_up(self, claim: Claim, why: str) -> None:
        """The trial ends without samples; its point will be asked for again."""
        self._close(claim.trial_id, why)

    def results(self) -> list[PointResult]:
        """What the search ended on: alike for all nodes that ended with it. Before its end all that is recorded.

        Samples that came after an end, of a process that was stopped, are in no table before the search goes on.
        """
        return self._study.table_results(self._ended_at)

    def _sampled(self, mine: FrozenTrial) -> dict[str, Any]:
        study = self._study.study
        return study.sampler.sample_relative(study, mine, self._space.distributions())

    def _claim(self, mine: FrozenTrial, values: Mapping[str, Any]) -> Claim:
        """The point of these values for this trial; the last one decides it, and then the next trial has its turn."""
        cell, index, repeats = (values[name] for name in (CELL, SIZE_INDEX, REPEATS))
        trial_id = mine._trial_id  # noqa: SLF001 - storages know trials by nothing else
        there = self._finished.of_point(self._study.trials(), cell, index)
        visit = next_visit(there, cell, index, mine.number)
        self._storage.set_trial_user_attr(trial_id, VISIT, visit)
        for name, distribution in self._space.distributions().items():
            self._storage.set_trial_param(trial_id, name, distribution.to_internal_repr(values[name]), distribution)
        return Claim(trial_id, mine.number, cell, self._space.sizes[index], repeats, visit)

    def _with_a_ticket(self, use: Callable[[int], _T]) -> _T:
        """What `use` makes of a new trial; of another one where that was taken back before it came to anything.

        So it goes with a process that was stopped for longer than the grace: nobody waits for its ticket any more.
        """
        while True:
            try:
                with self._ticket() as trial_id:
                    return use(trial_id)
            except UpdateFinishedTrialError:
                logger.warning("this process was taken for dead before it had decided on a point; it asks again")

    @contextlib.contextmanager
    def _ticket(self) -> Iterator[int]:
        """A new trial of this process without a point: its id. One that comes to nothing is closed."""
        attributes: dict[str, Any] = {OWNER: this_process(), RANKS: self._node.ranks}
        if self._node.name:
            attributes[NODE] = self._node.name
        if not self._alone:
            attributes[BEAT] = 0
        with self._writing():
            template = create_trial(state=TrialState.RUNNING, user_attrs=attributes)
            trial_id = self._storage.create_new_trial(self._study.id, template)
            self._hold(trial_id)
            try:
                yield trial_id
            except UpdateFinishedTrialError:
                self._hold(None)  # it was taken back: there is nothing to close
                raise
            except BaseException as problem:
                with contextlib.suppress(Exception):  # what failed first is what the user must see
                    self._close(trial_id, f"{type(problem).__name__}: {problem}"[:500])
                raise

    def _close(self, trial_id: int, why: str) -> None:
        try:
            trial = self._storage.get_trial(trial_id)
            if RESULT in trial.user_attrs:  # its samples are stored, and then something came between
                self._study.complete(trial_id, self._study.result_of(trial))
            else:
                self._storage.set_trial_user_attr(trial_id, WHY, why)
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            logger.warning("a point was taken back before it was given up (%s)", why)
        self._hold(None)

    def _hold(self, trial_id: int | None) -> None:
        if self._keeper is not None:
            self._keeper.hold(trial_id)

    @contextlib.contextmanager
    def _at_our_turn(self, trial_id: int) -> Iterator[tuple[FrozenTrial, list[FrozenTrial]]]:
        """Once every running trial with a lower number has its point: our own trial, and those.

        All that is read within it is of the moment at which that was seen.
        """
        pause = _SHORTEST_PAUSE
        while True:
            with self._one_moment():
                trials = self._study.trials()
                mine = next(trial for trial in reversed(trials) if trial._trial_id == trial_id)  # noqa: SLF001
                unfinished = self._finished.behind(trials)
                before = [t for t in unfinished if t.state == TrialState.RUNNING and t.number < mine.number]
                undecided = [trial for trial in before if not is_decided(trial)]
                if not undecided:
                    yield mine, before
                    return
            for trial in undecided:
                # This process decides on one trial at a time: another one of its own is what it could not close.
                if is_gone(trial.user_attrs.get(OWNER, "")) or trial.user_attrs.get(OWNER) == this_process():
                    self._study.settle(trial, "its process ended")
            if pause >= _LONGEST_PAUSE:
                self._waiting(f"for the decision of {', '.join(dict.fromkeys(map(_who, undecided)))}")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _one_moment(self) -> contextlib.AbstractContextManager[None]:
        if isinstance(self._storage, PatientStorage):
            return self._storage.at_one_moment()
        return contextlib.nullcontext()

    def _wait_for_one(self, others: Sequence[FrozenTrial]) -> None:
        """Wait until one of these running trials is finished."""
        numbers = {trial.number for trial in others}
        told = ", ".join(f"{trial.params[CELL]} on {_who(trial)}" for trial in others)
        self._waiting(f"for {'a point' if len(others) == 1 else f'{len(others)} points'} that others measure: {told}")
        pause = _SHORTEST_PAUSE
        while True:
            left = [trial for trial in self._study.running() if trial.number in numbers]
            if len(left) < len(numbers):
                return
            for trial in left:
                if is_gone(trial.user_attrs.get(OWNER, "")):
                    self._study.settle(trial, "its process ended")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _silent(self, trial: FrozenTrial) -> None:
        self._study.settle(trial, f"{_who(trial)} has given no sign of life for {self._node.grace:g} s")

    def _keep_late(self, claim: Claim, result: PointResult) -> None:
        """Keep samples whose trial is finished already: by our own unconfirmed word, or because it was taken back."""
        trial = self._storage.get_trial(claim.trial_id)
        if trial.state != TrialState.FAIL or counts(trial):
            return
        kept = [
            t for t in self._study.trials() if counts(t) and t.params == {**trial.params, REPEATS: t.params[REPEATS]}
        ]
        if self._study.meta.provenance == "replayed" and any(t.user_attrs.get(VISIT) == claim.visit for t in kept):
            # Replayed visits of one number are the same draws: there is nothing more in them.
            logger.warning("trial %d was taken back, and its point is replayed by another process", claim.number)
            return
        logger.warning(
            "trial %d was taken back while it was measured; its samples are kept as a visit more", claim.number
        )
        more = {key: trial.user_attrs[key] for key in (OWNER, NODE, RANKS, VISIT, COMMON) if key in trial.user_attrs}
        self._study.add(self._space, result, {**more, LATE: claim.number})

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, optuna.exceptions.StorageInternalError) as problem:
            raise StorageWriteError(
                f"study {self._study.meta.name!r}: the storage takes no more samples: {words_of(problem)}. "
                "The points before this one are kept; once it is mended (room on the disk, the database back) the same "
                "command continues"
            ) from problem


def _who(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(NODE) or trial.user_attrs.get(OWNER) or "a process without a name")
