"""Aims of attackers: the metric of a trained network that tells whether a poison got what it is for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Aim:
    """The aim of an attacker, for networks that learn from the poison; records keep it, so that readers know.

    metric: the one that the gate and all verdicts are on, as `poisonjax.evaluation.metrics.METRICS` names it. raises:
    True if the attacker wants it high. effect: what a poisoned network has, and a defence removes.
    """

    metric: str
    raises: bool
    effect: str

    def success(self, value: float) -> float:
        """The attacker's success, a fraction, for a value of the metric; and the value for a success."""
        return value if self.raises else 1 - value

    @property
    def spoils_accuracy(self) -> bool:
        """True if a network that guesses on clean images is what the attacker wants, and no failure of training."""
        return self.metric == "clean_accuracy" and not self.raises


BACKDOOR = Aim("attack_success_rate", True, "backdoor")
LOW_ACCURACY = Aim("clean_accuracy", False, "loss of accuracy")
