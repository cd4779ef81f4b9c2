from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState, create_trial

from ccl_dispatch.runtime.errors import StorageGoneError
from ccl_dispatch.runtime.table import Platform, Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import Outlook, RegretSampler, SearchSpace
from ccl_dispatch.tuner.search.base import VISIT
from ccl_dispatch.tuner.study import Node, Storage, StudyMeta, StudyWorker, SweepStudy, open_storage
from ccl_dispatch.tuner.study.claims import COMMON, ENDED, OWNER, WHY, next_visit
from ccl_dispatch.tuner.study.keeper import BEAT, Watch
from ccl_dispatch.tuner.study.owner import is_gone, this_process
from ccl_dispatch.tuner.study.patience import PatientStorage
from ccl_dispatch.tuner.study.sweep_study import RESULT

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
SPACE = SearchSpace({CELL.name: (1024, 2048, 4096, 8192)})
META = StudyMeta(
    name="s",
    provenance="measured",
    baseline="base",
    candidates=("fast",),
    policy=Policy(0.03, 0.95, "isolated"),
    platform=Platform("cpu", "", "made up", 1, "", {}, {}),
    identity={},
    digest="sha256:0",
    workload={},
    source={},
)
# What a process on another host would have: nothing here can know whether it lives.
ELSEWHERE = "another-boot/1:17:5"


@pytest.fixture
def study() -> SweepStudy:
    """An empty study in a storage that others could share; test_fleet.py does the same with PostgreSQL."""
    storage = Storage("memory", PatientStorage(InMemoryStorage()), exclusive=False)
    return SweepStudy.create_or_continue(storage, META, RegretSampler(SPACE, ("fast",)))


def _go_on() -> tuple[Outlook, str | None]:
    return Outlook(None, 1.0), None


def _result(size: int, latency: float = 10.0) -> PointResult:
    return PointResult(CELL, size, {"base": (latency,) * 4, "fast": (latency / 2,) * 4})


def _others_trial(study: SweepStudy, owner: str = ELSEWHERE, size_index: int | None = None) -> int:
    """A running trial of another process, decided or not; its number."""
    distributions = SPACE.distributions() if size_index is not None else {}
    params = {} if size_index is None else {"cell": CELL.name, "size_index": size_index, "repeats": 1}
    template = create_trial(
        state=TrialState.RUNNING, user_attrs={OWNER: owner, BEAT: 0}, params=params, distributions=distributions
    )
    trial_id = study.storage.optuna.create_new_trial(study.id, template)
    return study.storage.optuna.get_trial_number_from_id(trial_id)


def test_points_are_decided_in_the_order_of_tickets(study: SweepStudy) -> None:
    """Who has the higher number waits until the lower one has its point, and then takes another one."""
    number = _others_trial(study)
    told: list[str] = []
    with StudyWorker(study, SPACE, Node("here"), waiting=told.append) as worker:
        found: list[int] = []

        def decide_late() -> None:
            time.sleep(1.2)
            storage = study.storage.optuna
            trial_id = storage.get_trial_id_from_study_id_trial_number(study.id, number)
            assert not found
            for name, value in (("cell", CELL.name), ("size_index", 0), ("repeats", 1)):
                distribution = SPACE.distributions()[name]
                storage.set_trial_param(trial_id, name, distribution.to_internal_repr(value), distribution)

        other = threading.Thread(target=decide_late)
        other.start()
        claim = worker.ask(_go_on).claim
        other.join()
        assert claim is not None
        found.append(claim.size)
    assert claim.size != SPACE.sizes[0]
    assert told
    assert "decision" in told[0]


def test_a_silent_node_gives_its_point_back(study: SweepStudy) -> None:
    """A trial whose counter stands still for the grace period is failed, and says why; nobody waits for it longer."""
    number = _others_trial(study)
    with StudyWorker(study, SPACE, Node("here", grace=1.0)) as worker:
        began = time.monotonic()
        assert worker.ask(_go_on).claim is not None
        assert 0.9 < time.monotonic() - began < 10
    lost = study.trials()[number]
    assert lost.state == TrialState.FAIL
    assert "no sign of life for 1 s" in lost.user_attrs[WHY]


class _Stopped(PatientStorage):
    """A storage whose process was stopped once, right before it wrote this attribute; others did something then."""

    def __init__(self, inner: BaseStorage, before: str, meanwhile: Callable[[], object]) -> None:
        super().__init__(inner)
        self._before = before
        self._meanwhile = [meanwhile]

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Stop for a while, once, then write."""
        if key == self._before and self._meanwhile:
            self._meanwhile.pop()()
        super().set_trial_user_attr(trial_id, key, value)


@pytest.fixture
def two_processes(tmp_path: Path) -> Iterator[tuple[SweepStudy, SweepStudy]]:
    """A study as two processes see it: in an SQLite file that each has opened for itself."""
    url = f"sqlite:///{tmp_path}/s.db"
    with open_storage(url, write=True) as storage, open_storage(url, write=True) as other:
        study = SweepStudy.create_or_continue(storage, META, RegretSampler(SPACE, ("fast",)))
        yield study, SweepStudy.load(other, None)


def _take_back_all(study: SweepStudy) -> None:
    assert [study.settle(trial, "no sign of life") for trial in study.running()] == [False]


@pytest.mark.parametrize(("common", "stopped_before"), [(True, COMMON), (True, VISIT), (False, VISIT)])
def test_a_ticket_that_was_taken_back_is_taken_anew(
    two_processes: tuple[SweepStudy, SweepStudy], common: bool, stopped_before: str
) -> None:
    """A node that is stopped between its ticket and its point, and loses the ticket, takes another one and goes on."""
    study, other = two_processes
    stopped = _Stopped(study.storage.optuna, stopped_before, lambda: _take_back_all(other))
    seen = SweepStudy(study.study, META, replace(study.storage, optuna=stopped))
    with StudyWorker(seen, SPACE, Node("here", grace=600)) as worker:
        claim = worker.take(CELL.name, 2048, 4, {COMMON: 0}) if common else worker.ask(_go_on).claim
        assert claim is not None
        worker.record(claim, _result(claim.size))
    lost, taken = other.trials()
    assert lost.state == TrialState.FAIL
    assert taken.number == claim.number
    assert taken.state == TrialState.COMPLETE


def test_a_ticket_that_was_taken_back_ends_nothing(two_processes: tuple[SweepStudy, SweepStudy]) -> None:
    """A node that wakes up when it is about to end, without its ticket, looks again; then it ends as the other did."""
    study, other = two_processes
    begun = StudyWorker(other, SPACE, Node("other", grace=600))

    def meanwhile() -> None:
        _take_back_all(other)
        with begun:
            assert begun.ask(lambda: (Outlook(None, 0.0), "regret")).ended == "regret"

    seen = SweepStudy(
        study.study, META, replace(study.storage, optuna=_Stopped(study.storage.optuna, ENDED, meanwhile))
    )
    with StudyWorker(seen, SPACE, Node("here", grace=600)) as worker:
        assert worker.ask(lambda: (Outlook(None, 0.0), "searched")).ended == "regret"
    assert [ENDED in trial.user_attrs for trial in other.trials()] == [False, True, False]


def test_a_beating_node_is_left_alone(study: SweepStudy) -> None:
    """A trial whose counter moves stays running, however long it takes."""
    number = _others_trial(study, size_index=2)
    storage = study.storage.optuna
    trial_id = storage.get_trial_id_from_study_id_trial_number(study.id, number)
    with StudyWorker(study, SPACE, Node("here", grace=1.0)):
        for beat in range(10):
            storage.set_trial_user_attr(trial_id, BEAT, beat + 1)
            time.sleep(0.2)
    assert study.trials()[number].state == TrialState.RUNNING


def test_a_dead_process_of_this_host_is_seen_at_once(study: SweepStudy) -> None:
    """A killed process holds nobody up for the grace period: its id with the time of its start tells that it ended."""
    code = (
        "import time\nfrom ccl_dispatch.tuner.study.owner import this_process\nprint(this_process(), flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert not is_gone(owner)
        number = _others_trial(study, owner)
        process.send_signal(signal.SIGKILL)
    began = time.monotonic()
    with StudyWorker(study, SPACE, Node("here", grace=600)) as worker:
        assert worker.ask(_go_on).claim is not None
    assert time.monotonic() - began < 10
    assert study.trials()[number].state == TrialState.FAIL


def test_a_process_id_that_was_given_again_is_another_process() -> None:
    """The same id with another start is gone, and what runs elsewhere is never said to be."""
    place, pid, start = this_process().split(":")
    assert not is_gone(this_process())
    assert is_gone(f"{place}:{pid}:{int(start) - 1}")
    assert not is_gone(f"another-boot/1:{pid}:{start}")
    assert not is_gone("no owner")


def test_samples_of_a_trial_that_was_taken_back_are_kept(study: SweepStudy) -> None:
    """A node that was stopped, lost its point, woke up and recorded it has its samples kept as a visit of their own."""
    with StudyWorker(study, SPACE, Node("here", grace=600)) as worker:
        claim = worker.ask(_go_on).claim
        assert claim is not None
        study.settle(study.trials()[claim.number], "taken back")
        other = worker.take(claim.cell, claim.size, 4, {})
        assert other is not None
        worker.record(other, _result(claim.size, 20.0))
        worker.record(claim, _result(claim.size))
        assert worker.ask(_go_on).claim is not None
    kept = [result.latencies_us["base"][0] for result in study.results() if result.size == claim.size]
    assert sorted(kept) == [10.0, 20.0]
    assert {result.node for result in study.results()} == {"here"}


def test_samples_stored_before_the_trial_was_taken_back_count_once(study: SweepStudy) -> None:
    """Samples that reached the storage count although the trial was failed right then; they are not added again."""
    with StudyWorker(study, SPACE, Node("here", grace=600)) as worker:
        claim = worker.ask(_go_on).claim
        assert claim is not None
        stale = study.trials()[claim.number]
        storage = study.storage.optuna
        set_state = storage.set_trial_state_values
        told: list[TrialState] = []

        def late(trial_id: int, state: TrialState, values: object = None) -> bool:
            if not told:
                told.append(state)
                study.settle(stale, "taken back")  # by somebody who has not seen the samples yet
            return set_state(trial_id, state, values)  # type: ignore[arg-type]

        storage.set_trial_state_values = late  # type: ignore[method-assign]
        worker.record(claim, _result(claim.size))
    assert study.trials()[claim.number].state == TrialState.FAIL
    assert [result.size for result in study.results()] == [claim.size]
    assert len(RegretSampler(SPACE, ("fast",)).observations(study.study)) == 1


@pytest.mark.parametrize(("folder", "told"), [("", "this brings it in"), ("file", "is lost, .*: File exists")])
def test_samples_that_no_storage_takes_are_told_of(study: SweepStudy, tmp_path: Path, folder: str, told: str) -> None:
    """Where a storage is gone for good its last samples go into a journal; where that can't be, the error says so."""
    (tmp_path / "file").touch()

    def gone() -> None:
        raise StorageGoneError("the storage has not answered")

    seen = SweepStudy(study.study, META, replace(study.storage, optuna=_Stopped(study.storage.optuna, RESULT, gone)))
    with StudyWorker(seen, SPACE, Node("here", grace=600), rescue=tmp_path / folder) as worker:
        claim = worker.take(CELL.name, 2048, 4, {})
        assert claim is not None
        with pytest.raises(StorageGoneError, match=rf"has not answered\. .*{told}"):
            worker.record(claim, _result(2048))
    kept = sorted(path.name for path in tmp_path.glob("*.journal"))
    assert kept == ([] if folder else ["rescued-s-here.journal"])


@pytest.mark.parametrize("away", [True, False])
def test_samples_whose_storing_is_interrupted_are_kept(study: SweepStudy, tmp_path: Path, away: bool) -> None:
    """By the storage, or where that does not answer in a journal, before the interrupt goes on to end the sweep."""

    def gone() -> None:
        raise StorageGoneError("the storage has not answered")

    def interrupted() -> None:
        if away:
            stopped._meanwhile.append(gone)
        raise KeyboardInterrupt

    stopped = _Stopped(study.storage.optuna, RESULT, interrupted)
    seen = SweepStudy(study.study, META, replace(study.storage, optuna=stopped))
    with StudyWorker(seen, SPACE, Node("here", grace=600), rescue=tmp_path) as worker:
        claim = worker.take(CELL.name, 2048, 4, {})
        assert claim is not None
        with pytest.raises(KeyboardInterrupt):
            worker.record(claim, _result(2048))
    assert len(study.results()) == (0 if away else 1)
    assert sorted(path.name for path in tmp_path.glob("*.journal")) == ["rescued-s-here.journal"] * away


def test_a_search_ends_for_all_on_the_same_samples(study: SweepStudy) -> None:
    """Who finds nothing left waits for what others measure; after its end others end as well, and add nothing."""
    number = _others_trial(study, size_index=1)
    storage = study.storage.optuna
    trial_id = storage.get_trial_id_from_study_id_trial_number(study.id, number)
    told: list[str] = []

    def nothing_left() -> tuple[Outlook, str | None]:
        return Outlook(None, 0.0), "searched"

    with (
        StudyWorker(study, SPACE, Node("first", grace=600), waiting=told.append) as first,
        StudyWorker(study, SPACE, Node("second", grace=600)) as second,
    ):
        finish = threading.Timer(0.5, lambda: study.complete(trial_id, _result(2048)))
        finish.start()
        assert first.ask(nothing_left).ended == "searched"
        finish.join()
        assert "a point that others measure" in told[0]
        # The second would go on, and does not: the first has ended with all that there was.
        assert second.ask(_go_on).ended == "searched"
        study.add(SPACE, _result(4096))
        assert [result.size for result in first.results()] == [2048]
        assert [result.size for result in second.results()] == [2048]
    # Another run, or another budget, is not held to it.
    with StudyWorker(study, SPACE, Node("later")) as later:
        assert later.ask(_go_on).claim is not None


def test_what_comes_after_the_end_is_kept_and_changes_no_table(two_processes: tuple[SweepStudy, SweepStudy]) -> None:
    """Samples of a node that wakes up after the end are in no table, of whoever builds it, until the search goes on."""
    study, other = two_processes
    with (
        StudyWorker(study, SPACE, Node("stopped", grace=600)) as stopped,
        StudyWorker(other, SPACE, Node("other", grace=600)) as worker,
    ):
        late = stopped.take(CELL.name, 1024, 4, {COMMON: 0})
        assert late is not None
        _take_back_all(other)
        claim = worker.take(CELL.name, 2048, 4, {})
        assert claim is not None
        worker.record(claim, _result(claim.size, 20.0))
        assert worker.ask(lambda: (Outlook(None, 0.0), "searched")).ended == "searched"
        table = worker.results()
        assert [result.node for result in table] == ["other"]

        stopped.record(late, _result(1024))
        assert stopped.take(CELL.name, 2048, 4, {COMMON: 0}) is None
        assert stopped.ask(_go_on).ended == "searched"
        assert stopped.results() == worker.results() == table
    assert [result.node for result in study.results()] == ["other", "stopped"]
    assert other.table_results() == table
    # Somebody runs it again and finds nothing to do: that is an end more, and nothing else.
    with StudyWorker(other, SPACE, Node("later", grace=600)) as later:
        assert later.ask(lambda: (Outlook(None, 0.0), "searched")).ended == "searched"
        assert later.results() == other.table_results() == table
    # Now it goes on.
    with StudyWorker(other, SPACE, Node("later", grace=600), {"regret": 0.01}) as later:
        claim = later.take(CELL.name, 4096, 4, {})
        assert claim is not None
        later.record(claim, _result(4096))
        assert later.ask(lambda: (Outlook(None, 0.0), "searched")).ended == "searched"
        assert [result.node for result in later.results()] == ["other", "stopped", "later"]
    assert study.table_results() == study.results() == other.results()


def test_counters_are_watched_by_ones_own_clock() -> None:
    """Silence is what a process has seen of it without a break: one that was itself stopped begins anew."""
    clock = [0.0]
    watch = Watch(12.0, lambda: clock[0])
    trial = create_trial(state=TrialState.RUNNING, user_attrs={BEAT: 1})

    def look(at: float) -> bool:
        clock[0] = at
        return bool(watch.silent([trial]))

    assert not any(look(float(second)) for second in range(12))
    assert not look(100.0)
    assert not any(look(100.0 + second) for second in range(1, 12))
    trial.user_attrs[BEAT] = 2
    assert not any(look(112.0 + second) for second in range(12))
    assert look(124.0)


def test_visits_of_a_point_are_numbered_without_doubles(study: SweepStudy) -> None:
    """A visit takes the lowest number that no visit which counts has: that of a lost one is given again."""
    with StudyWorker(study, SPACE, Node("here")) as worker:
        claims = [worker.take(CELL.name, 2048, 1, {}) for _ in range(2)]
        claims += [worker.take(CELL.name, 4096, 1, {})]
        assert [claim.visit for claim in claims if claim] == [0, 1, 0]
        assert claims[0] is not None
        worker.give_up(claims[0], "lost")
        again = worker.take(CELL.name, 2048, 1, {})
        assert again is not None
        assert again.visit == 0
    study.add(SPACE, _result(8192))  # imported: without a number
    assert next_visit(study.trials(), CELL.name, SPACE.sizes.index(8192), 1 << 30) == 1
    assert study.trials()[0].user_attrs[VISIT] == 0
