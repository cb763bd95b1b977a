"""Networks of other frameworks as victims, and JAX networks for the attacks of other frameworks.

A foreign network runs on the host, called back from the compiled attack batch by batch, so it is much slower than a
JAX network. It must not call JAX itself, which may deadlock on a CPU. Gradients are the framework's own; there are no
second derivatives. torch, ART and Foolbox are imported where they are needed, and are not required by poisonjax; nor is
MAITE, whose protocols an object meets without importing it.
"""

from poisonjax.adapters.frameworks import from_art, from_foolbox, from_torch, to_torch
from poisonjax.adapters.maite import from_maite, from_maite_dataset, to_maite, to_maite_dataset
from poisonjax.adapters.named import adapted

__all__ = [
    "adapted",
    "from_art",
    "from_foolbox",
    "from_maite",
    "from_maite_dataset",
    "from_torch",
    "to_maite",
    "to_maite_dataset",
    "to_torch",
]
