"""What a sweep prints at its end."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from command import ccl_dispatch
from fleets import write_config
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.cli.sweep import estimated


def test_what_all_runs_took_is_not_mixed_up_with_this_run(tmp_path: Path) -> None:
    """Of a study that was complete the executions and seconds in collectives are of the first run, its time is not."""
    write_config(tmp_path, 2)
    first, second = (ccl_dispatch("sweep", "fleet.yaml", "--quiet", folder=tmp_path).stdout for _ in range(2))
    pattern = r"executions: (.*) s in collectives, over all runs of the study\nthis run took [\d.]+ s and ended"
    assert re.findall(pattern, first) == re.findall(pattern, second) != []
    assert "nothing was measured now" in second


def test_it_says_at_once_where_samples_go_and_at_the_end_what_comes_next(tmp_path: Path) -> None:
    """Both commands that it ends with do as they are, though a name has a space; `--quiet` leaves out the first."""
    pytest.importorskip("matplotlib")
    write_config(tmp_path, 2)
    words = ("sweep", "fleet.yaml", "--storage", "my samples.journal")
    done = ccl_dispatch(*words, folder=tmp_path)
    assert done.stderr.splitlines()[0].endswith("] fleet: starting; samples go to my samples.journal")
    *_, shown, drawn = done.stdout.splitlines()
    for line, start in ((shown, "next: ccl-dispatch show "), (drawn, "the curves: ccl-dispatch report ")):
        assert line.startswith(start)
        verb = line.partition("ccl-dispatch ")[2]
        assert ccl_dispatch(*shlex.split(verb), folder=tmp_path).returncode == 0
    assert ccl_dispatch(*words, "--quiet", folder=tmp_path).stderr == ""


def test_a_table_of_another_study_is_not_replaced_unless_it_is_named(tmp_path: Path) -> None:
    """A sweep into a database leaves the table of the journal's study, and itself nothing; `--out` replaces it.

    Each of the two studies goes on with a table of its own, and not with the other's.
    """
    write_config(tmp_path, 1, "seed: 1, noise: 0.05", "budget: {executions: 20}\n")
    table = tmp_path / "runs" / "fleet" / "table.yaml"
    into = ("--storage", "sqlite:///s.db")

    def sweep(*more: str, code: int = 0) -> str:
        done = ccl_dispatch("sweep", "fleet.yaml", "--quiet", *more, folder=tmp_path)
        assert done.returncode == code, done.stderr
        return done.stderr

    sweep()
    before = table.read_bytes()
    told = sweep(*into, code=2)
    assert "runs/fleet/table.yaml would be replaced, and was not made from this sweep's study" in told
    assert "study 'fleet' holds no points. Give --out another file" in told
    assert not (tmp_path / "s.db").exists()
    sweep()
    assert table.read_bytes() == before
    write_config(tmp_path, 1, "seed: 1, noise: 0.05", "budget: {executions: 40}\n")
    sweep(*into, "--out", "runs/fleet/table.yaml")
    other = table.read_bytes()
    assert other != before
    sweep(*into)
    assert table.read_bytes() == other


def test_a_config_of_the_journal_s_name_is_not_replaced(tmp_path: Path) -> None:
    """`--storage fleet.journal` beside fleet.yaml would put the table in the config's place, and is refused."""
    config = write_config(tmp_path, 1)
    before = config.read_bytes()
    done = ccl_dispatch("sweep", "fleet.yaml", "--quiet", "--storage", "fleet.journal", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "fleet.yaml is a config, which would be lost. Give another --out" in done.stderr
    assert config.read_bytes() == before
    assert not (tmp_path / "fleet.journal").exists()


def test_points_are_told_apart_from_visits(tmp_path: Path) -> None:
    """A size that is visited again is one point and two visits: at the end, in the report, in the table's bands."""
    write_config(tmp_path, 1, "noise: 0.3, seed: 5", "budget: {regret: 0.0005}\n")
    done = ccl_dispatch("sweep", "fleet.yaml", "--quiet", "--summary", "summary.json", folder=tmp_path)
    told = re.search(r": 1 cell from (\d+) points in (\d+) visits \(replayed\)", done.stdout)
    assert told is not None, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    points, visits = int(told[1]), int(told[2])
    assert (points, visits) == (summary["points"], summary["trials"])
    assert points < visits
    shown = ccl_dispatch("show", summary["table"], "--details", folder=tmp_path).stdout
    assert sum(int(count) for count in re.findall(r"(\d+) points?, ", shown)) == points


@pytest.mark.parametrize(
    ("use", "gain", "ended", "told"),
    [
        ("rccl", -0.9, "seconds", "keeps rccl; a calmer machine, or a larger budget, may prove it"),
        ("rccl", -0.9, "regret", "keeps rccl; a calmer machine, or a smaller `budget.regret`, may prove it"),
        ("rccl", -0.9, "searched", "keeps rccl; a calmer machine may prove it"),
        ("aiter", 20.0, "searched", "scatters widely; a calmer machine tells more"),
    ],
)
def test_much_regret_is_told_with_its_reason(use: str, gain: float, ended: str, told: str) -> None:
    """A baseline that was kept for want of proof, or a candidate whose samples scatter: not the same advice. A larger
    budget is advised where the sweep spent one: one that ended before would measure nothing more.
    """
    cell = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 2), 64, [4096], [use])
    band = cell.bands[0]._replace(gain=gain)
    table = make_table((cell._replace(bands=(band,), regret_estimate=0.2),))
    assert told in estimated(table, 0.2, ended)
    assert "all_gather/eager/first/bfloat16/ws2, 20.0%" in estimated(table, 0.2, ended)
    assert "The most is in" not in estimated(table, 0.0001, ended)
