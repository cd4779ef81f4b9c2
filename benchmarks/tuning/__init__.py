"""What tuning costs: the search of this package and its rivals on landscapes whose truth is known."""
