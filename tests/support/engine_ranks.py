"""Ranks that import an engine: what SGLang and vLLM need of others is imported once for all tests."""

from __future__ import annotations

from functools import partial

import ranks

# Seven of the eight seconds that importing either takes a rank. Nothing of the engines themselves, nor of AITER: what
# their import does to the environment and to logging is a part of what is tested.
_OF_OTHERS = (
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "scipy.stats",
    "scipy.optimize",
    "transformers.modeling_utils",
    "openai",
    "fastapi",
    "xgrammar",
    "requests",
)

run_ranks = partial(ranks.run_ranks, preload=_OF_OTHERS)
