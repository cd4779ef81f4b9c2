"""`explain` without a call: which table this machine takes, and why not the others, key by key."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from command import COMMAND
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import write_table

CELLS = (make_cell(Cell("all_gather", "eager", "first", "bfloat16", 4), 16, [1024], ["aiter"]),)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder of tables: one of this machine, one of another, one that is broken."""
    folder = tmp_path / "ccl-dispatch" / "tables"
    folder.mkdir(parents=True)
    table = make_table(CELLS)._replace(provenance="measured", platform=this_platform("cpu"))
    write_table(table, folder / "good.yaml")
    write_table(table._replace(platform=table.platform._replace(architecture="riscv128")), folder / "other.yaml")
    (folder / "broken.yaml").write_text("schema: [")
    return tmp_path


def _explain(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "XDG_CONFIG_HOME": str(home), **environment}
    command = [*COMMAND, "explain", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_every_table_that_was_looked_at_has_its_reasons(home: Path) -> None:
    """The taken one says so; one of another machine names the key and both values; a broken one its line."""
    done = _explain(home)
    assert done.returncode == 0, done.stderr
    for told in (
        "good.yaml: taken",
        "other.yaml: not taken, does not fit",
        "differs: architecture: the table has riscv128, this machine has ",
        "broken.yaml: not taken, not valid",
        "broken.yaml:2: not YAML",
        "same:    versions.torch",
    ):
        assert told in done.stdout, done.stdout
    found = json.loads(_explain(home, "--json").stdout)
    assert found["taken"].endswith("good.yaml")
    assert [item["fits"] for item in found["considered"]] == [False, True, False]


def test_a_named_table_is_judged_alone(home: Path) -> None:
    """By argument or by $CCL_DISPATCH_TABLE only that table is judged; one that is not taken is exit code 1."""
    other = str(home / "ccl-dispatch" / "tables" / "other.yaml")
    for done in (_explain(home, other), _explain(home, CCL_DISPATCH_TABLE=other)):
        assert done.returncode == 1, done.stderr
        assert "riscv128" in done.stdout
        assert "good.yaml" not in done.stdout
    assert _explain(home, "--shape", "4,4").returncode == 2


@pytest.mark.parametrize("value", ["off", "record", "yes"])
def test_a_switch_that_keeps_engines_from_it_is_told(home: Path, value: str) -> None:
    """No table is called taken; the one that would be is named. A value without a meaning is what it is taken for."""
    state = "off" if value == "yes" else value
    good = str(home / "ccl-dispatch" / "tables" / "good.yaml")
    for words in ((), (good,)):
        done = _explain(home, *words, CCL_DISPATCH=value)
        assert done.stdout.startswith(f"$CCL_DISPATCH is {state}: engines use no table"), done.stdout
        assert f"good.yaml: would be taken, were $CCL_DISPATCH not {state}\n" in done.stdout
        assert "decide each call as they do without ccl-dispatch" in done.stdout
        assert ("'yes', expected one of" in done.stderr) == (value == "yes")
        assert done.returncode == 1
        found = json.loads(_explain(home, *words, "--json", CCL_DISPATCH=value).stdout)
        assert (found["switch"], found["taken"]) == (state, None)


@pytest.mark.parametrize("value", ["off", "record", "on"])
def test_a_call_is_answered_with_what_the_switch_makes_of_it(home: Path, value: str) -> None:
    """What the table says comes after the line that engines do not ask it; where they do, there is no such line."""
    good = str(home / "ccl-dispatch" / "tables" / "good.yaml")
    call = ("--size", "64", "--dtype", "bfloat16", "--world-size", "4")
    first, second, *_ = _explain(home, good, *call, CCL_DISPATCH=value).stdout.splitlines()
    if value == "on":
        assert first.startswith("aiter: ")
    else:
        assert first.startswith(f"$CCL_DISPATCH is {value}: engines use no table")
        assert first.endswith("the table says:")
        assert second.startswith("aiter: ")
    found = json.loads(_explain(home, good, *call, "--json", CCL_DISPATCH=value).stdout)
    assert (found["switch"], found["use"]) == (value, "aiter")


@pytest.mark.parametrize(
    "part",
    [
        ("--dtype", "float32"),
        ("--world-size", "4"),
        ("--mode", "eager"),
        ("--dim", "first"),
        ("--collective", "all_gather"),
    ],
    ids=lambda part: part[0],
)
def test_a_part_of_a_call_without_its_size_is_refused(home: Path, part: tuple[str, str]) -> None:
    """An option that would be left aside ends with 2 and the options that belong together; a default too."""
    good = str(home / "ccl-dispatch" / "tables" / "good.yaml")
    for words in ((good, *part), part):
        done = _explain(home, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{part[0]} without a size: expected a call, which is --shape or --size with --dtype" in done.stderr


def test_a_variable_that_is_misspelt_is_told(home: Path) -> None:
    """Beside the answer, which is as without it, for people and programs alike."""
    told = "$CCL_DISPATCH_TABEL is set, and there is no such variable. Did you mean 'CCL_DISPATCH_TABLE'?"
    for words in ((), ("--json",)):
        plain, slip = _explain(home, *words), _explain(home, *words, CCL_DISPATCH_TABEL="x.yaml", CCL_DISPATCH="on")
        assert (slip.returncode, slip.stdout) == (plain.returncode, plain.stdout)
        assert told not in plain.stderr
        assert told in slip.stderr


def test_what_is_taken_of_edited_tables_is_as_the_environment_says(home: Path) -> None:
    """With $CCL_DISPATCH_EDITED=warn a table that was edited is taken, as engines take it."""
    good = home / "ccl-dispatch" / "tables" / "good.yaml"
    good.write_text(good.read_text().replace("gain: 0.25", "gain: 0.26", 1))
    assert "good.yaml: not taken, not valid" in _explain(home).stdout
    done = _explain(home, CCL_DISPATCH_EDITED="warn")
    assert (done.returncode, "good.yaml: taken" in done.stdout) == (0, True), done.stderr


def test_two_that_fit_alike_are_named(home: Path) -> None:
    """Each of two tables that fit equally well names the other, and what to do is said."""
    folder = home / "ccl-dispatch" / "tables"
    cells = (make_cell(CELLS[0].cell, 16, [2048], ["aiter"]),)
    table = make_table(cells)._replace(provenance="measured", platform=this_platform("cpu"))
    write_table(table, folder / "twin.yaml")
    done = _explain(home)
    assert done.returncode == 1
    assert f"good.yaml: fits, but so does {folder / 'twin.yaml'}" in done.stdout


@pytest.mark.parametrize("named", [False, True])
def test_a_call_that_no_table_answers_is_told_to_programs_as_well(home: Path, named: bool) -> None:
    """Exit code 1 with --json has JSON with the reasons, as without a call; people get the words on standard error."""
    folder = home / "ccl-dispatch" / "tables"
    for name in ("good.yaml", "broken.yaml"):
        (folder / name).unlink()
    environment = {"CCL_DISPATCH_TABLE": str(folder / "other.yaml")} if named else {}
    call = ("--size", "64KiB", "--dtype", "bfloat16", "--world-size", "4")
    done = _explain(home, *call, "--json", **environment)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found == json.loads(_explain(home, "--json", **environment).stdout)
    assert found["taken"] is None
    plain = _explain(home, *call, **environment)
    assert (plain.returncode, plain.stdout) == (1, "")
    assert "architecture: the table has riscv128" in plain.stderr
