"""Optional looks at trained networks, each one file: its settings, numbers, tables and figures."""

from poisonjax.analyses.activations import Activations
from poisonjax.analyses.adversarial_example import AdversarialExample
from poisonjax.analyses.attack_suite import AttackSuite, NamedAttack

__all__ = ["Activations", "AdversarialExample", "AttackSuite", "NamedAttack"]
