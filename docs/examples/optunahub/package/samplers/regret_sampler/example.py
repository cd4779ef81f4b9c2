"""From how many numbers on is numpy's sort faster than Python's? The sampler says what to time, and when to end."""

import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import optunahub

regret = optunahub.load_module("samplers/regret_sampler")
# One curve, over every size from 2 to 4096 numbers in steps of half an octave.
space = regret.SearchSpace({"sort": tuple(round(2 ** (1 + step / 2)) for step in range(23))})
sampler = regret.RegretSampler(space, ["numpy"], budget=regret.Budget(executions=400))


def seconds(call: Callable[[Any], object], argument: object) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    call(argument)
    return time.perf_counter() - began


def objective(trial: optuna.Trial) -> float:
    """One visit: time both at the size that the trial was given, and tell what was found."""
    cell = trial.suggest_categorical("cell", space.cells)
    size = space.sizes[trial.suggest_int("size_index", 0, len(space.sizes) - 1)]
    repeats = trial.suggest_int("repeats", 1, 4096, log=True)
    began = time.perf_counter()
    numbers = [random.random() for _ in range(size)]
    array = np.array(numbers)
    # Above 0 where numpy is faster. The first pair warms up.
    first, *ratios = (math.log(seconds(sorted, numbers) / seconds(np.sort, array)) for _ in range(1 + repeats))
    took = time.perf_counter() - began
    visit = regret.Visit(took, repeats, took / (1 + repeats), repeat_executions=2, executions=2 + 2 * repeats)
    samples = regret.PointSamples(tuple(ratios), (first,))
    trial.set_user_attr("observed", regret.encode(regret.Observation(cell, size, {"numpy": samples}, visit)))
    # For those who look at the study; the sampler never does.
    return statistics.median(ratios)


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=sampler, direction="maximize")
study.optimize(objective)

found: dict[int, list[float]] = {}
for seen in sampler.observations(study):
    found.setdefault(seen.size, []).extend(seen.samples["numpy"].repeats)
for size in sorted(found):
    print(f"{size:>5} numbers: numpy {math.exp(statistics.median(found[size])):.2f}x, {len(found[size])} timings")
