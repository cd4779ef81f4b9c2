"""Stands for a part of AITER, which runs on AMD GPUs only."""
