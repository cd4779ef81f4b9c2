"""One study for one platform: samples of two are never mixed, so the second gets a study beside the first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ccl_dispatch.runtime.table import Platform
from ccl_dispatch.tuner.config.model import differences
from ccl_dispatch.tuner.study.meta import StudyMeta

_MARK = "@"
_DIGITS = 8


def beside(meta: StudyMeta) -> StudyMeta:
    """The same study for its platform alone: with a digest of that in its name."""
    text = json.dumps(meta.platform._asdict(), sort_keys=True)
    return replace(meta, name=f"{meta.name}{_MARK}{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}")


def own_path(path: Path, study: str, config: str) -> Path:
    """Where a table goes whose study is one beside the config's: `table@1a2b3c4d.yaml` instead of `table.yaml`."""
    extra = study.removeprefix(config)
    return path.with_name(f"{path.stem}{extra}{path.suffix}") if extra.startswith(_MARK) else path


def of_config(studies: Iterable[str], config: str) -> list[str]:
    """Those of the studies that are of the config of that name, on whatever platform."""
    return [name for name in studies if name == config or name.startswith(f"{config}{_MARK}")]


def platform_differences(first: Platform, second: Platform) -> list[str]:
    """One line for each part in which they differ: `versions.rccl: "2.27" against "2.28"`."""
    return differences(first._asdict(), second._asdict())


def listed(metas: Mapping[str, StudyMeta | None]) -> str:
    """Studies to choose from: what each was measured on, and in what the later ones differ from the first."""
    lines: list[str] = []
    first: StudyMeta | None = None
    for name, meta in sorted(metas.items()):
        if meta is None:
            lines.append(f"{name} (not made by this version of ccl-dispatch)")
        elif first is None or not name.startswith(first.name + _MARK):
            first = meta
            lines.append(f"{name} ({meta.platform.device or 'platform unknown'})")
        else:
            changed = platform_differences(first.platform, meta.platform)
            lines.append(f"{name} (another platform: {'; '.join(changed)})")
    return ", ".join(lines)
