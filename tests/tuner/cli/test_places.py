"""Results that could not be written are refused before anything is done, and what is refused leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from command import COMMAND, ccl_dispatch
from fleets import replayed_journal
from made_configs import SMALL

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.cli.places import check_writable, make_folder, no_empty_folders

NO_VARIABLES: Mapping[str, str] = {}
# Two tasks on one node.
SRUN = {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_ID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}


def test_one_level_is_made_and_no_more(tmp_path: Path) -> None:
    """The last folder of a path is made; of two that are missing none is, and the message says how to make them."""
    check_writable(tmp_path / "one" / "t.yaml", "--out")
    assert list((tmp_path / "one").iterdir()) == []
    with pytest.raises(UsageError, match=r"mkdir -p .*/two/three\), or give another --out"):
        check_writable(tmp_path / "two" / "three" / "t.yaml", "--out")
    assert not (tmp_path / "two").exists()


def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path) -> None:
    """With the option that it comes from; a folder where a file should be as well."""
    (tmp_path / "README.md").touch()
    with pytest.raises(UsageError, match=r"README.md is a file, expected a folder. Give another --storage"):
        make_folder(tmp_path / "README.md", "--storage")
    with pytest.raises(UsageError, match=r"is a folder. Give --out the name of a file"):
        check_writable(tmp_path, "--out")


def test_a_folder_that_takes_no_files_is_told(tmp_path: Path) -> None:
    """Root may write everywhere by its rights; what takes no files is found by making one."""
    with pytest.raises(UsageError, match=r"the folder /proc can't be written: .*. Give another --out"):
        check_writable(Path("/proc/x.yaml"), "--out")
    with pytest.raises(UsageError, match=r"the folder /proc/x can't be made: .*. Give another --out"):
        check_writable(Path("/proc/x/x.yaml"), "--out")


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """No file is made beside what is not replaced."""
    os.mkfifo(tmp_path / "pipe")
    check_writable(tmp_path / "pipe", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_only_what_was_made_and_is_empty_is_removed(tmp_path: Path) -> None:
    """Folders that were there before stay, and those that something was put into."""
    (tmp_path / "old").mkdir()

    def fail() -> None:
        with no_empty_folders(tmp_path / "old", tmp_path / "new" / "logs", tmp_path / "full"):
            (tmp_path / "new" / "logs").mkdir(parents=True)
            (tmp_path / "full").mkdir()
            (tmp_path / "full" / "file").touch()
            raise UsageError

    with pytest.raises(UsageError):
        fail()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "old"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--out", "/proc/x.yaml"), "the folder /proc can't be written: "),
        (("--out", "a/b/t.yaml"), "the folder a/b is not there, and neither is a; "),
        (("--storage", "README.md/z.journal"), "README.md is a file, expected a folder. Give another --storage"),
        (("--storage", "a/b/z.journal"), "mkdir -p a/b), or give another --storage"),
        (("--summary", "/proc/s.json"), "the folder /proc can't be written: "),
        (("--summary", "README.md/s.json"), "README.md is a file, expected a folder. Give another --summary"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_sweep_that_could_not_write_its_results_does_not_begin(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 2, the option that is to change, and no folder."""
    (tmp_path / "README.md").touch()
    (tmp_path / "c.yaml").write_text(SMALL)
    done = ccl_dispatch("sweep", "c.yaml", *arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert words in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "c.yaml"]


@pytest.mark.parametrize(
    "change",
    [
        ("gloo\ncandidates: [shm]", "rccl\ncandidates: [aiter]"),
        ("[2]", "[4096]"),
        ("name:", "budget: {executions: 3}\nname:"),
    ],
    ids=["backends", "memory", "budget"],
)
def test_a_sweep_that_is_refused_leaves_nothing(tmp_path: Path, change: tuple[str, str]) -> None:
    """Neither its folder nor that of its logs, whatever it is refused for; a runs/ that was there stays."""
    (tmp_path / "c.yaml").write_text(SMALL.replace(*change))
    for before in (["c.yaml"], ["c.yaml", "runs"]):
        done = ccl_dispatch("sweep", "c.yaml", folder=tmp_path)
        assert done.returncode == 2, done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert not list(tmp_path.glob("runs/*"))
        (tmp_path / "runs").mkdir(exist_ok=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a replayed sweep."""
    return replayed_journal(tmp_path_factory.mktemp("study"), 1)


@pytest.mark.parametrize(
    "words",
    [
        ("build", "--storage", "{}", "--out", "{}"),
        ("export", "--storage", "{}", "--out", "{}"),
        ("report", "--storage", "{}", "--out", "{}"),
        ("merge", "{}", "--storage", "new.journal", "--out", "{}"),
        ("sweep", "c.yaml", "--storage", "new.journal", "--out", "{}"),
        ("sweep", "c.yaml", "--storage", "new.journal", "--summary", "{}"),
        ("sweep", "c.yaml", "--storage", "new.journal", "--events", "{}"),
    ],
    ids=lambda words: f"{words[0]} {words[-2]}",
)
def test_no_result_is_written_over_samples(tmp_path: Path, study: Path, words: tuple[str, ...]) -> None:
    """A storage that is named where a result goes is refused and untouched, a journal as well as an SQLite file."""
    pytest.importorskip("matplotlib")
    (tmp_path / "c.yaml").write_text(SMALL)
    shutil.copyfile(study, tmp_path / "s.journal")
    urls = {"s.journal": "s.journal"}
    if words[0] != "sweep":
        merged = ccl_dispatch("merge", "s.journal", "--storage", "sqlite:///s.db", folder=tmp_path)
        assert merged.returncode == 0, merged.stderr
        urls["s.db"] = "sqlite:///s.db"
    for name, url in urls.items():
        before = (tmp_path / name).read_bytes()
        given = [
            word.format(url if place and words[place - 1] == "--storage" else name) for place, word in enumerate(words)
        ]
        if words[0] == "merge":
            given[1] = url
        done = ccl_dispatch(*given, folder=tmp_path)
        assert done.returncode in {2, 3}, done.stdout
        assert "whose samples would be lost" in done.stderr
        assert (tmp_path / name).read_bytes() == before
        assert not (tmp_path / "new.journal").exists() or words[0] == "merge"


@pytest.mark.parametrize(
    ("words", "file", "kind"),
    [
        (("build", "--storage", "s.journal", "--out"), "c.yaml", "a config"),
        (("report", "--storage", "s.journal", "--out"), "t.yaml", "a table"),
        (("export", "--storage", "s.journal", "--out"), "t.yaml", "a table"),
        (("sweep", "d.yaml", "--out"), "c.yaml", "a config"),
        (("sweep", "d.yaml", "--summary"), "t.yaml", "a table"),
        (("verify", "t.yaml", "--csv"), "t.yaml", "TABLE and --csv are the same file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_no_result_takes_the_place_of_a_config_or_table(
    tmp_path: Path, study: Path, words: tuple[str, ...], file: str, kind: str
) -> None:
    """Only a table takes a table's place; exit code 2, and what was there is as it was."""
    pytest.importorskip("matplotlib")
    for name in ("c.yaml", "d.yaml"):
        (tmp_path / name).write_text(SMALL)
    shutil.copyfile(study, tmp_path / "s.journal")
    build = ("build", "--storage", "s.journal", "--out", "t.yaml")
    for _ in range(2):
        assert ccl_dispatch(*build, folder=tmp_path).returncode == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = ccl_dispatch(*words, file, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert kind in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "c.yaml"), "this is a config, expected a table"),
        (("sweep", "t.yaml"), "this is a table, expected a config"),
        (("sweep", "s.journal"), "`ccl-dispatch sweep CONFIG --storage s.journal` goes on with it"),
        (("sweep", "m.csv"), "m.csv: these are measurements, expected a config. A config replays them"),
        (("show", "m.csv"), "m.csv: these are measurements, expected a table"),
        (("evaluate", "m.csv", "t.yaml"), "`ccl-dispatch evaluate TABLE MEASUREMENTS`"),
        (("merge", "m.csv", "--storage", "n.journal"), "m.csv is a CSV of measurements"),
        (("build", "--storage", "m.csv", "--out", "n.yaml"), "`ccl-dispatch import` brings"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_wrong_kind_of_file_is_told(tmp_path: Path, study: Path, words: tuple[str, ...], told: str) -> None:
    """What was given, what is wanted, and what takes the one or makes the other."""
    (tmp_path / "c.yaml").write_text(SMALL)
    shutil.copyfile(study, tmp_path / "s.journal")
    for verb, out in (("build", "t.yaml"), ("export", "m.csv")):
        assert ccl_dispatch(verb, "--storage", str(study), "--out", out, folder=tmp_path).returncode == 0
    done = ccl_dispatch(*words, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "line 1 column 1" not in done.stderr


def test_help_is_a_word_too(tmp_path: Path) -> None:
    """`ccl-dispatch help`, and `help VERB`, print what `--help` does."""
    for words, same in ((("help",), ("--help",)), (("help", "show"), ("show", "--help"))):
        done = ccl_dispatch(*words, folder=tmp_path)
        assert (done.returncode, done.stdout) == (0, ccl_dispatch(*same, folder=tmp_path).stdout)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--storage", "x", "--out", "x"), "--storage and --out are the same file"),
        (("--storage", "sqlite:///x", "--summary", "x"), "--storage and --summary are the same file"),
        (("--out", "t.yaml", "--events", "./t.yaml"), "--out and --events are the same file"),
        (("--out", "c.yaml"), "the config and --out are the same file"),
        (("--storage", "sqlite:/s.db"), "has :// behind sqlite: give sqlite:///s.db. For"),
        (("--storage", "postgresql:/me:secret@host/db"), "give postgresql://me:***@host/db. For"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_no_file_is_two_things(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    """Exit code 2 before anything is made; nor is a URL with a slash missing taken for a path."""
    (tmp_path / "c.yaml").write_text(SMALL)
    done = ccl_dispatch("sweep", "c.yaml", *words, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "secret" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
    assert (tmp_path / "c.yaml").read_text() == SMALL


def test_a_folder_is_no_file(tmp_path: Path, study: Path) -> None:
    """Of a storage that is a folder the journal in it is named; a folder for the measurements is refused at once."""
    (tmp_path / "run").mkdir()
    shutil.copyfile(study, tmp_path / "run" / "study.journal")
    done = ccl_dispatch("build", "--storage", "run", "--out", "t.yaml", folder=tmp_path)
    assert (done.returncode, "Give --storage the journal in it, run/study.journal" in done.stderr) == (2, True)
    done = ccl_dispatch("export", "--storage", "run/study.journal", "--out", "run", folder=tmp_path)
    assert (done.returncode, "run is a folder. Give --out the name of a file" in done.stderr) == (2, True)
    (tmp_path / "c.yaml").write_text(SMALL)
    done = ccl_dispatch("sweep", "c.yaml", "--storage", ".", folder=tmp_path)
    assert (done.returncode, "--storage . is a folder" in done.stderr) == (2, True)


def test_the_name_of_a_picture_is_no_page(tmp_path: Path, study: Path) -> None:
    """A report named as a picture says how pictures are made, and writes nothing."""
    pytest.importorskip("matplotlib")
    done = ccl_dispatch("report", "--storage", str(study), "--out", "r.png", folder=tmp_path)
    assert done.returncode == 2
    assert "has the name of a picture" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_pictures_need_a_folder(tmp_path: Path, study: Path) -> None:
    """`--format png` with the name of a page that is there says so, and makes one new folder at most."""
    pytest.importorskip("matplotlib")
    (tmp_path / "report.html").write_text("a page")

    def report(*more: str) -> str:
        done = ccl_dispatch("report", "--storage", str(study), *more, folder=tmp_path)
        assert done.returncode == 2, done.stderr
        return done.stderr

    told = report("--out", "report.html", "--format", "png")
    assert "report.html is a file: --format png makes a picture of each figure, and --out is the folder" in told
    for kind, out in (("html", "a/b/r.html"), ("png", "a/b")):
        assert "mkdir -p a/b), or give another --out" in report("--out", out, "--format", kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html"]


@pytest.mark.parametrize("verb", ["build", "report"])
def test_no_folder_is_left_where_there_is_no_study(tmp_path: Path, verb: str) -> None:
    """The folder of an `--out` goes again when nothing came to be put into it."""
    if verb == "report":
        pytest.importorskip("matplotlib")
    done = ccl_dispatch(verb, "--storage", "none.journal", "--out", "new/out", folder=tmp_path)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_dash_is_no_name_of_a_result(tmp_path: Path, study: Path) -> None:
    """Elsewhere it means standard output: a file of that name would be a surprise, and hard to be rid of."""
    done = ccl_dispatch("build", "--storage", str(study), "--out", "-", folder=tmp_path)
    assert done.returncode == 2
    assert "--out /dev/stdout" in done.stderr
    assert not (tmp_path / "-").exists()


def test_a_log_that_can_not_be_appended_to(tmp_path: Path) -> None:
    """Such as one of another user, on a volume that several use: exit code 2, and nothing was begun."""
    (tmp_path / "c.yaml").write_text(SMALL)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "rank0.log").touch()
    log = "logs/rank0.log"
    mount = f"mount --bind {log} {log} && mount -o remount,bind,ro {log}"
    done = _mounted(mount, "sweep c.yaml --out t.yaml", tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"the log {log}, which was there before, can't be appended to: look whose it is. Remove it" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "logs"]


def _mounted(
    mount: str, words: str, folder: Path, variables: Mapping[str, str] = NO_VARIABLES
) -> subprocess.CompletedProcess[str]:
    """A verb in a mount name space of its own, after a command in it; skipped where that fails."""
    script = f'{{ {mount}; }} 2>/dev/null || exit 77; exec "$@"'
    environment = {name: value for name, value in os.environ.items() if name not in ("TMPDIR", "TEMP", "TMP")}
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *COMMAND, *words.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**environment, **variables},
    )
    if done.returncode in (77, 127) or "unshare" in done.stderr:
        pytest.skip("file systems can't be mounted like that here")
    return done


@pytest.mark.parametrize(
    ("words", "variables", "use"),
    [
        pytest.param("doctor", {}, "for the workers' logs", id="doctor"),
        pytest.param("sweep", SRUN, "for the ranks of a node to meet in", id="ranks of srun"),
    ],
)
def test_without_any_folder_that_can_be_written(words: str, variables: dict[str, str], use: str) -> None:
    """In a container whose root is read only and that has no volume at /tmp: exit code 2, with what to mount."""
    mount = "mount -o remount,bind,ro / && ! touch /tmp/x && ! touch /var/tmp/x && ! touch /usr/tmp/x"
    done = _mounted(mount, words, Path("/"), variables)
    assert done.returncode == 2, done.stderr
    assert f"there is no temporary folder {use}: neither $TMPDIR nor /tmp can be written" in done.stderr
    assert "in Kubernetes an emptyDir at /tmp" in done.stderr
