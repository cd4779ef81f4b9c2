"""Recording: every call counted, files that are whole at any time, and a config that takes them as its workload."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import run_ranks

from ccl_dispatch.runtime import install, recording
from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.runtime.predicate import Modes
from ccl_dispatch.runtime.recording import Recorder
from ccl_dispatch.tuner.config.parsing import load_config

CONFIG = """\
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [4]
dtypes: [bfloat16]
sizes: {min: 16 B, max: 1 MiB}
workload: {recorded: calls, top: 3}
"""


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(str(tmp_path / "calls"))
    yield recorder
    recorder.close()


def test_the_answer_is_the_communicators_and_every_call_counts(recorder: Recorder) -> None:
    """What was asked for is in the file, most frequent first; what can't be counted is answered too."""
    watched = recorder.watch(lambda inp: inp == "yes", lambda: "eager", 4)
    for _ in range(3):
        watched(torch.zeros(4, 32320, dtype=torch.bfloat16))
    watched(torch.zeros(2, 7, dtype=torch.float32))
    watched(torch.zeros(0, dtype=torch.bfloat16))
    assert watched("yes") is True
    assert recorder.write()
    lines = Path(recorder.path).read_text().splitlines()
    assert lines[-2].endswith("dtype: bfloat16, world_size: 4, shape: [4, 32320], calls: 3}")
    assert lines[-1].endswith("dtype: float32, world_size: 4, shape: [2, 7], calls: 1}")
    assert "not_kept: 1" in lines


def test_the_number_of_shapes_is_bounded(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_SHAPES new shapes are only counted, and known ones go on."""
    monkeypatch.setattr(recording, "MAX_SHAPES", 2)
    watched = recorder.watch(lambda inp: True, lambda: "eager", 4)
    for rows in (1, 2, 3, 4, 1):
        assert watched(torch.zeros(rows, 8))
    text = recorder.text()
    assert "not_kept: 2" in text
    assert "shape: [1, 8], calls: 2" in text


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Serving goes on, and the warning is given once."""
    (tmp_path / "file").write_text("")
    recorder = Recorder(str(tmp_path / "file" / "folder"))
    watched = recorder.watch(lambda inp: True, lambda: "eager", 4)
    for _ in range(2):
        assert watched(torch.zeros(8))
        assert not recorder.write()
    recorder.close()
    assert caplog.text.count("can't be recorded") == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what happens here
@pytest.mark.parametrize("held", ["write", "wait"])
def test_a_child_that_is_forked_during_a_write_can_end(recorder: Recorder, held: str) -> None:
    """A process that the serving process forks while its record is being written, or while the thread that writes it
    goes to wait for the next time, ends, and leaves the file alone.
    """
    waiting: Any = recorder._stop
    with recorder._lock if held == "write" else waiting._cond:
        child = os.fork()
        if child == 0:
            recorder.close()
            os._exit(0)
        end = time.monotonic() + 2
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.01)
        if ended == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert ended == (child, 0)
    assert not Path(recorder.path).exists()


FORKED = """
import multiprocessing, sys
from types import SimpleNamespace
from ccl_dispatch.runtime import recording
recording.WRITE_SECONDS = 600.0
def work():
    watched = recording.recorder_of(sys.argv[1]).watch(lambda inp: True, lambda: "eager", 4)
    watched(SimpleNamespace(dtype="bfloat16", shape=(8,)))
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
print(process.exitcode)
"""


def test_a_process_that_multiprocessing_forks_writes_at_its_end(tmp_path: Path) -> None:
    """Such as a worker of vLLM, which runs no exit handlers: its last calls were lost."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "0\n", done.stderr
    (file,) = tmp_path.iterdir()
    assert "shape: [8], calls: 1}" in file.read_text()


class Group:
    """What `find_peers` needs of a group."""

    store, rank, world_size = None, 0, 2


def test_calls_are_those_of_the_group_that_was_given(tmp_path: Path) -> None:
    """A communicator that does not say how many ranks it has has those of its group, also while recording."""
    communicator = SimpleNamespace(should_custom_ag=lambda inp: True)
    environ = {"CCL_DISPATCH": "record", "CCL_DISPATCH_RECORD": str(tmp_path)}
    done = install(communicator, group=Group(), environ=environ)
    assert done.state == "recording", done.reason
    assert communicator.should_custom_ag(torch.zeros(8))
    recorder = recording.recorder_of(str(tmp_path))
    recorder.close()
    assert "world_size: 2, shape: [8], calls: 1}" in Path(recorder.path).read_text()


def test_calls_of_a_dtype_that_runs_as_another_count_as_its(tmp_path: Path) -> None:
    """As vLLM's expert ids do with AITER, so that a sweep measures the sizes that a table is asked for."""
    communicator = SimpleNamespace(should_custom_ag=lambda inp: True)
    environ = {"CCL_DISPATCH": "record", "CCL_DISPATCH_RECORD": str(tmp_path)}
    install(communicator, group=Group(), modes=Modes("graph", views=(("int32", "float32"),)), environ=environ)
    for dtype in (torch.int32, torch.float32, torch.int64):
        assert communicator.should_custom_ag(torch.zeros(8, dtype=dtype))
    recorder = recording.recorder_of(str(tmp_path))
    recorder.close()
    text = Path(recorder.path).read_text()
    assert "dtype: float32, world_size: 2, shape: [8], calls: 2}" in text
    assert "dtype: int64, world_size: 2, shape: [8], calls: 1}" in text
    assert "int32" not in text


def test_a_communicator_that_is_never_asked_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who asks for a record and will get none hears why: once, and not as a file without calls."""
    communicator = SimpleNamespace(should_custom_ag=lambda inp: True)
    environ = {"CCL_DISPATCH": "record", "CCL_DISPATCH_RECORD": str(tmp_path / "calls")}
    for _ in range(2):
        done = install(communicator, group=Group(), stuck="the engine does not ask it", environ=environ)
        assert done.state == "as it was"
        assert not hasattr(communicator.should_custom_ag, "ccl_dispatch_original")
    assert caplog.text.count("nothing is recorded: the engine does not ask it") == 1
    install(SimpleNamespace(should_custom_ag=None, disabled=True), group=Group(), environ=environ)
    assert "nothing is recorded: its communicator is disabled" in caplog.text
    assert not (tmp_path / "calls").exists()


def test_a_full_disk_leaves_no_half_of_a_file(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be written whole is taken away again, and the file comes when there is space."""
    watched = recorder.watch(lambda inp: True, lambda: "eager", 4)
    watched(torch.zeros(8))
    text = recorder.text
    Path(recorder.path).parent.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr(recorder, "text", lambda: "x" * 10000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # a file of 5000 bytes is as a disk that is full
    try:
        assert not recorder.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(Path(recorder.path).parent.iterdir()) == []
    monkeypatch.setattr(recorder, "text", text)
    assert recorder.write()
    assert "calls: 1}" in Path(recorder.path).read_text()


RECORDS = """
from ccl_dispatch.runtime import install
from ccl_dispatch.tuner.shared_memory import ShmCommunicator
communicator = ShmCommunicator(dist.group.WORLD)
done = install(communicator)
assert done.state == "recording", done
for rows, calls in ((1, 40), (4, 20), (8, 10), (2, 5)):
    for _ in range(calls):
        assert communicator.should_custom_ag(torch.zeros(rows, 1024, dtype=torch.bfloat16))
communicator.should_custom_ag(torch.zeros(3, 1024, dtype=torch.int64))
with communicator.capture():
    communicator.should_custom_ag(torch.zeros(4, 1024, dtype=torch.bfloat16))
from ccl_dispatch.runtime import recording
next(iter(recording._recorders.values())).write()
"""


def test_what_ranks_record_is_a_configs_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four ranks write four files; a config takes their folder: calls per collective, the most frequent of what it
    tunes, weighed by how often they were made.
    """
    monkeypatch.setenv("CCL_DISPATCH", "record")
    monkeypatch.setenv("CCL_DISPATCH_RECORD", str(tmp_path / "calls"))
    run_ranks(RECORDS, 4)
    assert len(list((tmp_path / "calls").iterdir())) == 4
    (tmp_path / "config.yaml").write_text(CONFIG)
    workload = load_config(tmp_path / "config.yaml").workload
    assert [(entry.shape, entry.weight, entry.world_size, entry.mode) for entry in workload] == [
        ((1, 1024), 1.0, 4, "eager"),
        ((4, 1024), 0.5, 4, "eager"),
        ((8, 1024), 0.25, 4, "eager"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no file or folder"),
        ("", "no file that ends with"),
        (
            "schema: ccl-dispatch/workload/v2\nnot_kept: 0\ncalls: []\nranks: 8\n",
            "found 'ccl-dispatch/workload/v2', expected .*v1. Use the version of ccl-dispatch that recorded it",
        ),
        ("not_kept: 0\ncalls: []\n", "schema: missing"),
        ("schema: ccl-dispatch/workload/v1\nnot_kept: 0\ncalls: []\n", "none of which"),
        ("schema: ccl-dispatch/workload/v1\ncalls:\n  - {shape: [0]}\n", "dtype"),
    ],
)
def test_a_record_that_cannot_be_used_says_why(tmp_path: Path, content: str | None, told: str) -> None:
    """Nothing there, another kind of file, nothing that is tuned, or a torn line: an error with its place."""
    if content is not None:
        (tmp_path / "calls").mkdir()
        if content:
            (tmp_path / "calls" / "x.workload.yaml").write_text(content)
    (tmp_path / "config.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError, match=told):
        load_config(tmp_path / "config.yaml")


def test_a_folder_that_never_answers_does_not_keep_the_process(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network mount that is dead: a write that does not end is left behind at the end of the process."""
    monkeypatch.setattr(recording, "SECONDS", 0.1)
    Path(recorder.path).parent.mkdir(exist_ok=True)
    os.mkfifo(f"{recorder.path}.part")  # nobody reads it, so that opening it never ends
    recorder._dropped[0] = 1
    closing = threading.Thread(target=recorder.close, daemon=True)
    closing.start()
    closing.join(20)
    ended = not closing.is_alive()
    reader = os.open(f"{recorder.path}.part", os.O_RDONLY | os.O_NONBLOCK)
    recorder._thread.join(20)
    os.close(reader)
    assert ended
