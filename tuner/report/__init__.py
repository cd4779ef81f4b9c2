"""The report: one page, and pictures of the same figures, from a study's samples and the table that they give."""
