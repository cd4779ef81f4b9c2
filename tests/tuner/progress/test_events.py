"""The events of a sweep are as their schema says, whole lines at once, and none of them is worth a sweep."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command import COMMAND, ccl_dispatch
from watched import CELL, RESULT, small_plan

from ccl_dispatch.tuner.progress.events import EventProgress, EventSink
from ccl_dispatch.tuner.samples import PointExclusion, PointFault
from ccl_dispatch.tuner.schemas.events import event_page, event_schema
from ccl_dispatch.tuner.search import Outlook

DOCS = Path(__file__).parents[3] / "docs"
CHECK = jsonschema.Draft202012Validator(event_schema())
MI300X = Path(__file__).parents[2] / "data" / "measurements" / "mi300x-all_reduce-rccl-quickreduce.csv"
REAL = """\
name: real
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2]
dtypes: [bfloat16]
sizes: {min: 1 KiB, max: 64 KiB, per_octave: 1}
workload: [{shape: [1, 7168], dtype: bfloat16}]
backends: {shm: {max_size: 16 KiB}}
measure: {min_samples: 8, min_seconds: 0}
budget: {seconds: 20}
"""


def _replay(folder: Path, more: str = "") -> str:
    (folder / "r.yaml").write_text(
        f"name: r\nbaseline: rccl\ncandidates: [quickreduce]\nreplay: {{file: {MI300X}, noise: 0.3}}\n{more}"
    )
    return "r.yaml"


def _events(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        CHECK.validate(event)
    return found


def test_the_committed_files_are_what_is_generated() -> None:
    """After a change of the events `make generated` was called, and its result committed."""
    committed = (DOCS / "events.schema.json").read_text(encoding="utf-8")
    assert committed == json.dumps(event_schema(), indent=2, ensure_ascii=False) + "\n"
    assert (DOCS / "events.md").read_text(encoding="utf-8") == event_page()
    CHECK.check_schema(event_schema())


def test_the_events_of_a_real_sweep(tmp_path: Path) -> None:
    """Every line fits the schema; they come in order, with each point, exclusion and decision of the table."""
    (tmp_path / "real.yaml").write_text(REAL)
    done = ccl_dispatch("sweep", "real.yaml", "--quiet", "--json", "--events", "e.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    events = _events((tmp_path / "e.jsonl").read_text())
    kinds = [event["event"] for event in events]
    assert kinds[:4] == ["started", "plan", "asked", "point"]
    assert kinds[-3:] == ["stopped", "table", "ended"]
    assert kinds.count("asked") == kinds.count("point") == kinds.count("outlook") == summary["trials"]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)
    assert len({event["run"] for event in events}) == 1
    assert set(kinds) == {"started", "plan", "asked", "point", "exclusion", "outlook", "stopped", "table", "ended"}
    excluded = [event for event in events if event["event"] == "exclusion"]
    assert {(event["backend"], event["reason"]) for event in excluded} == {("shm", "unsupported")}
    points = [event for event in events if event["event"] == "point"]
    assert {event["size"] for event in excluded} == {event["size"] for event in points if not event["gains"]}
    assert {tuple(event["shape"]) for event in points} >= {(), (1, 7168)}
    assert sum(event["executions"]["gloo"] for event in points) == summary["executions"]["gloo"]
    assert events[-1]["summary"] == summary
    # Continued, the finished study has another run in the same file, in which nothing is measured.
    again = ccl_dispatch("sweep", "real.yaml", "--quiet", "--events", "e.jsonl", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    later = _events((tmp_path / "e.jsonl").read_text())[len(events) :]
    assert [event["event"] for event in later] == ["started", "plan", "stopped", "table", "ended"]
    assert later[1]["known_points"] == summary["trials"]


def test_standard_output_is_the_events_alone(tmp_path: Path) -> None:
    """With - they are all of standard output, and --json beside it is refused."""
    config = _replay(tmp_path, "budget: {executions: 200}\n")
    done = ccl_dispatch("sweep", config, "--quiet", "--events", "-", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    events = _events(done.stdout)
    assert events[0]["provenance"] == "replayed"
    assert events[-1]["how"] == "done"
    assert "executions: " in done.stderr
    both = ccl_dispatch("sweep", config, "--json", "--events", "-", folder=tmp_path)
    assert both.returncode == 2
    assert "leave --json out" in both.stderr
    nowhere = ccl_dispatch("sweep", config, "--events", "no/such/folder/e", folder=tmp_path)
    assert nowhere.returncode == 3
    assert "no/such/folder/e can't be opened" in nowhere.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_is_the_last_event(tmp_path: Path, number: signal.Signals) -> None:
    """Events are there while the sweep runs; interrupted, its last one says so, and a line that it continues."""
    config = _replay(tmp_path, "measure: {min_samples: 400}\nbudget: {regret: 1.0e-6}\n")
    command = [*COMMAND, "sweep", config, "--quiet", "--events", "-"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [next(process.stdout) for _ in range(6)]
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert f"interrupted{by}; completed points are kept, the same command continues\n" in errors
    assert process.returncode == 128 + number
    last = _events("".join(lines) + rest)[-1]
    assert (last["event"], last["how"], last["summary"]) == ("ended", "interrupted", None)


@contextlib.contextmanager
def _sweeping_into(writer: int, config: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep whose events go into that end of a pipe, which is its alone."""
    command = [*COMMAND, "sweep", config, "--quiet", "--events", "-"]
    with subprocess.Popen(command, cwd=folder, stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        yield process


def test_a_reader_that_goes_ends_nothing_but_the_events(tmp_path: Path) -> None:
    """After the pipe is closed the sweep says so once, goes on to its table, and ends with 0."""
    config = _replay(tmp_path, "budget: {executions: 400}\n")
    reader, writer = os.pipe()
    with _sweeping_into(writer, config, tmp_path) as process:
        assert os.read(reader, 10)
        os.close(reader)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors.count("standard output takes no more") == 1
    assert (tmp_path / "runs/r/table.yaml").is_file()


def test_one_interrupt_ends_a_sweep_whose_reader_has_stalled(tmp_path: Path) -> None:
    """A reader that does not read is waited for until Ctrl-C: one is enough. It got whole lines, but for the last."""
    config = _replay(tmp_path, "measure: {min_samples: 400}\nbudget: {regret: 1.0e-6}\n")
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 16384)
    with _sweeping_into(writer, config, tmp_path) as process:
        journal, size = tmp_path / "runs/r/study.journal", 0
        while not journal.exists() or journal.stat().st_size > size:
            size = journal.stat().st_size if journal.exists() else 0
            time.sleep(1)
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert "the same command continues" in errors
    assert errors.count("standard output takes no more (its reader does not read)") == 1
    with os.fdopen(reader) as left:
        lines = left.read().split("\n")
    assert len(_events("\n".join(lines[:-1]))) > 3


def test_an_interrupted_sweep_does_not_wait_for_its_reader(tmp_path: Path) -> None:
    """Also where the interrupt came elsewhere, and the pipe is full only by then."""
    plan = small_plan(tmp_path)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reader), os.fdopen(writer, "wb"):
        events = EventProgress(EventSink(f"/dev/fd/{writer}"), plan.config, "s.journal", "t.yaml")
        os.write(writer, b"x" * 2000)
        began = time.monotonic()
        events.end(None, KeyboardInterrupt())
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["t.yaml", "m.csv", "c.yaml"])
def test_events_are_not_appended_to_other_files(tmp_path: Path, name: str) -> None:
    """A table, measurements or a config that `--events` names is refused and stays as it is."""
    config = _replay(tmp_path, "budget: {executions: 200}\n")
    done = ccl_dispatch("sweep", config, "--quiet", "--storage", "s.journal", "--out", "t.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ccl_dispatch("export", "--storage", "s.journal", "--out", "m.csv", folder=tmp_path).returncode == 0
    (tmp_path / "c.yaml").write_text('{"name": "c",\n "baseline": "gloo",\n "candidates": ["shm"]}')
    before = (tmp_path / name).read_bytes()
    refused = ccl_dispatch("sweep", config, "--quiet", "--events", name, folder=tmp_path)
    assert refused.returncode == 2
    assert "no file of events" in refused.stderr
    assert (tmp_path / name).read_bytes() == before


def test_a_failure_is_the_last_event(tmp_path: Path) -> None:
    """Where the study is another sweep's, the last event has the error's words; a password is in none."""
    config = _replay(tmp_path, "budget: {executions: 200}\n")
    assert ccl_dispatch("sweep", config, "--quiet", folder=tmp_path).returncode == 0
    _replay(tmp_path, "policy: {min_gain: 0.2}\n")
    began = time.time()
    done = ccl_dispatch("sweep", config, "--quiet", "--events", "e.jsonl", folder=tmp_path)
    assert done.returncode != 0
    events = _events((tmp_path / "e.jsonl").read_text())
    assert [event["event"] for event in events] == ["started", "ended"]
    assert events[-1]["how"] == "failed"
    assert "holds samples of another sweep" in events[-1]["message"]
    assert events[0]["time"][:4] == time.strftime("%Y", time.gmtime(began))


def test_a_fault_is_an_event(tmp_path: Path) -> None:
    """A fault that a result carries is told between its point and its exclusions, and fits the schema."""
    plan = small_plan(tmp_path)
    events = EventProgress(EventSink(str(tmp_path / "e.jsonl")), plan.config, "s.journal", "t.yaml")
    events.begin(plan, [])
    events.point(0, CELL.name, RESULT.size)
    fault = PointFault("shm", "crashed", 1, "signal 11", "last words", "shm")
    out = (PointExclusion("shm", "crashed", "signal 11"),)
    events.measured(replace(RESULT, stopped_by="settled", faults=(fault,), exclusions=out), {}, Outlook(None, 0.01))
    events.end(None, None)
    found = _events((tmp_path / "e.jsonl").read_text())
    assert [event["event"] for event in found[3:6]] == ["point", "fault", "exclusion"]
    assert (found[4]["blamed"], found[4]["rank"], found[4]["log"]) == ("shm", 1, "last words")
