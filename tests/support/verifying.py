"""Verifications for tests: the table of a sweep, and what is verified of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.progress import SilentProgress
from ccl_dispatch.tuner.sweep import run_sweep
from ccl_dispatch.tuner.verify.run import Verified, verify_table
from ccl_dispatch.tuner.verify.setup import VerifyOptions


def swept(folder: Path, config: Path) -> Path:
    """The table of a sweep, with its study beside it."""
    table = folder / "t" / "table.yaml"
    run_sweep(load_config(config), str(table.parent / "study.journal"), table, folder / "logs", SilentProgress())
    return table


def verify(table: Path, config: Path | None, seed: int = 0, **options: object) -> Verified:
    """A verification of the table, measured as the config says."""
    loaded = None if config is None else load_config(config)
    wanted = replace(VerifyOptions(config=loaded, seed=seed), **options)  # type: ignore[arg-type]
    return verify_table(table, wanted, table.parent / "logs", lambda _: None)
