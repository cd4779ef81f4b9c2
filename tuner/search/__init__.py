"""Where to measure next: samplers behind Optuna's interface. They never touch a process group."""

from ccl_dispatch.tuner.search.base import Observation, Outlook, Proposal, SearchSpace, Visit, encode
from ccl_dispatch.tuner.search.costs import Budget
from ccl_dispatch.tuner.search.point_sampler import PointSampler
from ccl_dispatch.tuner.search.regret_sampler import RegretSampler

__all__ = [
    "Budget",
    "Observation",
    "Outlook",
    "PointSampler",
    "Proposal",
    "RegretSampler",
    "SearchSpace",
    "Visit",
    "encode",
]
