"""Measuring: one point at a time, all backends paired and interleaved. It never knows why a point was chosen."""

from ccl_dispatch.tuner.measure.messages import MeasureSettings, PointRequest

__all__ = ["MeasureSettings", "PointRequest"]
