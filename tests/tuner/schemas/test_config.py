"""The config's JSON Schema and page say what the reader of configs takes, and the committed files are generated."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from made_configs import FULL

from ccl_dispatch.runtime.errors import CclDispatchError
from ccl_dispatch.tuner.config.parsing import parse_config
from ccl_dispatch.tuner.schemas.config import config_page, config_schema

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
CHECK = jsonschema.Draft202012Validator(config_schema())


def test_the_committed_files_are_what_is_generated() -> None:
    """After a change of the format `make generated` was called, and its result committed."""
    committed = (ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8")
    assert committed == json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"
    assert (ROOT / "docs" / "config-format.md").read_text(encoding="utf-8") == config_page()


def test_the_page_tells_bounds() -> None:
    """Both ends of a number, open or not; none that is larger than what anybody would write."""
    rows = dict(re.findall(r"\| `(\w+)` \| ([^|]+) \|", config_page()))
    assert rows["min_gain"] == "number from 0, below 1, optional"
    assert rows["confidence"] == "number above 0.5, below 1, optional"
    assert rows["retries"] == "integer from 0 to 100, optional"
    assert rows["world_sizes"] == "list of integers from 2, optional"
    assert rows["timeout"] == "number above 0, optional"
    assert rows["baseline"] == "text"
    assert "9223372036854775807" not in config_page()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_fits(path: Path) -> None:
    """All configs that come with the package are valid by the schema, which is itself valid."""
    CHECK.check_schema(config_schema())
    CHECK.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_the_schema_refuses_the_reader_refuses(data: st.DataObject) -> None:
    """However one value of a config is changed or taken out: the reader never takes what the schema calls wrong."""
    config = copy.deepcopy(FULL)
    parent, key = data.draw(st.sampled_from(list(_places(config))))
    value = data.draw(
        st.sampled_from([None, "", "x", "16 B", -1, 0, 1, 2, 0.7, 10**30, True, [], ["eager"], [2], {}, {"min": 16}])
    )
    if data.draw(st.booleans()):
        parent[key] = value
    else:
        del parent[key]
    if not CHECK.is_valid(config):
        with pytest.raises(CclDispatchError):
            parse_config(json.dumps(config), "c.yaml")


def test_a_whole_config_is_taken_by_both() -> None:
    """One that has nearly every key is valid by the schema and for the reader."""
    CHECK.validate(FULL)
    assert parse_config(json.dumps(FULL), "c.yaml").name == "full"


def test_a_replay_needs_less_and_brings_its_own_names() -> None:
    """Backends of a replay may have any name; without one an unknown backend and missing sizes are wrong."""
    CHECK.validate({"baseline": "mine", "candidates": ["yours"], "replay": {"file": "m.csv"}})
    assert not CHECK.is_valid(FULL | {"baseline": "mine"})
    assert not CHECK.is_valid({key: value for key, value in FULL.items() if key != "sizes"})


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping or list with each of its keys or indices."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(steps):
        yield value, key
        yield from _places(child)
