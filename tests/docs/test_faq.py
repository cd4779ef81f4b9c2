"""Every message of docs/faq.md is brought about, and is quoted as it is printed."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_tables import make_cell, make_table
from markdown_it import MarkdownIt
from pages import ROOT, same
from ranks import run_ranks

from ccl_dispatch.runtime import switch
from ccl_dispatch.runtime.errors import CclDispatchError
from ccl_dispatch.runtime.find import find_table
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.cli import main
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.emit.text import seal, write_table
from ccl_dispatch.tuner.machine import _check_gpus
from ccl_dispatch.tuner.plan import make_plan
from ccl_dispatch.tuner.study import open_storage

EXAMPLE = ROOT / "tables" / "examples" / "x86_64-host_memory-2.yaml"
CONFIG = """\
name: my-cluster
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2]
dtypes: [bfloat16]
sizes: {min: 1 KiB, max: 64 KiB}
seed: 0
"""
RANKS = """
import logging
import os
from ccl_dispatch.runtime import install

class Communicator:
    world_size = 2
    def should_custom_ag(self, tensor):
        return True

logging.basicConfig(stream=sys.stdout, format="%(message)s")
for table in ("other.yaml", "missing.yaml"):
    install(Communicator(), table if rank else "good.yaml", group=dist.group.WORLD)
"""


def _quoted() -> Iterator[tuple[str, str]]:
    """The headings of the page that have a message, and the message."""
    heading = ""
    tokens = MarkdownIt("commonmark").parse((ROOT / "docs" / "faq.md").read_text(encoding="utf-8"))
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[number + 1].content
        elif token.type == "fence":
            yield heading, token.content


def _cli(*words: str) -> str:
    """What the command line prints, of both kinds."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        main(words)
    return printed.getvalue()


def _config(name: str, **changes: str) -> str:
    text = CONFIG
    for old, new in changes.items():
        changed = re.sub(rf"^{old}:.*$", new, text, flags=re.MULTILINE)
        assert changed != text
        text = changed
    Path(name).write_text(text, encoding="utf-8")
    return name


def _failure(call: Callable[[], object]) -> str:
    with pytest.raises(CclDispatchError) as raised:
        call()
    return str(raised.value)


def _table(path: Path, up_to: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 2), 16, [up_to], ["aiter"])
    made = make_table((cell,))._replace(candidates=("aiter",), provenance="measured", platform=this_platform("cpu"))
    write_table(seal(made), path)


def _no_table() -> str:
    return _failure(lambda: find_table({"HOME": "nowhere"}))


def _another_platform() -> str:
    return _failure(
        lambda: find_table({"CCL_DISPATCH_TABLE": str(ROOT / "docs" / "records" / "shared-gpu-table.yaml")})
    )


def _edited() -> str:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert "gain: 11.34" in text
    Path("edited.yaml").write_text(text.replace("gain: 11.34", "gain: 12.34"), encoding="utf-8")
    return _cli("validate", "edited.yaml")


def _two_fit() -> str:
    for name, up_to in {"a": 1024, "b": 2048}.items():
        _table(Path("home", "ccl-dispatch", "tables", f"{name}.yaml"), up_to)
    return _failure(lambda: find_table({"XDG_CONFIG_HOME": "home"}))


@functools.cache
def _ranks() -> str:
    """What two processes say whose second has another table, and then none."""
    for name, up_to in {"good": 1024, "other": 2048}.items():
        _table(Path(f"{name}.yaml"), up_to)
    return "".join(run_ranks(RANKS, 2))


def _broken_torch() -> str:
    problem = "libamdhip64.so.7: cannot open shared object file: No such file or directory"
    Path("broken").mkdir()
    Path("broken", "torch.py").write_text(f"raise ImportError({problem!r})\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path("broken").resolve())}
    return ccl_dispatch("sweep", _config("a.yaml"), folder=Path(), environment=environment).stderr


def _misspelt_variable() -> str:
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logging.getLogger("ccl_dispatch").addHandler(handler)
    try:
        assert switch.read_switch({"CCL_DISPATCH": "yes"}).state == "off"
    finally:
        logging.getLogger("ccl_dispatch").removeHandler(handler)
    return told.getvalue()


def _baseline() -> str:
    words = ("--shape", "4,32320", "--dtype", "bfloat16", "--world-size", "3")
    return _cli("explain", str(EXAMPLE), *words)


def _no_gpus() -> str:
    config = _config(
        "gpus.yaml", baseline="baseline: nccl", candidates="candidates: [symm_mem]", world_sizes="world_sizes: [8]"
    )
    plan = make_plan(load_config(config))
    return _failure(lambda: _check_gpus(plan, plan.settings.placement))


def _recorded_journal() -> str:
    shutil.copy(EXAMPLE.with_suffix(".journal"), "study.journal")
    return str(ROOT / "configs" / "cpu.yaml")


def _other_sweep() -> str:
    _recorded_journal()
    text = (ROOT / "configs" / "cpu.yaml").read_text(encoding="utf-8").replace("\nseed: 0", "\nseed: 1")
    Path("seeded.yaml").write_text(text, encoding="utf-8")
    return _cli("sweep", "seeded.yaml", "--storage", "study.journal")


def _nothing_measured() -> str:
    words = "sweep", _recorded_journal(), "--storage", "study.journal", "--out", "table.yaml", "--quiet"
    # A record of an older search may lack what today's asks for.
    _cli(*words)
    return _cli(*words)


def _others_used() -> str:
    used = {"others_used": {"share": 0.41, "visits": 20, "of": 33}}
    write_table(seal(load_table(EXAMPLE)._replace(evidence=used, digest="")), Path("busy.yaml"))
    return _cli("show", "busy.yaml")


def _table_of_another() -> str:
    Path("runs", "cpu").mkdir(parents=True)
    shutil.copy(EXAMPLE, Path("runs", "cpu", "table.yaml"))
    return _cli("sweep", "cpu", "--storage", "sqlite:///other.db")


def _in_use() -> str:
    with open_storage("study.journal", write=True):
        return _cli("sweep", _config("my-cluster.yaml"), "--storage", "study.journal")


def _two_nodes() -> str:
    tasks = {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tasks.items():
            patch.setenv(name, value)
        return _cli("sweep", _config("my-cluster.yaml"))


def _wrong_output() -> str:
    printed = _cli("show", str(ROOT / "docs" / "records" / "known-failures-table.yaml"), "--details")
    return next(line for line in printed.splitlines() if "wrong_output" in line)


def _missing_package() -> str:
    hidden = "import sys; sys.modules['matplotlib'] = None; from ccl_dispatch.tuner.cli import main; sys.exit(main())"
    words = ["report", "--storage", "study.journal", "--out", "report.html"]
    return subprocess.run([sys.executable, "-c", hidden, *words], capture_output=True, text=True, check=False).stderr


def _unknown_log() -> str:
    Path("notes.txt").write_text("hello\n")
    return _cli("import", "notes.txt", "--baseline", "rccl", "--storage", "logs.journal")


MESSAGES: dict[str, Callable[[], str]] = {
    "No table fits": _no_table,
    "The table is for another platform": _another_platform,
    "The digest does not fit": _edited,
    "Two tables fit equally well": _two_fit,
    "Ranks have different tables": _ranks,
    "One rank has no table": _ranks,
    "A variable is misspelt": _misspelt_variable,
    "The answer is the baseline": _baseline,
    "A key of the config is misspelt": lambda: _cli("sweep", _config("typo.yaml", candidates="candidate: [shm]")),
    "A verb is misspelt": lambda: _cli("shwo"),
    "A backend can't run here": lambda: _cli(
        "sweep", _config("rccl.yaml", baseline="baseline: rccl", candidates="candidates: [aiter]")
    ),
    "torch does not load": _broken_torch,
    "Not enough GPUs": _no_gpus,
    "Not enough memory": lambda: _cli("sweep", _config("large.yaml", sizes="sizes: {min: 1 KiB, max: 512 GiB}")),
    "The study is another sweep's": _other_sweep,
    "Nothing was measured": _nothing_measured,
    "Others used the processors": _others_used,
    "The table there is another study's": _table_of_another,
    "The journal is in use": _in_use,
    "Several nodes and one file": _two_nodes,
    "There is no study": lambda: _cli("build", "--storage", "absent.journal", "--out", "table.yaml"),
    "The storage can't be opened": lambda: _cli("build", "--storage", "sqlite:////absent/study.db", "--out", "t.yaml"),
    "A backend gave a wrong output": _wrong_output,
    "A package is missing": _missing_package,
    "A log is not recognised": _unknown_log,
}


@pytest.mark.parametrize(("heading", "message"), [*_quoted()], ids=lambda text: text if len(text) < 50 else "")
def test_the_message_is_what_is_printed(
    heading: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mistake that the page tells of brings about the message that it quotes, whole lines of it."""
    monkeypatch.chdir(tmp_path)
    printed = MESSAGES[heading]()
    assert same(["...", *message.splitlines(), "..."], printed.splitlines()), printed


def test_every_question_is_quoted() -> None:
    """Each message that is brought about here stands on the page, once."""
    assert [heading for heading, _ in _quoted()] == [*MESSAGES]
