"""Options are taken as they are written, and a slip is told in the words of the verb that it was made in."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import ccl_dispatch

from ccl_dispatch.tuner.cli import VERBS, parser_of


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_takes_an_abbreviation(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--hel` is not `--help`, in any verb."""
    parser, _ = parser_of(verb)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--hel"])
    assert end.value.code == 2
    assert "example:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "t.yaml", "--detials"), ["usage: ccl-dispatch show", "--detials. Did you mean '--details'?"]),
        (("sweep", "cpu", "--storag", "x"), ["usage: ccl-dispatch sweep", "--storag. Did you mean '--storage'?"]),
        (("sweep", "cpu", "--storag=x"), ["usage: ccl-dispatch sweep", "--storag. Did you mean '--storage'?"]),
        # The one that is missing is the one that is misspelt.
        (("build", "--storge", "x", "--out", "y"), ["usage: ccl-dispatch build", "Did you mean '--storage'?"]),
        (("show", "t.yaml", "--qqqq"), ["usage: ccl-dispatch show", "unrecognized arguments: --qqqq\n"]),
        (("show", "t.yaml", "more"), ["usage: ccl-dispatch show", "unrecognized arguments: more"]),
        # Samples given as a table is given to `show`.
        (("report", "s.journal"), ["usage: ccl-dispatch report", "Did you mean '--storage s.journal'?"]),
        (("export", "--out", "m.csv", "s.journal"), ["Did you mean '--storage s.journal'?"]),
        (("fleet", "--json", "s.journal"), ["Did you mean '--storage s.journal'?"]),
        (("doctor", "more"), ["unrecognized arguments: more\n"]),
        # And a file that goes by no name.
        (("sweep", "--config", "c.yaml"), ["unrecognized arguments: --config. Give CONFIG alone"]),
        (("explain", "--table=t.yaml"), ["unrecognized arguments: --table. Give TABLE alone"]),
        (("version",), ["there is no such verb. Did you mean '--version'?"]),
        (("--versio",), ["usage: ccl-dispatch ", "Did you mean '--version'?"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_slip_is_told_with_what_was_meant(tmp_path: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    """Exit code 2, the usage of the verb itself, the nearest option where one is near, and nothing was done."""
    done = ccl_dispatch(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    for expected in words:
        assert expected in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_word_at_all_is_answered_with_the_verbs(tmp_path: Path) -> None:
    """Whoever tries the command alone sees what it can do; it is a wrong use all the same."""
    done = ccl_dispatch(folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ccl_dispatch("--help", folder=tmp_path).stdout
