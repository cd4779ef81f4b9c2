"""What single pages claim: links of the pages that code hosts show, the manifest, the variables, the examples."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch.distributed as dist
import yaml
from made_tables import make_cell, make_table
from pages import ROOT, blocks

from ccl_dispatch.runtime import find, install, probe, switch
from ccl_dispatch.runtime.plugins.hook import run_hook
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.device import placement
from ccl_dispatch.tuner.emit.text import seal, write_table


def _page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tables/README.md"])
def test_local_links_lead_somewhere(page: str) -> None:
    """Every file that a page outside of the site links to or shows is there."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", _page(page)) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link.partition("#")[0]).exists()] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone, in which git could ignore anything")
@pytest.mark.parametrize("page", ["README.md", "docs/start.md", "docs/tune.md", "docs/report.md"])
def test_what_commands_leave_in_a_clone_is_ignored(page: str) -> None:
    """No file that these pages have people make is offered to `git add`, nor what lies beside it."""
    shown = [block for block in blocks(page) if block.language in {"sh", "console"}]
    typed = "\n".join(command for block in shown for command, _ in block.commands())
    made = set(re.findall(r"--(?:out|storage|events) ([\w./-]+)(?!\S)", typed)) | {"my-cluster.yaml", "logs/rank0.log"}
    made |= {f"{name}.owner" for name in made if name.endswith(".journal")}
    asked = subprocess.run(["git", "check-ignore", *made], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made - set(asked.stdout.split()) == set()


def test_every_page_in_a_list_is_named_for_readers_too() -> None:
    """Each page that is made for users stands in the words of docs/index.md as well, for those who read it as text."""
    words, _, lists = _page("docs/index.md").partition("<!--")
    named = re.findall(r"^([a-z-]+)$", lists.partition("Look it up")[0], flags=re.MULTILINE)
    assert len(named) > 5
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", words)}
    assert {f"{name}.md" for name in named} - linked - {"tables.md"} == set()


def test_the_manifest_mounts_the_tables_where_they_are_looked_for() -> None:
    """The ConfigMap and the Deployment are YAML, name each other, and mount the folder of the search path."""
    (block,) = (block for block in blocks("docs/ship.md") if block.language == "yaml")
    configmap, deployment = yaml.safe_load_all(block.text)
    assert [document["kind"] for document in (configmap, deployment)] == ["ConfigMap", "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == configmap["metadata"]["name"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == find.SYSTEM_FOLDER
    assert mount["name"] == pod["volumes"][0]["name"]
    assert all(name.endswith(".yaml") for name in configmap["data"])
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_the_variables_are_those_of_the_code() -> None:
    """docs/environment.md has every variable that the source names and no other, with its values and defaults."""
    source = "\n".join(path.read_text() for name in ("runtime", "tuner") for path in (ROOT / name).rglob("*.py"))
    ours = set(re.findall(r"[\"$](CCL_DISPATCH(?:_[A-Z]+)*)\b", source))
    asked = set(re.findall(r"environ(?:\.get\(|\[)\"([A-Z_]+)\"", source))
    assert {switch.VARIABLE, find.VARIABLE, placement.SHARED_SETTING, "HOME", "NO_COLOR"} <= ours | asked
    page = _page("docs/environment.md")
    named = {name for name in re.findall(r"`\$?([A-Z_]{4,})(?:=\w+)?`", page) if not name.endswith("_")}
    assert named - {"DEBUG", "DEBUG_FILE", "DEBUG_SUBSYS", *probe._NO_SETTINGS, "AITER"} == ours | asked | {"COLUMNS"}
    table = page.partition("The command line")[0]
    for values in (switch.STATES, switch.EDITED):
        assert all(f"| `{value}` |" in table for value in values)
    assert f"unset, {switch.DEFAULT_TIMEOUT:g}" in table
    assert f"unset, `{switch.DEFAULT_RECORD_FOLDER}`" in table
    assert all(f"`{prefix}`" in page for prefix in probe._PREFIXES)
    assert all(name.partition("_")[2] in page for name in probe._NO_SETTINGS)


def test_what_an_engine_logs_of_a_table_is_on_the_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A table that fits, one that is named and does not, and one in a folder that does not: each is told as the rows of
    docs/operations.md have it; where there is no table at all that is no warning.
    """
    rows = re.findall(r"^\| `(.*)` \| (asks|uses|is decided)", _page("docs/operations.md"), flags=re.MULTILINE)
    cell = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 1), 16, [1024], ["aiter"])
    fits = make_table((cell,))._replace(
        candidates=("aiter",), provenance="measured", platform=probe.this_platform("cpu", {})
    )
    folder = tmp_path / "ccl-dispatch" / "tables"
    folder.mkdir(parents=True)
    write_table(seal(fits), tmp_path / "fits.yaml")
    write_table(seal(fits._replace(platform=fits.platform._replace(device="another"))), folder / "other.yaml")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        said = []
        for environ in (
            {"CCL_DISPATCH_TABLE": str(tmp_path / "fits.yaml")},
            {"CCL_DISPATCH_TABLE": str(folder / "other.yaml")},
            {"XDG_CONFIG_HOME": str(tmp_path)},
            {"XDG_CONFIG_HOME": str(tmp_path / "nowhere")},
        ):
            caplog.clear()
            communicator = SimpleNamespace(world_size=1, should_custom_ag=lambda _: True)
            with caplog.at_level(logging.INFO, logger="ccl_dispatch"):
                run_hook("SGLang", partial(install, communicator, group=dist.group.WORLD, environ=environ))
            said.append([(record.levelname, record.getMessage()) for record in caplog.records])
    finally:
        dist.destroy_process_group()
    assert [happens for _, happens in rows] == ["asks", "uses", "is decided"]
    assert [[level for level, _ in lines] for lines in said] == [["INFO"], ["WARNING"], ["WARNING"], ["INFO"]]
    for (words, _), ((_, line),) in zip([*rows, rows[-1]], said, strict=True):
        assert re.search(".*".join(map(re.escape, words.split("..."))), line), (words, line)
    for engine in ("sglang", "vllm"):
        assert "asks the table sha256:... before it uses aiter`" in _page(f"docs/{engine}.md")


def test_the_sampler_runs_on_its_own() -> None:
    """The example of docs/searching.md runs as it stands and ends by itself, within its budget of 60 executions."""
    (block,) = (block for block in blocks("docs/searching.md") if block.language == "python")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names: dict[str, Any] = {}
    exec(block.text, names)  # noqa: S102 - what a reader would paste
    trials = names["study"].get_trials()
    assert len(trials) >= 5
    assert all(trial.state.name == "COMPLETE" for trial in trials)
    assert sum(2 + 2 * trial.params["repeats"] for trial in trials) <= 60


def test_record_tune_ship_runs() -> None:
    """The example of docs/serving.md records, tunes and installs with real processes; its times are not judged."""
    script = str(ROOT / "benchmarks" / "record_tune_ship.py")
    words = ["--passes", "4", "--calls", "20", "--seconds", "4"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=200, check=False)
    assert "table / always candidate" in done.stdout, done.stderr
    assert "recorded: 2 files" in done.stdout
