"""One backend per measured size, with the least weighted regret plus what switching costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def best_labels(utilities: Sequence[Mapping[str, float]], weights: Sequence[float], switch_cost: float) -> list[str]:
    """The label of each point that minimises the sum of weight x (best utility - the label's) plus `switch_cost` each
    time that neighbours differ (dynamic programming, exact).

    Args:
        utilities: of one point at least, per point the labels that are allowed there with their utility in log units;
            never empty. Among equal sums the label that comes first in a point's mapping wins.
        weights: per point what a loss there counts, in octaves.
        switch_cost: in log units x octaves.
    """
    losses = [
        {label: weight * (max(point.values()) - value) for label, value in point.items()}
        for point, weight in zip(utilities, weights, strict=True)
    ]
    totals = dict(losses[0])
    came_from: list[dict[str, str]] = []
    for loss in losses[1:]:
        step: dict[str, str] = {}
        new: dict[str, float] = {}
        for label in loss:
            # min() keeps the first of equals: staying is listed first, so an unneeded switch is never made.
            sources = sorted(totals, key=lambda source: source != label)
            step[label] = min(sources, key=lambda source: totals[source] + (switch_cost if source != label else 0.0))
            new[label] = totals[step[label]] + (switch_cost if step[label] != label else 0.0) + loss[label]
        totals = new
        came_from.append(step)
    labels = [min(totals, key=lambda label: totals[label])]
    for step in reversed(came_from):
        labels.append(step[labels[-1]])
    return labels[::-1]


def runs(labels: Sequence[object]) -> list[tuple[int, int]]:
    """First and last index of each run of equal neighbours."""
    starts = [i for i in range(len(labels)) if i == 0 or labels[i] != labels[i - 1]]
    ends = [*(start - 1 for start in starts[1:]), len(labels) - 1]
    return list(zip(starts, ends, strict=False))
