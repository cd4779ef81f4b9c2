"""Measurements in the layouts that other tools print, recognised by what a file holds and never by its name."""

from ccl_dispatch.tuner.measurements.logs.lines import LogHints, LogReading
from ccl_dispatch.tuner.measurements.logs.reading import read_layout, recognise

__all__ = ["LogHints", "LogReading", "read_layout", "recognise"]
