"""Measurements as CSV: their rows, the curves between them, import, and a table judged on what it has not seen."""
