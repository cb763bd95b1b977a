"""Defences against poisoned training data and attacked test images: one file per paper, on the hooks of `base`."""

from poisonjax.defences.activation_clustering import ActivationClustering
from poisonjax.defences.base import Context, Defence, Selection, Shield, shielded
from poisonjax.defences.dpa import DPA
from poisonjax.defences.patch_cleanser import MaskedTraining, PatchCleanser
from poisonjax.defences.reveal import Reveal
from poisonjax.defences.spectral_signatures import SpectralSignatures

__all__ = [
    "DPA",
    "ActivationClustering",
    "Context",
    "Defence",
    "MaskedTraining",
    "PatchCleanser",
    "Reveal",
    "Selection",
    "Shield",
    "SpectralSignatures",
    "shielded",
]
