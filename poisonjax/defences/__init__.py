"""Defences against poisoned training data and attacked test images: one file per paper, on the hooks of `base`."""

from poisonjax.defences.abl import ABL, LocalAscent
from poisonjax.defences.activation_clustering import ActivationClustering
from poisonjax.defences.base import Context, Defence, Selection, Shield, shielded
from poisonjax.defences.distillation import Distillation
from poisonjax.defences.dpa import DPA
from poisonjax.defences.fine_pruning import FinePruning
from poisonjax.defences.isolation_forest import IsolationForest
from poisonjax.defences.magnet import Detector, Divergence, MagNet, Reconstruction, ReconstructionError, magnet_cifar10
from poisonjax.defences.masked_disagreement import MaskedDisagreement
from poisonjax.defences.neural_cleanse import Inversion, NeuralCleanse, TriggerInversion, invert_triggers
from poisonjax.defences.patch_cleanser import MaskedTraining, PatchCleanser
from poisonjax.defences.patch_search import Patches, PatchSearch, search_patches
from poisonjax.defences.pbe import PBE
from poisonjax.defences.repeated_patch import Repeat, RepeatedPatch
from poisonjax.defences.reveal import Reveal
from poisonjax.defences.spectral_signatures import SpectralSignatures
from poisonjax.defences.spectre import SPECTRE
from poisonjax.defences.strip import STRIP
from poisonjax.defences.trapdoors import Trapdoors
from poisonjax.defences.union import Union

__all__ = [
    "ABL",
    "DPA",
    "PBE",
    "SPECTRE",
    "STRIP",
    "ActivationClustering",
    "Context",
    "Defence",
    "Detector",
    "Distillation",
    "Divergence",
    "FinePruning",
    "Inversion",
    "IsolationForest",
    "LocalAscent",
    "MagNet",
    "MaskedDisagreement",
    "MaskedTraining",
    "NeuralCleanse",
    "PatchCleanser",
    "PatchSearch",
    "Patches",
    "Reconstruction",
    "ReconstructionError",
    "Repeat",
    "RepeatedPatch",
    "Reveal",
    "Selection",
    "Shield",
    "SpectralSignatures",
    "Trapdoors",
    "TriggerInversion",
    "Union",
    "invert_triggers",
    "magnet_cifar10",
    "search_patches",
    "shielded",
]
