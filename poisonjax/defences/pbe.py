"""Progressive backdoor erasing: adversarial fine-tuning, on rows whose prediction it does not change.

Falls to a trigger that the budget does not cover: the first rows are a random share of all, and fine-tuning learns the
trigger from the poisoned ones among them as the training did, so that poisoned rows agree and stay. Four bright pixels
on MNIST survived Linf budgets of 6/255 and .3, and not one of 2 in L2, their length (docs/removes_or_reveals.md).
"""

import dataclasses

import jax
import numpy as np
import optax

from poisonjax.attacks import PGD, Linf, LossAttack
from poisonjax.attacks.settings import check_counts
from poisonjax.defences.base import Context, Defence, Shield, instead
from poisonjax.evaluation.victim import Victim, row_outputs
from poisonjax.training.objectives import AdversarialTraining
from poisonjax.types import take

AS_PUBLISHED = PGD(Linf(6 / 255), step=6 / 255 / 5, steps=7, random_start=False)


@dataclasses.dataclass(frozen=True)
class PBE(Defence):
    """Fine-tune against an untargeted attack on rows that are purified round by round (Mu et al. 2023, algorithm 1).

    Adversarial images of a poisoned network resemble triggered ones, so learning their labels is to erase the backdoor.
    The first rows are drawn at random from all, poisoned ones included. After each round the trained and the
    fine-tuned network look at every row, and the rows whose logits agree most, by their cosine, are those of the next.
    No clean data.

    attack: to fine-tune against. first: share of the rows that the first round learns from, in (0, 1]. shares: those of
    the rounds that follow, each in (0, 1]. epochs: of each round, at least 1, with the arm's optimiser. The defaults
    are those of the authors' code, of which 6/255 is next to nothing on MNIST; after its first round that code attacks
    31 batches only and then learns without an attack, here every batch is attacked. ValueError for impossible values.
    """

    attack: LossAttack = AS_PUBLISHED
    first: float = 0.05
    shares: tuple[float, ...] = (0.2, 0.5, 0.7)
    epochs: int = 10

    def __post_init__(self):
        for share in (self.first, *self.shares):
            if not 0 < share <= 1:
                raise ValueError(f"first and shares are shares of the rows and must lie in (0, 1], got {share}")
        check_counts(self, "epochs")

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The network after the last round, which learnt from the rows `keep`."""
        training = dataclasses.replace(context.training, epochs=self.epochs)
        before, _ = context.map(row_outputs, victim, context.train)
        order, network = jax.random.permutation(context.key, len(before)), victim
        for number, share in enumerate((self.first, *self.shares)):
            if number:
                after, _ = context.map(row_outputs, network, context.train)
                order = np.argsort(-agreement(before, after), kind="stable")
            extra = np.isin(np.arange(len(before)), order[: max(1, round(share * len(before)))])
            rows = take(context.train, extra)
            objective = AdversarialTraining(self.attack)
            network = context.fit(f"round{number}", objective, rows, training=training, start=network)
        return instead(network)._replace(keep=extra)


def agreement(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The cosine of the logits [n k] of each row before and after, [n] in [-1, 1]."""
    return np.asarray(optax.cosine_similarity(before, after, epsilon=1e-12))
