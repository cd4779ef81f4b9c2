"""What the samples say about a cell's curve of log-ratios, between measured sizes as well. Shared by search and fit."""

from ccl_dispatch.tuner.curves.doubt import Doubt
from ccl_dispatch.tuner.curves.model import Acquittal, CurveModel, Posterior
from ccl_dispatch.tuner.curves.noise import FirstCalls, Noise, PointSamples, Summary, learn_noise, summarise
from ccl_dispatch.tuner.curves.value import Measuring, expected_loss, value_of_telling
from ccl_dispatch.tuner.curves.visits import with_visits

__all__ = [
    "Acquittal",
    "CurveModel",
    "Doubt",
    "FirstCalls",
    "Measuring",
    "Noise",
    "PointSamples",
    "Posterior",
    "Summary",
    "expected_loss",
    "learn_noise",
    "summarise",
    "value_of_telling",
    "with_visits",
]
