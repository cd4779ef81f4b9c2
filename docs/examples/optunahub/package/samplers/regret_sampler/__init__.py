"""The sampler of ccl-dispatch and what one tells it, as optunahub.load_module finds them."""

from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.search import Budget, Observation, RegretSampler, SearchSpace, Visit, encode

__all__ = ["Budget", "Observation", "PointSamples", "RegretSampler", "SearchSpace", "Visit", "encode"]
