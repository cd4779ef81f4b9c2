"""Before anything is measured: with which settings, in which cells, at which sizes, against which reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import ccl_dispatch.configs
from ccl_dispatch.runtime.errors import CclDispatchError, UsageError
from ccl_dispatch.runtime.platform import match
from ccl_dispatch.runtime.probe import is_setting
from ccl_dispatch.runtime.table import CellTable, Platform, Table
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends.registry import backend_class
from ccl_dispatch.tuner.config.model import (
    MachineConfig,
    MeasureConfig,
    PolicyConfig,
    SizeRange,
    SweepConfig,
    WorkloadShape,
    config_digest,
)
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.device.placement import HOST_GRAPHS_SETTING, SHARED_SETTING
from ccl_dispatch.tuner.machine import sweep_platform
from ccl_dispatch.tuner.plan import Plan, make_plan
from ccl_dispatch.tuner.search import SearchSpace
from ccl_dispatch.tuner.sizes import ALIGNMENT
from ccl_dispatch.tuner.study import StudyMeta
from ccl_dispatch.tuner.verify.reference import Reference, of_study, read_reference, reference_path
from ccl_dispatch.tuner.verify.spots import Spot, choose_spots
from ccl_dispatch.tuner.verify.stored import StoredStudy, stored_study

# A visit tells as much with these repetitions as with ten times as many: what differs from visit to visit stays.
SAMPLES = 16
MAX_SECONDS = 0.12


@dataclass(frozen=True)
class VerifyOptions:
    """What the caller wants.

    Attributes:
        config: how to measure; None for what the table leads to.
        storage, study: the study with the table's samples; None for the one beside the table, if there is one.
        reference: the file with earlier visits; None for the one beside the table, if there is one.
        keep: this run's visits will be added to that file, so that it need not be there yet.
        seconds: of wall time at most, starting workers included (of virtual time where a file is replayed).
        seen: measuring goes on until changes of that share (0.1: 10 % longer) would be seen, where there is time.
        seed: of random sizes and of the order of measuring.
    """

    config: SweepConfig | None = None
    storage: str | None = None
    study: str | None = None
    reference: Path | None = None
    keep: bool = False
    seconds: float = 300.0
    seen: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Setup:
    """What will be measured and with what it is compared.

    Attributes:
        plan: settings and space of measuring; its config is what an update would search with.
        left_out: cells that can't be measured here, with the reason.
        platform: this machine; the table's own where a file is replayed.
        differs: what of the platform is not as the table says.
    """

    table: Table
    path: Path
    plan: Plan
    cells: tuple[CellTable, ...]
    spots: Mapping[Cell, tuple[Spot, ...]]
    left_out: tuple[tuple[Cell, str], ...]
    platform: Platform
    differs: tuple[str, ...]
    reference: Reference | None
    config_from: str
    reference_from: str
    notes: tuple[str, ...]


def prepare(table: Table, path: Path, options: VerifyOptions) -> Setup:
    """Look everything up and lay the run out.

    Raises:
        UsageError: the config does not belong to the table, or no cell can be measured here.
        StorageError, ReferenceFileError: what was named can't be read or is another table's.
    """
    stored, notes = stored_study(table, path, options.storage, options.study)
    config, config_from = _config(table, path, options, stored)
    config, cells, left_out = _adapted(config, table)
    reference, reference_from = _reference(table, path, options, stored, notes)
    plan = make_plan(config)
    workload = plan.workload if stored is None else {**stored.meta.workload, **plan.workload}
    spots = {}
    for cell in cells:
        limits = (ALIGNMENT, cell.measured_to) if config.replay is None else config.replay.ranges[cell.cell]
        known = reference.known(cell.cell) if reference else {}
        spots[cell.cell] = choose_spots(
            cell, known=known, workload=workload.get(cell.cell, ()), limits=limits, seed=options.seed
        )
    rule = replace(plan.settings.rule, min_samples=SAMPLES, max_samples=SAMPLES)
    seconds = min(plan.settings.max_seconds, MAX_SECONDS)
    plan = replace(
        plan,
        settings=replace(plan.settings, rule=rule, min_seconds=0.0, max_seconds=seconds, seed=options.seed),
        space=SearchSpace({cell.name: tuple(spot.size for spot in own) for cell, own in spots.items()}),
    )
    replayed = config.replay is not None
    here = table.platform if replayed else sweep_platform(plan)
    differs = () if replayed else tuple(finding.line() for finding in match(table.platform, here).differs)
    return Setup(
        table, path, plan, cells, spots, left_out, here, differs, reference, config_from, reference_from, tuple(notes)
    )


def _config(table: Table, path: Path, options: VerifyOptions, stored: StoredStudy | None) -> tuple[SweepConfig, str]:
    """How to measure, and where that is known from."""
    wanted = "replayed" if options.config is not None and options.config.replay is not None else "measured"
    if options.config is None and table.provenance == "replayed":
        raise UsageError(
            f"{path} is replayed: its figures come from a file, which has to be replayed again. Give --config with "
            "that `replay`"
        )
    if table.provenance != wanted:
        way = "replays a file" if wanted == "replayed" else "measures this machine"
        raise UsageError(
            f"{path} is {table.provenance}, and {options.config.source if options.config else 'this'} {way}: "
            "the two can't be compared. A measured table is verified by measuring, a replayed one by replaying"
        )
    if options.config is not None:
        return options.config, options.config.source
    if stored is not None:
        config = config_of_study(stored.meta, table)
        # Of a study that is not the table's the digest says that its config is.
        return config, f"{'its study' if stored.own else 'the study of the same config'} in {stored.where}"
    name = str(table.evidence.get("study", table.name))
    folders = [path.parent, *map(Path, ccl_dispatch.configs.__path__)]
    for file in (folder / f"{name}.yaml" for folder in folders if "/" not in name):
        if file.is_file() and file != path:
            try:
                config = load_config(file)
            except CclDispatchError:
                continue  # a table or something else of that name
            if config_digest(config) == table.evidence.get("config_digest"):
                return config, f"{file} says"
    return config_of_table(table), "the table says (its config was not found)"


def config_of_study(meta: StudyMeta, table: Table) -> SweepConfig:
    """How the study measured. Its identity may say less, as one of studies that were merged or of an older version:
    the table and the defaults say the rest.

    Raises:
        UsageError: it says what this version does not know.
    """
    told = meta.identity
    otherwise = config_of_table(table)
    try:
        return replace(
            otherwise,
            name=meta.name,
            timing=told["timing"],
            sizes=SizeRange(**told["sizes"]) if "sizes" in told else otherwise.sizes,
            workload=tuple(
                WorkloadShape(shape, cell.dtype, weight, cell.world_size, cell.mode, cell.dim)
                for cell, rows in meta.workload.items()
                for shape, _, weight in rows
            ),
            measure=MeasureConfig(**told["measure"]),
            backends=told["backends"],
            device=told.get("device", otherwise.device),
            share_devices=told.get("share_devices", otherwise.share_devices),
            seed=told.get("seed", otherwise.seed),
            source=f"study {meta.name}",
        )
    except (KeyError, TypeError) as problem:
        raise UsageError(
            f"study {meta.name!r} is of another version of ccl-dispatch, and how it measured is not known to this one "
            f"({problem}). Give the --config that the table was made with"
        ) from problem


def config_of_table(table: Table) -> SweepConfig:
    """What the table alone tells: cells, timing, pools and devices of its backends, caches and graphs."""
    options = {
        name: {"max_size": table.platform.versions[f"{name}.max_size"]}
        for name in (table.baseline, *table.candidates)
        if table.platform.versions.get(f"{name}.max_size")
    }
    measure = MeasureConfig()
    if table.evidence.get("cache") in ("cold", "warm"):
        measure = replace(measure, cache=str(table.evidence["cache"]))
    if isinstance(table.evidence.get("graph_calls"), int):
        measure = replace(measure, graph_calls=int(table.evidence["graph_calls"]))
    measure = replace(measure, host_graphs=HOST_GRAPHS_SETTING in table.platform.settings)
    cells = [cell.cell for cell in table.cells]
    return SweepConfig(
        name=table.name,
        collective=cells[0].collective if cells else "all_gather",
        baseline=table.baseline,
        candidates=table.candidates,
        world_sizes=tuple(sorted({cell.world_size for cell in cells})),
        dtypes=tuple(sorted({cell.dtype for cell in cells})),
        modes=tuple(sorted({cell.mode for cell in cells})),
        dims=tuple(sorted({cell.dim for cell in cells})),
        timing=table.policy.timing,
        sizes=SizeRange(ALIGNMENT, ALIGNMENT),
        measure=measure,
        backends=options,
        device=table.platform.device_type or None,
        share_devices=SHARED_SETTING in table.platform.settings,
        source=str(table.source),
    )


def _adapted(
    config: SweepConfig, table: Table
) -> tuple[SweepConfig, tuple[CellTable, ...], tuple[tuple[Cell, str], ...]]:
    """The config for the table's cells, those of them that can be measured here, and why not the others."""
    missing = sorted({table.baseline, *table.candidates} - {config.baseline, *config.candidates})
    if missing:
        raise UsageError(
            f"{config.source} has no backend {' and '.join(missing)}, which {table.source or table.name} chooses among "
            f"({', '.join((table.baseline, *table.candidates))}). Give the config that the table was made with"
        )
    if config.timing != table.policy.timing:
        raise UsageError(
            f"{config.source} times calls {config.timing}, {table.source or table.name} was made from calls timed "
            f"{table.policy.timing}: the two can't be compared. Give the config that the table was made with"
        )
    config = replace(
        config,
        baseline=table.baseline,
        candidates=table.candidates,
        machine=MachineConfig(),
        # Whether a config gave them or somebody exported them, that is what the table's ranks had.
        environment={name: value for name, value in table.platform.settings.items() if is_setting(name)},
    )
    most = _most_ranks(config)
    cells, left_out = [], []
    for cell in table.cells:
        reason = _not_here(cell.cell, config, most)
        if reason is None:
            cells.append(cell)
        else:
            left_out.append((cell.cell, reason))
    if not cells:
        told = "; ".join(f"{cell.name}: {reason}" for cell, reason in left_out[:4]) or "it has none"
        raise UsageError(
            f"no cell of {table.source or table.name} can be verified here: {told}. Verify it on the machine that it "
            "is for, or give --config with one that says how to measure it here"
        )
    low, high = min(cell.measured_from for cell in cells), max(cell.measured_to for cell in cells)
    workload = tuple(
        entry
        for entry in config.workload
        if low <= entry.size <= high and any(entry.occurs_in(cell.cell) for cell in cells)
    )
    replay = config.replay
    if replay is not None:
        replay = replace(replay, ranges={cell.cell: replay.ranges[cell.cell] for cell in cells})
    config = replace(
        config,
        collective=cells[0].cell.collective,
        sizes=replace(config.sizes, minimum=low, maximum=high),
        policy=PolicyConfig(table.policy.min_gain, table.policy.confidence),
        workload=workload,
        replay=replay,
        world_sizes=tuple(sorted({cell.cell.world_size for cell in cells})),
        dtypes=tuple(sorted({cell.cell.dtype for cell in cells})),
        modes=tuple(sorted({cell.cell.mode for cell in cells})),
        dims=tuple(sorted({cell.cell.dim for cell in cells})),
    )
    return config, tuple(cells), tuple(left_out)


def _not_here(cell: Cell, config: SweepConfig, most: int | None) -> str | None:
    if config.replay is not None:
        return None if cell in config.replay.ranges else f"{config.replay.file} has no measurement of it"
    if config.collective != cell.collective:
        return f"{config.source} is for {config.collective}"
    if most is not None and cell.world_size > most:
        return f"world size {cell.world_size} needs as many GPUs, this process sees {most}"
    return None


def _most_ranks(config: SweepConfig) -> int | None:
    """How many ranks can run here, None for any number."""
    if config.replay is not None or config.share_devices:
        return None
    if (config.device or backend_class(config.baseline).devices[0]) != "cuda":
        return None
    from ccl_dispatch.tuner.device.cuda import gpu_count

    return gpu_count()


def _reference(
    table: Table, path: Path, options: VerifyOptions, stored: StoredStudy | None, notes: list[str]
) -> tuple[Reference | None, str]:
    """What to compare with: visits that were kept go before those of the study, which were made for deciding."""
    named = options.reference
    if named is not None and options.keep and not named.exists():
        named = None  # made by this very run, which is compared with what there is without it
    kept = named or reference_path(path)
    if named is not None or kept.is_file():
        reference = read_reference(kept, table)
        visits = counted(max((len(own) for own in reference.visits.values()), default=0), "visit")
        when = f", {reference.times[0]}" if reference.times else ""
        return reference, f"{kept}: up to {visits} of {counted(len(reference.visits), 'size')}{when}"
    if stored is not None and stored.own:
        found = of_study(table, stored.meta.platform, stored.results)
        if found is not None:
            return found, f"the samples of the study in {stored.where}"
    notes.append(
        "nothing to compare latencies with: only whether the choices and the outputs are right was looked at. "
        "`verify --keep`, where the table is right, makes a reference"
    )
    return None, "none"
