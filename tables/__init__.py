"""The dispatch tables that come with ccl-dispatch, one YAML file per platform."""
