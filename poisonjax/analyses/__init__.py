"""Optional looks at trained networks, each one file: its settings, numbers, tables and figures."""

from poisonjax.analyses.activations import Activations
from poisonjax.analyses.adversarial_example import AdversarialExample
from poisonjax.analyses.attack_suite import AttackSuite, NamedAttack
from poisonjax.analyses.boosted_trees import GradientBoostedTrees
from poisonjax.analyses.certified_patch import CertifiedPatch
from poisonjax.analyses.certified_rows import CertifiedRows
from poisonjax.analyses.informed_attack import InformedAttack
from poisonjax.analyses.loss_paths import LossPaths

__all__ = [
    "Activations",
    "AdversarialExample",
    "AttackSuite",
    "CertifiedPatch",
    "CertifiedRows",
    "GradientBoostedTrees",
    "InformedAttack",
    "LossPaths",
    "NamedAttack",
]
