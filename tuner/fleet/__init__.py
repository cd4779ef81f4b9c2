"""Several nodes that share one study: are all alike, and how studies and tables are joined."""
