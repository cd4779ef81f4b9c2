"""The sweep configs that come with ccl-dispatch; `cpu.yaml` is the one that `ccl-dispatch sweep` takes by itself."""
