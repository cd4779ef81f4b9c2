"""What a study must know about itself so that a table can be built from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.runtime.table import Platform, Policy
from ccl_dispatch.runtime.vocabulary import Cell

FORMAT = 1
# What to do with a study that this version can't read.
OTHER_VERSION = (
    "Use the version of ccl-dispatch that made it: its `export` writes the samples as a CSV, which `import` here "
    "brings in"
)


def of_another_sweep(name: str, url: str, changed: Sequence[str]) -> StorageError:
    """The study `name` in the storage at `url` can't be continued: its config differs by the lines `changed`."""
    fix = "Give another --storage, or another `name` in the config"
    if any(": nothing against " in line or line.endswith(" against nothing") for line in changed):
        # A key that a version has added: who only upgraded has changed nothing.
        fix += ". Where the study is of another version of ccl-dispatch, `build` makes a table of it all the same"
    return StorageError(
        f"study {name!r} in {url} holds samples of another sweep; what differs, the study's first: "
        f"{'; '.join(changed)}. {fix}"
    )


@dataclass(frozen=True)
class StudyMeta:
    """Kept as an attribute of the study when it is made, and compared when it is continued.

    Attributes:
        provenance: `measured`, `replayed` or `imported`.
        identity: what decides the meaning of the samples (`SweepConfig.identity`); an import has one of its own.
        digest: of the identity.
        workload: per cell the exact sizes that it must answer for: (shape, size, weight).
        source: where replayed or imported figures come from; empty when measured.
    """

    name: str
    provenance: str
    baseline: str
    candidates: tuple[str, ...]
    policy: Policy
    platform: Platform
    identity: Mapping[str, Any]
    digest: str
    workload: Mapping[Cell, tuple[tuple[tuple[int, ...], int, float], ...]]
    source: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As JSON data; `from_json` gives it back unchanged."""
        data = asdict(self)
        data["policy"] = self.policy._asdict()
        data["platform"] = self.platform._asdict()
        data["workload"] = [[list(cell), [list(entry) for entry in rows]] for cell, rows in self.workload.items()]
        return {"format": FORMAT, **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> StudyMeta:
        """What `to_json` wrote.

        Raises:
            StorageError: another format, or parts are missing.
        """
        if data.get("format") != FORMAT:
            raise StorageError(
                f"{where}: the study has format {data.get('format')}, this version reads {FORMAT}. {OTHER_VERSION}"
            )
        try:
            return cls(
                name=data["name"],
                provenance=data["provenance"],
                baseline=data["baseline"],
                candidates=tuple(data["candidates"]),
                policy=Policy(**data["policy"]),
                platform=Platform(**data["platform"]),
                identity=data["identity"],
                digest=data["digest"],
                workload={
                    Cell(*cell): tuple((tuple(shape), size, weight) for shape, size, weight in rows)
                    for cell, rows in data["workload"]
                },
                source=data["source"],
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise StorageError(
                f"{where}: the study's description is damaged or of another version: {problem}. {OTHER_VERSION}"
            ) from problem
