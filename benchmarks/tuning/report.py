"""The comparison as text, as CSV and as a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuning.compare import COSTS, EXHAUSTIVE_GRID, OURS, Entry, Row, measured_only, summarise

# Okabe and Ito's colours, told apart by the colour-blind too; ours is black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#F0E442")


def text(rows: Sequence[Row], fractions: Sequence[float]) -> list[str]:
    """A table for each way to count cost and each budget, and what ours is in proportion to the best rival."""
    lines = []
    for cost in dict.fromkeys(row.cost for row in rows):
        for fraction in fractions:
            entries = summarise(rows, cost, fraction)
            lines.append(f"1/{1 / fraction:.0f} of exhaustive, counted in {cost}: regret in %")
            lines.append(
                f"  {'method':<24}{'pairs':>6}{'mean':>9}{'worst':>9}{'our fit':>9}{'executions':>12}{'time':>9}"
                "  worst at"
            )
            for entry in entries:
                fit = "" if math.isnan(entry.mean_our_fit) or entry.method == OURS else f"{entry.mean_our_fit:.3%}"[:-1]
                lines.append(
                    f"  {entry.method:<24}{entry.variant:>6}{100 * entry.mean:>9.3f}{100 * entry.worst:>9.2f}{fit:>9}"
                    f"{'1/' + format(1 / entry.executions, '.0f'):>12}{'1/' + format(1 / entry.seconds, '.0f'):>9}"
                    f"  {entry.worst_at}"
                )
        scan = next((entry for entry in summarise(rows, cost, 1.0) if entry.method == EXHAUSTIVE_GRID), None)
        if scan is not None:
            lines.append(f"exhaustive grid itself: mean {scan.mean:.3%}, worst {scan.worst:.2%} at {scan.worst_at}")
        found = ratios(rows, cost, fractions)
        if found:
            shown = ", ".join(
                f"1/{1 / fraction:.0f} {ratio:.2f} ({best.method})" for fraction, (ratio, best) in found.items()
            )
            lines.append(f"ours / best rival, {cost}: {shown}; geometric mean {geometric_mean(found):.3f}")
            held = ratios(measured_only(rows), cost, fractions)
            shown = ", ".join(f"1/{1 / at:.0f} {ratio:.2f} ({best.method})" for at, (ratio, best) in held.items())
            lines.append(
                f"ours / best rival with the baseline where it measured nothing, as tables have it, {cost}: {shown}; "
                f"geometric mean {geometric_mean(held):.3f}"
            )
            with_fit = our_fit_ratios(rows, cost, fractions)
            if with_fit:
                shown = ", ".join(f"1/{1 / fraction:.0f} {ratio:.2f}" for fraction, ratio in with_fit.items())
                lines.append(f"ours / best rival's samples with our fit, {cost}: {shown}")
        lines.append("")
    return lines


def by_family(rows: Sequence[Row], cost: str, fraction: float) -> list[str]:
    """Mean and worst regret of ours in each family."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        if row.method == OURS and row.cost == cost and row.fraction == fraction:
            families.setdefault(row.family, []).append(row)
    lines = []
    for family, found in families.items():
        mean = math.fsum(row.regret for row in found) / len(found)
        worst = max(found, key=lambda row: row.regret)
        lines.append(
            f"  {family:<20} {len(found):>4} cells  mean {100 * mean:7.3f} %  worst {100 * worst.regret:6.2f} % "
            f"at {worst.landscape}"
        )
    return lines


def ratios(rows: Sequence[Row], cost: str, fractions: Sequence[float]) -> dict[float, tuple[float, Entry]]:
    """By budget: ours in proportion to the best rival at the same cost, and that rival."""
    found = {}
    for fraction in fractions:
        entries = summarise(rows, cost, fraction)
        others = [entry for entry in entries if entry.method != OURS]
        if others and entries[0].method == OURS:
            best = min(others, key=lambda entry: entry.mean)
            found[fraction] = (entries[0].mean / best.mean if best.mean else math.inf, best)
    return found


def our_fit_ratios(rows: Sequence[Row], cost: str, fractions: Sequence[float]) -> dict[float, float]:
    """By budget: ours in proportion to our fit on the best rival's samples, which is what the search alone is worth."""
    found = {}
    for fraction in fractions:
        entries = summarise(rows, cost, fraction)
        means = [entry.mean_our_fit for entry in entries if entry.method != OURS]
        if means and not any(map(math.isnan, means)) and entries[0].method == OURS:
            found[fraction] = entries[0].mean / min(means) if min(means) else math.inf
    return found


def geometric_mean(found: Mapping[float, tuple[float, Entry]]) -> float:
    """Of the ratios; a regret of nothing counts as a hundredth of the rival's."""
    return math.exp(math.fsum(math.log(max(ratio, 0.01)) for ratio, _ in found.values()) / len(found))


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Every run, one a line."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


def plot(rows: Sequence[Row], fractions: Sequence[float], path: Path) -> None:
    """Mean (above) and worst regret (below) over what was spent, for both ways to count. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    costs = [cost for cost in COSTS if any(row.cost == cost for row in rows)]
    figure, axes = plt.subplots(2, len(costs), figsize=(5.4 * len(costs), 7), squeeze=False, sharex="col", sharey="row")
    methods = [name for name in dict.fromkeys(row.method for row in rows) if name not in {OURS, EXHAUSTIVE_GRID}]
    styles = {OURS: ("black", 2.4), **{name: (_COLOURS[i % len(_COLOURS)], 1.2) for i, name in enumerate(methods)}}
    for column, cost in enumerate(costs):
        summaries = {
            fraction: {entry.method: entry for entry in summarise(rows, cost, fraction)} for fraction in fractions
        }
        for method, (colour, width) in styles.items():
            entries = [found[method] for found in summaries.values() if method in found]
            spent = [entry.executions if cost == COSTS[0] else entry.seconds for entry in entries]
            for row, values in enumerate(([entry.mean for entry in entries], [entry.worst for entry in entries])):
                axes[row][column].plot(
                    spent, [100 * value for value in values], "o-", ms=3, color=colour, lw=width, label=method
                )
        axes[1][column].set_xlabel(f"{cost}, in proportion to the exhaustive scan")
        for axis in axes[:, column]:
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.grid(alpha=0.25, which="both")
    axes[0][0].set_ylabel("mean regret, %")
    axes[1][0].set_ylabel("worst regret of a cell, %")
    axes[0][-1].legend(frameon=False, fontsize=7)
    count = len({row.landscape for row in rows})
    figure.suptitle(f"what tuning costs: {count} landscapes, simulated and replayed", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
