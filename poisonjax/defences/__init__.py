"""Defences against poisoned training data and attacked test images: one file per paper, on the hooks of `base`."""

from poisonjax.defences.base import Context, Defence, Shield, shielded
from poisonjax.defences.reveal import Reveal

__all__ = ["Context", "Defence", "Reveal", "Shield", "shielded"]
