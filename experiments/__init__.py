"""One file a result: its docstring is the claim, its `experiment(scale)` all that the claim depends on."""
