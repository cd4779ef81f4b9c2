"""Numbers on the command line that no sweep or check could go by."""

from __future__ import annotations

import pytest

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.cli import parser_of
from ccl_dispatch.tuner.cli.exit_codes import exit_code


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1"])
@pytest.mark.parametrize(
    ("verb", "option"),
    [
        ("sweep", "--grace"),
        ("sweep", "--patience"),
        ("sweep", "--common"),
        ("verify", "--seconds"),
        ("verify", "--seen"),
    ],
)
def test_a_number_that_nothing_can_go_by_is_refused(
    verb: str, option: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN, infinities and negatives end with 2, and the message names the option; nothing is read or begun."""
    parser, module = parser_of(verb)
    with pytest.raises((UsageError, SystemExit)) as caught:
        # Behind `=`, as a negative one could be taken for an option.
        module.run(parser.parse_args(["nowhere.yaml", f"{option}={number}"]))
    # Where a whole number is expected the parser itself refuses, and says so.
    code = caught.value.code if isinstance(caught.value, SystemExit) else exit_code(caught.value)
    assert code == 2
    assert option in f"{caught.value}{capsys.readouterr().err}"
