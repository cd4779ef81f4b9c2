"""What a study says of how well things went, as a table's evidence has it: faults, slow ranks, other work."""
