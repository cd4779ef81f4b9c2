"""Several `sweep` processes on one real PostgreSQL server, as the nodes of a cluster run them."""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from command import ccl_dispatch
from fleets import start_node, wait_for, write_config
from postgres import PostgresServer, missing, running_server
from sweeping import FULL

from ccl_dispatch.runtime import Table, load_table
from ccl_dispatch.tuner.search.base import CELL, SIZE_INDEX, VISIT
from ccl_dispatch.tuner.study import SweepStudy, open_storage
from ccl_dispatch.tuner.study.claims import LATE, NODE, WHY, counts, is_decided

# The first look at every cell and nothing more, always with as many repetitions: which points are visited then does not
# depend on who measures which when, and the table must be the same to the byte, apart from its evidence.
FIRST_LOOK = "measure: {min_samples: 20, max_samples: 20}\nbudget: {regret: 0.05}\n"
NOISE = "noise: 0.05, outliers: 0.01, seed: 3"


def _without_evidence(table: Table) -> Table:
    return table._replace(evidence={}, digest="", source="")


@pytest.mark.slow
@pytest.mark.storm
def test_four_nodes_of_which_one_is_killed(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """Four nodes share 30 cells: no point is taken twice by accident, and all end with the table that one makes alone.

    At random moments a random one of them is killed and started again, in `make storm` ten times: that changes nothing.
    """
    config = write_config(tmp_path, 30, f"{NOISE}, pace: 10", FIRST_LOOK)
    calm = write_config(tmp_path, 30, NOISE, FIRST_LOOK, name="calm")
    alone = ccl_dispatch("sweep", str(calm), "--quiet", "--storage", "calm.journal", "--out", "c.yaml", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    url = postgres_server.database()
    names = ["n0", "n1", "n2", "n3"]
    nodes = {name: start_node(tmp_path, config, url, name, "--common", "0") for name in names}
    rng = random.Random(5)
    killed = 0
    with open_storage(url, write=True) as storage:
        while killed < (10 if os.environ.get(FULL) else 3):
            time.sleep(0.2 + 0.7 * rng.random())
            name = rng.choice(names)
            assert nodes[name].poll() is None, (tmp_path / f"{name}.log").read_text()
            nodes[name].send_signal(signal.SIGKILL)
            nodes[name].wait()
            killed += 1
            nodes[name] = start_node(tmp_path, config, url, name, "--common", "0")
        wait_for(tmp_path, names, list(nodes.values()), 120)
        study = SweepStudy.load(storage, None)
        visits = [trial for trial in study.trials() if counts(trial)]
    taken = Counter((t.params[CELL], t.params[SIZE_INDEX], t.user_attrs[VISIT]) for t in visits)
    assert max(taken.values()) == 1
    assert {t.user_attrs[NODE] for t in visits} == set(names)
    tables = [load_table(tmp_path / f"{name}.yaml") for name in names]
    assert len({(tmp_path / f"{name}.yaml").read_bytes() for name in names}) == 1
    one = load_table(tmp_path / "c.yaml")
    assert _without_evidence(tables[0])._replace(name="calm") == _without_evidence(one)
    assert tables[0].evidence["trials"] == one.evidence["trials"]
    assert set(tables[0].evidence["nodes"]) == set(names)


def test_a_node_joins_late_and_one_wakes_up(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """A node that comes later shares what is left; one that is stopped loses its point after the grace, and wakes up.

    The work is shared: every node has measured a part.
    """
    config = write_config(tmp_path, 2, f"{NOISE}, pace: 400", FIRST_LOOK + "sizes: {max: 32 KiB}\n")
    url = postgres_server.database()
    first = start_node(tmp_path, config, url, "first", "--grace", "1.5")
    _wait_for(url, lambda study: len(study.results()) >= 2 and any(map(is_decided, study.running())))
    time.sleep(0.05)  # what it has decided on takes longer
    first.send_signal(signal.SIGSTOP)
    late = start_node(tmp_path, config, url, "late", "--grace", "1.5")
    try:
        _wait_for(url, lambda study: any("no sign of life" in t.user_attrs.get(WHY, "") for t in study.trials()))
    finally:
        first.send_signal(signal.SIGCONT)
    wait_for(tmp_path, ["first", "late"], [first, late], 60)
    assert (tmp_path / "first.yaml").read_bytes() == (tmp_path / "late.yaml").read_bytes()
    points = load_table(tmp_path / "late.yaml").evidence["nodes"]
    assert min(points.values()) >= 2
    assert "first has given no sign of life for 1.5 s" in (tmp_path / "late.log").read_text()


def test_a_node_that_wakes_up_after_the_end_changes_no_table(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """A node that was stopped in its common points wakes up when the other has ended: both have one table.

    `build` and another run make the same one, to the byte, before and after it woke up; what it had measured is kept.
    """
    config = write_config(tmp_path, 2, f"{NOISE}, pace: 150", FIRST_LOOK + "sizes: {max: 32 KiB}\n")
    url = postgres_server.database()
    stopped = start_node(tmp_path, config, url, "stopped", "--grace", "1.5")
    _wait_for(url, lambda study: bool(study.results()) and any(map(is_decided, study.running())))
    stopped.send_signal(signal.SIGSTOP)
    try:
        wait_for(tmp_path, ["other"], [start_node(tmp_path, config, url, "other", "--grace", "1.5")], 60)
        early = ccl_dispatch("build", "--storage", url, "--out", "early.yaml", folder=tmp_path)
        with open_storage(url, write=False) as storage:
            before = len(SweepStudy.load(storage, None).results())
    finally:
        stopped.send_signal(signal.SIGCONT)
    wait_for(tmp_path, ["stopped"], [stopped], 60)
    with open_storage(url, write=False) as storage:
        study = SweepStudy.load(storage, None)
        assert len(study.table_results()) == before
        late = [trial for trial in study.trials() if LATE in trial.user_attrs]
        assert len(study.results()) == before + len(late)
    wait_for(tmp_path, ["again"], [start_node(tmp_path, config, url, "again")], 60)
    built = ccl_dispatch("build", "--storage", url, "--out", "late.yaml", folder=tmp_path)
    assert (early.returncode, built.returncode) == (0, 0), early.stderr + built.stderr
    names = ("other", "early", "stopped", "again", "late")
    assert len({(tmp_path / f"{name}.yaml").read_bytes() for name in names}) == 1
    assert "nothing was measured now" in (tmp_path / "again.log").read_text()


def _wait_for(url: str, reached: Callable[[SweepStudy], bool]) -> None:
    """Return once the study has come so far."""
    deadline = time.monotonic() + 90
    with open_storage(url, write=False) as storage:
        while time.monotonic() < deadline:
            if storage.optuna.get_all_studies() and reached(SweepStudy.load(storage, None)):
                return
            time.sleep(0.02)
    raise AssertionError("the sweep has not come so far in time")


def test_a_server_that_is_gone_loses_no_sample(tmp_path: Path) -> None:
    """A short outage is waited out. After a long one the sweep ends with 3 and names the journal with its last samples.

    The command that it names brings them in, and the same sweep then goes on to its end.
    """
    if (reason := missing()) is not None:
        pytest.skip(reason)
    config = write_config(tmp_path, 1, f"{NOISE}, pace: 400", FIRST_LOOK + "sizes: {max: 32 KiB}\n")
    with running_server() as server:
        url = server.database()
        node = start_node(tmp_path, config, url, "n", "--patience", "3", "--common", "0")
        _wait_for(url, lambda study: bool(study.results()) and any(map(is_decided, study.running())))
        server.stop(at_once=True)
        time.sleep(0.5)
        server.start()
        _wait_for(url, lambda study: len(study.results()) >= 3 and any(map(is_decided, study.running())))
        server.stop(at_once=True)
        assert node.wait(60) == 3
        told = (tmp_path / "n.log").read_text()
        assert "the storage answers again" in told
        command = shlex.split(re.search(r"brings it in: ccl-dispatch (merge .*)", told)[1])  # type: ignore[index]
        server.start()
        with open_storage(url, write=False) as storage:
            before = len(SweepStudy.load(storage, None).results())
        done = ccl_dispatch(*command, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{before + 1} visits; of 1 that were merged 1 are new" in done.stdout
        wait_for(tmp_path, ["n"], [start_node(tmp_path, config, url, "n", "--common", "0")], 60)
    assert load_table(tmp_path / "n.yaml").evidence["nodes"]["n"] >= before + 1


def test_a_sweep_and_fleet_through_the_grpc_proxy(tmp_path: Path) -> None:
    """Two nodes share Optuna's gRPC proxy, and `fleet` finds the one that is made slower, with exit code 1."""
    config = write_config(
        tmp_path, 2, f"{NOISE}, slow: {{b: {{by: 0.3, from: 1 MiB}}}}", "budget: {regret: 0.05}\n", name="g"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import optuna\n"
        f"storage = optuna.storages.get_storage('sqlite:///{tmp_path}/s.db')\n"
        f"optuna.storages.run_grpc_proxy_server(storage, host='127.0.0.1', port={port})\n"
    )
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stderr=subprocess.DEVNULL) as proxy:
        try:
            url = f"grpc://127.0.0.1:{port}"
            nodes = [start_node(tmp_path, config, url, name) for name in ("a", "b")]
            wait_for(tmp_path, ["a", "b"], nodes, 60)
            found = ccl_dispatch("fleet", "--storage", url, folder=tmp_path)
        finally:
            proxy.kill()
    assert found.returncode == 1, found.stderr
    assert "(replayed): 2 nodes, compared at 4 points" in found.stdout
    assert "slower than the others at 16 MiB" in found.stdout
    assert "Of two nodes nothing tells which" in found.stdout
    assert "made_slower" in (tmp_path / "a.yaml").read_text()
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
