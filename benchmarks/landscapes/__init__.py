"""Landscapes to test a search on: simulated families with known truth, seeded, and the published measurements."""

from landscapes.families import CURVES, FAMILIES, NOISES, dtypes, make, simulated, without_difference
from landscapes.model import Landscape, write_csv
from landscapes.noise import Noise, Usual
from landscapes.published import VENDORS, published

__all__ = [
    "CURVES",
    "FAMILIES",
    "NOISES",
    "VENDORS",
    "Landscape",
    "Noise",
    "Usual",
    "dtypes",
    "make",
    "published",
    "simulated",
    "without_difference",
    "write_csv",
]
