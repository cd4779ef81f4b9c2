"""Draws a study and its table: latency of every backend over size, one panel per cell, bands as coloured ground.

    ccl-dispatch export --storage runs/cpu/study.journal --out samples.csv
    python benchmarks/picture.py runs/cpu/table.yaml samples.csv picture.png

Points are medians of the slowest rank's latency, bars reach from the 25th to the 75th percentile. Needs matplotlib.
"""

from __future__ import annotations

import statistics
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.units import short_size
from ccl_dispatch.tuner.measurements.csv_file import read_measurements

# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def main(table_path: str, csv_path: str, out: str) -> int:
    """Write the picture to `out`."""
    mpl.use("Agg")
    table = load_table(table_path)
    curves = read_measurements(csv_path).by_cell()
    colours = dict(zip((table.baseline, *table.candidates), COLOURS, strict=False))
    columns = min(2, len(table.cells))
    rows = -(-len(table.cells) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.2 * columns, 3.1 * rows), squeeze=False, sharey=True)
    for cell, axis in zip(table.cells, axes.flat, strict=False):
        start = cell.measured_from
        for band in cell.bands:
            axis.axvspan(start, band.up_to, color=colours[band.use], alpha=0.12, lw=0)
            start = band.up_to
        for name, sizes in sorted(curves.get(cell.cell, {}).items()):
            points = sorted(sizes.items())
            middle = [statistics.median(values) for _, values in points]
            low = [m - statistics.quantiles(v, n=4)[0] for m, (_, v) in zip(middle, points, strict=True)]
            high = [statistics.quantiles(v, n=4)[2] - m for m, (_, v) in zip(middle, points, strict=True)]
            axis.errorbar(
                [size for size, _ in points], middle, (low, high), label=name, color=colours[name], marker="o", ms=3
            )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.xaxis.set_major_locator(FixedLocator([16 * 8**k for k in range(8)]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: short_size(size)))
        axis.set_title(cell.cell.name, fontsize=9)
        axis.grid(alpha=0.25)
    axes[0][0].legend(frameon=False)
    figure.supxlabel("per-rank input", fontsize=9)
    figure.supylabel("latency of the slowest rank, us", fontsize=9)
    figure.suptitle(
        f"{table.name}: {table.provenance} on {table.platform.device}; ground: what the table uses", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
