"""Stands in for AITER in tests: the same surface and the same failures, on the CPU and on any GPU of torch."""
