"""Everything that is measured on a trained network."""
