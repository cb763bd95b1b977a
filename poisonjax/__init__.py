"""poisonjax: can adversarial training defend against poisoning? Measured, in JAX."""
