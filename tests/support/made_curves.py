"""A measurement file for replays: a candidate that is faster up to a size, and may have become slower since."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20
SIZES = tuple(16 * 2**step for step in range(19))  # 16 B to 4 MiB


def write_curves(
    path: Path,
    *,
    slower: float = 1.0,
    above: int = 64 * 1024,
    crossover: int = MIB,
    dtypes: tuple[str, ...] = ("bfloat16",),
) -> Path:
    """`cand` takes 0.6 of the time of `base` up to `crossover` bytes and 1.3 of it beyond; all figures are made up.

    Above `above` bytes its times are multiplied by `slower`.
    """
    lines = ["collective,mode,dtype,world_size,shape,bytes,backend,latency_us"]
    for dtype in dtypes:
        for size in SIZES:
            base = 10 + size / 20_000
            cand = base * (0.6 if size <= crossover else 1.3) * (slower if size > above else 1.0)
            lines += [
                f"all_gather,eager,{dtype},2,,{size},{name},{time!r}" for name, time in (("base", base), ("cand", cand))
            ]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_config(folder: Path, name: str, more: str = "", **curves: object) -> Path:
    """A config that replays such a file with 5 % noise and 1 % outliers."""
    write_curves(folder / f"{name}.csv", **curves)  # type: ignore[arg-type]
    path = folder / f"{name}.yaml"
    path.write_text(
        f"name: {name}\nbaseline: base\ncandidates: [cand]\n"
        f"replay: {{file: {name}.csv, noise: 0.05, outliers: 0.01}}\nbudget: {{executions: 600}}\n{more}"
    )
    return path
