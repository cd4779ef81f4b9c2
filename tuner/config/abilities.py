"""Whether the backends of a config do its collective, modes, dtypes and sizes: asked before any worker is started."""

from __future__ import annotations

from collections.abc import Iterable

from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.runtime.vocabulary import MODES
from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.backends.registry import backend_class
from ccl_dispatch.tuner.config.model import SweepConfig


def check_abilities(config: SweepConfig, device: str) -> None:
    """Refuse what the baseline or all candidates can't do, and a candidate that can do nothing of it.

    A candidate that has some of the modes is excluded in the others, as at sizes that it does not take.

    Args:
        device: the type of device that the sweep runs on.

    Raises:
        ConfigError: with the key, which backends can't do it, and what they can do.
    """
    names = (config.baseline, *config.candidates)
    graphs = device != "cpu" or config.measure.host_graphs
    does = {name: backend_class(name).collectives for name in names}
    unable = [name for name in names if config.collective not in does[name]]
    if unable:
        common = [word for word in does[config.baseline] if all(word in does[name] for name in names)]
        todo = f"Set `collective` to {' or '.join(common)}, or take" if common else "Take"
        raise _error(
            config,
            "collective",
            f"found {config.collective}, which {_can_not(unable, does)}",
            f"{todo} other backends. What others measured of {config.collective} can be brought in: "
            "`ccl-dispatch import`, or `replay` in a config",
        )
    does = {name: tuple(mode for mode in backend_class(name).modes if graphs or mode == "eager") for name in names}
    without = "" if graphs else ": host memory has no graphs"
    hint = "" if graphs else ". To try captured modes out without a GPU: `measure: {host_graphs: true}`"
    for mode in config.modes:
        unable = [name for name in names if mode not in does[name]]
        if config.baseline in unable or len(unable) == len(config.candidates):
            left = [found for found in MODES if found != mode and found in does[config.baseline]]
            raise _error(
                config,
                "modes",
                f"found {mode}, which {_can_not(unable, does)}{without}",
                f"Take {mode} out of `modes` (what the baseline can do: {', '.join(left)}){hint}",
            )
    _check_dtypes(config)
    for name in config.candidates:
        if not set(does[name]) & set(config.modes):
            raise _error(
                config,
                "candidates",
                f"{name} runs in none of the `modes` {', '.join(config.modes)}; it can do {', '.join(does[name])}",
                f"Take {name} out, or add one of its modes",
            )


def check_baseline(config: SweepConfig, points: Iterable[Point]) -> None:
    """Refuse sizes that the baseline is known not to take: what is to be measured against it can't be.

    Raises:
        ConfigError: with the first of them, and why.
    """
    kind, options = backend_class(config.baseline), config.backends.get(config.baseline, {})
    for point in points:
        reason = kind.foreseen(point, options)
        if reason is not None:
            what = f"shape {list(point.shape)}, " if point.shape else ""
            raise _error(
                config,
                "workload" if point.shape else "sizes",
                f"the baseline {config.baseline} can't take {what}{point.size} B in {point.cell.name}: {reason}",
                "Take it out, or another baseline: every size is compared with it",
            )


def _check_dtypes(config: SweepConfig) -> None:
    """A candidate that does not take a dtype is excluded in its cells, which the plan tells; the baseline must."""
    takes = backend_class(config.baseline).dtypes
    for dtype in config.dtypes:
        if dtype not in takes:
            raise _error(
                config,
                "dtypes",
                f"found {dtype}, which the baseline {config.baseline} can't take (it takes {', '.join(takes)})",
                f"Take {dtype} out of `dtypes`, or another baseline",
            )


def _can_not(unable: list[str], does: dict[str, tuple[str, ...]]) -> str:
    """`gloo and shm can't do (gloo and shm do all_gather)`: those that do the same are told together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in unable:
        alike.setdefault(does[name], []).append(name)
    able = "; ".join(
        f"{' and '.join(names)} {'do' if len(names) > 1 else 'does'} {', '.join(words)}"
        for words, names in alike.items()
    )
    return f"{' and '.join(unable)} can't do ({able})"


def _error(config: SweepConfig, key: str, problem: str, fix: str) -> ConfigError:
    return ConfigError(problem, source=config.source, line=config.lines.get(key, 0), key=key, fix=fix)
