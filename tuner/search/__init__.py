"""Where to measure next: samplers behind Optuna's interface. They never touch a process group."""

from ccl_dispatch.tuner.search.base import Observation, PointSampler, SearchSpace
from ccl_dispatch.tuner.search.coarse_to_fine import CoarseToFineSampler

__all__ = ["CoarseToFineSampler", "Observation", "PointSampler", "SearchSpace"]
