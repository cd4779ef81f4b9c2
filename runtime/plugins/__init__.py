"""What serving engines load by entry point, so that nothing in them has to be edited. One module per engine."""
