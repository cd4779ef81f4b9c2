"""The formats of tables, configs and events: JSON Schema for programs, pages for people."""
