"""The table of a study: made, written in its canonical text, compared, and judged fit to be shipped."""
