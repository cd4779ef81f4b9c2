"""Finding the table for this machine: the variable, the folders in order, and never a guess."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest
from made_tables import make_cell, make_table

from ccl_dispatch.runtime import find
from ccl_dispatch.runtime.errors import AbsentTableError, NoTableError, PlatformMismatchError, TableError
from ccl_dispatch.runtime.find import find_table, package_folders, search_path
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.table import Platform, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import write_table

HERE = Platform("cpu", "x86_64", "a CPU", 4, "host memory", {"torch": "2.13"}, {})
CELLS = (make_cell(Cell("all_gather", "eager", "first", "bfloat16", 4), 16, [1024], ["aiter"]),)


class Places:
    """A user's and a system's folder, empty at first, and a search through them on the machine `HERE`."""

    def __init__(self, root: Path) -> None:
        self.environment = {"XDG_CONFIG_HOME": str(root / "config")}
        self.user = root / "config" / "ccl-dispatch" / "tables"
        self.system = root / "etc"
        self.user.mkdir(parents=True)
        self.system.mkdir()

    def put(self, path: Path, platform: Platform = HERE, provenance: str = "measured") -> Path:
        """Write a table for `platform`, named like its file."""
        table = make_table(CELLS, path.stem)._replace(platform=platform, provenance=provenance)
        write_table(table, path)
        return path

    def find(self) -> Table:
        return find_table(self.environment, lambda device_type: HERE._replace(device_type=device_type))


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    places = Places(tmp_path)
    monkeypatch.setattr(find, "SYSTEM_FOLDER", str(places.system))
    return places


def test_the_one_that_fits_is_taken(places: Places) -> None:
    """Of several tables the one of this platform is found, in either folder."""
    places.put(places.user / "other.yaml", HERE._replace(architecture="aarch64"))
    places.put(places.system / "replayed.yaml", provenance="replayed")
    places.put(places.system / "fits.yaml")
    assert places.find().name == "fits"


def test_the_better_known_fit_is_taken(places: Places) -> None:
    """A table that knows more of this platform goes before one that leaves values open."""
    places.put(places.user / "a-vague.yaml", HERE._replace(device="", versions={}))
    places.put(places.user / "b-exact.yaml")
    assert places.find().name == "b-exact"


def test_a_value_that_only_the_table_knows_does_not_count_against_it(places: Places) -> None:
    """An older version's table that says nothing of a pool's size is not better known than one that does, be the pool
    unknown to this machine: which of the two is right is asked, and not decided by what was left unsaid.
    """
    older = places.put(places.user / "a-older.yaml")
    newer = places.put(
        places.user / "b-newer.yaml", HERE._replace(versions={**HERE.versions, "aiter.max_size": "1 GiB"})
    )
    with pytest.raises(NoTableError, match=r"equally well \(0 values unknown in each\)"):
        places.find()
    # Of two that leave something open here the one that leaves less is taken, whatever else it says.
    places.put(older, HERE._replace(device=""))
    assert places.find().name == newer.stem


def test_the_users_folder_goes_before_the_systems(places: Places) -> None:
    """What a user put there is taken, also when the system's table is as good."""
    places.put(places.system / "system.yaml")
    places.put(places.user / "user.yaml")
    assert places.find().name == "user"


def test_two_equal_fits_are_an_error_that_names_both(places: Places) -> None:
    """Nothing is guessed between equals; two copies of one table are one."""
    first = places.put(places.user / "first.yaml")
    (places.user / "copy.yml").write_bytes(first.read_bytes())
    assert places.find().name == "first"
    second = places.put(places.user / "second.yaml")
    with pytest.raises(NoTableError, match="equally well") as found:
        places.find()
    assert str(first) in str(found.value)
    assert str(second) in str(found.value)


def test_none_that_fits_is_an_error_with_the_reason_for_each(places: Places) -> None:
    """The message names every file and the key that forbids it, and where to put a table."""
    with pytest.raises(NoTableError, match="sweep"):
        places.find()
    other = places.put(places.user / "other.yaml", HERE._replace(architecture="aarch64"))
    with pytest.raises(NoTableError) as found:
        places.find()
    for told in (str(other), "architecture: the table has aarch64, this machine has x86_64", "CCL_DISPATCH_TABLE"):
        assert told in str(found.value)


def test_a_broken_file_is_reported_and_stops_nobody(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    """A corrupt table and a folder named like one are logged, and the good one beside them is found."""
    (places.user / "broken.yaml").write_text("schema: [")
    (places.user / "folder.yaml").mkdir()
    (places.user / "a note.txt").write_text("no table")
    (places.user / "notes.txt").write_text("no table")
    places.put(places.user / "good.yaml")
    with caplog.at_level(logging.WARNING, "ccl_dispatch"):
        assert places.find().name == "good"
    assert [name for name in ("broken.yaml", "folder.yaml", "notes.txt") if name in caplog.text] == [
        "broken.yaml",
        "folder.yaml",
    ]


def test_all_that_was_looked_at_is_told_in_order(places: Places) -> None:
    """Whatever was taken, a reader is told of each file why: folders in their order, files by name."""
    vague = places.put(places.user / "c.yaml", HERE._replace(device="", versions={}))
    other = places.put(places.user / "b.yaml", HERE._replace(architecture="aarch64"))
    (places.user / "a.yaml").write_text("[]")
    found = find.search(places.environment, lambda _device_type: HERE)
    first, *others = (line for item in found.considered for line in item.lines())
    assert first.startswith(f"{places.user}/a.yaml: not valid: ")
    assert others[:3] == [
        f"{other}: does not fit:",
        "  architecture: the table has aarch64, this machine has x86_64",
        f"{vague}: fits, 2 values unknown",
    ]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"XDG_CONFIG_HOME": "/xdg", "HOME": "/home/me"}, "/xdg"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/home/me"}, "/home/me/.config"),
        ({"HOME": "/home/me"}, "/home/me/.config"),
        ({"HOME": ""}, "/.config"),
        ({}, "/.config"),
    ],
)
def test_a_users_folder_is_where_configurations_are(environment: dict[str, str], folder: str) -> None:
    """By the XDG base directories; a variable that is set to nothing counts as unset."""
    expected = (f"{folder}/ccl-dispatch/tables", "/etc/ccl-dispatch/tables", *package_folders())
    assert search_path(environment) == expected


def test_the_variable_names_the_table(places: Places) -> None:
    """$CCL_DISPATCH_TABLE goes before the folders; set to nothing it counts as unset."""
    named = places.put(places.system.parent / "named.yaml")
    places.put(places.user / "user.yaml")
    places.environment["CCL_DISPATCH_TABLE"] = str(named)
    assert places.find().name == "named"
    places.environment["CCL_DISPATCH_TABLE"] = ""
    assert places.find().name == "user"


def test_blanks_around_the_name_are_no_part_of_it(places: Places) -> None:
    """A block of YAML ends its text with a line's end; and a name of blanks alone is none."""
    named = places.put(places.user.parent / "named.yaml")
    places.put(places.user / "other.yaml")
    for value, name in ((f"{named}\n", "named"), (f" {named} ", "named"), (" \n", "other")):
        places.environment["CCL_DISPATCH_TABLE"] = value
        assert places.find().name == name


def test_a_named_table_that_does_not_fit_is_an_error_key_by_key(places: Places) -> None:
    """Naming a table of another platform is not answered with another table."""
    places.put(places.user / "user.yaml")
    other = places.put(places.system.parent / "other.yaml", HERE._replace(device_count=8, link="PCIe"))
    places.environment["CCL_DISPATCH_TABLE"] = str(other)
    with pytest.raises(PlatformMismatchError) as found:
        places.find()
    for told in (str(other), "device_count: the table has 8, this machine has 4", "link: the table has PCIe"):
        assert told in str(found.value)
    places.environment["CCL_DISPATCH_TABLE"] = str(other) + ".gone"
    with pytest.raises(TableError, match="no such file"):
        places.find()


def test_load_table_without_an_argument_asks_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """load_table() reads this process's variable and judges the table by this machine."""
    path = tmp_path / "named.yaml"
    write_table(make_table(CELLS), path)
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(path))
    with pytest.raises(PlatformMismatchError, match="provenance"):
        load_table()
    assert load_table(path).name == "made"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"name: \xff\n", "not UTF-8"), (b"#" * (4 * 1024 * 1024 + 1), "larger than"), (b"", "empty")],
)
def test_a_file_that_is_no_text_says_why(tmp_path: Path, content: bytes, told: str) -> None:
    """Wrong encoding, a huge file and an empty one are TableErrors that name the file."""
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(TableError, match=told) as found:
        load_table(path)
    assert found.value.source == str(path)
    with pytest.raises(TableError, match="folder"):
        load_table(tmp_path)


@pytest.mark.parametrize("kind", ["a file", "a link to nowhere"])
def test_a_folder_that_is_there_and_can_not_be_read_is_told(
    places: Places, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody made a place for tables, so none being found in it is no quiet matter; the next one is looked at."""
    places.user.rmdir()
    if kind == "a file":
        places.user.write_text("")
    else:
        places.user.symlink_to(places.user.parent / "not mounted")
    with pytest.raises(AbsentTableError, match="tables: not valid: the folder can't be read: ") as found:
        places.find()
    assert found.value.others
    places.put(places.system / "fits.yaml")
    assert places.find().name == "fits"
    assert caplog.text.count(f"{places.user}, where tables are looked for, is left out") == 1


@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_never_comes_is_left_out(places: Places, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network mount that is dead: whether it is in a folder or named, the search ends and says so."""
    monkeypatch.setattr(find, "SECONDS", 0.1)
    os.mkfifo(places.user / "pipe.yaml")
    if named:
        places.environment["CCL_DISPATCH_TABLE"] = str(places.user / "pipe.yaml")
        with pytest.raises(TableError, match=r"can't be read: .* no answer within 0\.1 s"):
            places.find()
    else:
        places.put(places.user / "fits.yaml")
        assert places.find().name == "fits"


def test_a_folder_that_never_answers_is_left_out(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next folder is looked through, and that this one was not is told."""
    places.put(places.system / "fits.yaml")
    listed = os.listdir

    def listdir(folder: str) -> list[str]:
        if folder == str(places.user):
            threading.Event().wait()
        return listed(folder)

    monkeypatch.setattr(find, "SECONDS", 0.1)
    monkeypatch.setattr(os, "listdir", listdir)
    found = find.search(places.environment, lambda _device_type: HERE)
    assert found.table is not None
    assert found.considered[0].problem == "the folder can't be read: no answer within 0.1 s"
