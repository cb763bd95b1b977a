"""An experiment on a machine: one run, a grid of runs, an attack on what a run left."""
