"""Measures backends, searches and fits, and writes tables. `ccl_dispatch.tuner.cli` is the command line."""
