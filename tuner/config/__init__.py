"""The config of a sweep: strict YAML, and what it means."""
