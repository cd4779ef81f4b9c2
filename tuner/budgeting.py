"""What a plan's budget is for: the search that spends it, what visits take of it, what is spent, where it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from ccl_dispatch.tuner.emit.build import executions
from ccl_dispatch.tuner.measure.loop import FIRST_LEAD_IN
from ccl_dispatch.tuner.plan import Plan
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import Budget, Observation, Outlook, RegretSampler


def make_sampler(plan: Plan, *, alone: bool = True) -> RegretSampler:
    """The search of a plan, with the plan's budget.

    Args:
        alone: no other process takes part. Where some may, what a visit is must not hang on who ends first: each has
            its warm-up.
    """
    config = plan.config
    warm_up, checks = _besides(plan)
    return RegretSampler(
        plan.space,
        config.candidates,
        threshold=plan.settings.rule.threshold,
        confidence=plan.policy.confidence,
        budget=Budget(
            executions=config.budget.executions,
            seconds=config.budget.seconds,
            regret=config.budget.regret,
            fixed_executions=warm_up + checks,
            warm_up_executions=warm_up,
            repeat_executions=len(plan.settings.backends),
        ),
        repeats=(plan.settings.rule.min_samples, plan.settings.rule.max_samples),
        warm_up=not alone or _always_warms_up(plan),
        # Virtual visits don't differ; nodes that share a study have points in common, which tell.
        visits_again=alone and config.replay is None,
    )


def _besides(plan: Plan) -> tuple[int, int]:
    """How many executions a visit takes besides its repetitions, all backends together: for warm-up, for checks.

    A measured visit also checks every output before and after. What a visit really takes is learned from the first ones
    (a captured graph runs its calls all at once, and does not have to settle).
    """
    backends = len(plan.settings.backends)
    settling = plan.settings.placement.type != "cpu" and all(cell.mode == "eager" for cell in plan.cells.values())
    warm_up = max(1, plan.settings.warmup) + (FIRST_LEAD_IN if settling else 0)
    return backends * warm_up, 0 if plan.config.replay else 2 * backends


def most_visits(plan: Plan) -> int | None:
    """How many visits `budget.executions` has room for if each is as short as may be; None without that budget.

    A replay may leave warm-ups out, and calls of a few microseconds are repeated until `measure.min_seconds` is over.
    """
    given = plan.config.budget.executions
    if given is None:
        return None
    warm_up, checks = _besides(plan)
    least = checks + plan.settings.rule.min_samples * len(plan.settings.backends)
    return given // (least + warm_up if _always_warms_up(plan) else least)


def no_room(plan: Plan, budget: str) -> str:
    """Why the budget of that name, `executions` or `seconds`, ends a sweep before its first point; what to do."""
    given = plan.config.budget
    if budget == "seconds":
        return (
            f"`budget.seconds` is {given.seconds:g} and was over before a single point was measured; starting the "
            "workers counts as well. Raise it: nothing was measured, and there is nothing to build a table from"
        )
    backends, repeats = len(plan.settings.backends), plan.settings.rule.min_samples
    warm_up, checks = _besides(plan)
    checked = f"{checks} to check outputs, " if checks else ""
    return (
        f"`budget.executions` is {given.executions} and has no room for a single visit of a point, which takes at "
        f"least {warm_up + checks + repeats * backends}: {warm_up} to warm up, {checked}and {backends} in each "
        f"repetition (`measure.min_samples`: {repeats}). Raise it: nothing was measured, and there is nothing to build "
        "a table from"
    )


def _always_warms_up(plan: Plan) -> bool:
    """Whether also visits have a warm-up whose first call has shown to be like all others.

    On a machine each has: it wakes the ranks, and says how many calls a sample has to average over. Who asks for more
    than one call knows why.
    """
    return plan.config.replay is None or plan.settings.warmup > 1 or plan.settings.timing != "isolated"


class Spent:
    """What has been spent of the config's budget, earlier runs of the study included.

    Where several nodes share a study, what all of them measured counts: `seconds` are then the nodes' together.
    """

    def __init__(self, plan: Plan, results: Sequence[PointResult], *, alone: bool) -> None:
        self._budget = plan.config.budget
        self._alone = alone
        self._virtual = plan.config.replay is not None
        self._executions = sum(executions(results).values())
        self._seconds = math.fsum(result.wall_seconds for result in results)
        self._began = time.perf_counter()

    def add(self, result: PointResult) -> None:
        """Count one more point."""
        self._executions += sum(result.executions.values())
        if self._virtual:
            self._seconds += result.wall_seconds

    def budget(self, outlook: Outlook, observations: Sequence[Observation]) -> str | None:
        """The word for what ends the sweep now: a budget's name, or `searched`; None to go on."""
        budget = self._budget
        used = self._executions
        seconds = self._seconds + (0.0 if self._virtual else time.perf_counter() - self._began)
        if not self._alone:
            visits = [observation.visit for observation in observations if observation.visit is not None]
            used = sum(visit.executions for visit in visits)
            seconds = math.fsum(visit.seconds for visit in visits)
        if budget.seconds is not None and seconds >= budget.seconds:
            return "seconds"
        if budget.regret is not None and outlook.regret <= budget.regret:
            return "regret"
        if budget.executions is not None and used >= budget.executions:
            return "executions"
        return outlook.exhausted or ("searched" if outlook.proposal is None else None)
