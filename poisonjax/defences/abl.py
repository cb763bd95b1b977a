"""Anti-backdoor learning: the rows that are learnt too easily are set aside, and their label is unlearnt from them.

Falls to a poison that is learnt no sooner than the images, such as BadNets from every class to the next, of which it
isolates clean rows; then, as on clean data, it unlearns true labels and costs much accuracy. Falls to itself too where
each row has its own sign, as the paper writes it: all easy rows end near gamma, in no telling order.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import Margin
from poisonjax.attacks.settings import check_counts, check_nonnegative, check_positive
from poisonjax.defences.base import Context, Defence, Selection, Shield, instead
from poisonjax.defences.reveal import log_losses
from poisonjax.evaluation.victim import Victim
from poisonjax.runtime import distributed
from poisonjax.training.objectives import Keys, Learner, Losses, Objective, cross_entropy, hard
from poisonjax.training.optimizers import SGD, Constant, Optimizer
from poisonjax.types import Array, take


@dataclasses.dataclass(frozen=True)
class LocalAscent(Objective):
    """Cross-entropy that is raised again below gamma: sign(loss - gamma) * loss (Li et al. 2021, equation 3).

    gamma: above 0; ValueError otherwise. of_batch: False takes the sign of each row's own loss, as the equation has it;
    True that of the mean over the batch, as the authors' code has it. (That code can also flood, and does so unless
    told otherwise: |mean - gamma| + gamma, which has the same gradient as the latter.) In the last batch of an epoch,
    the rows that fill it up count in the mean too.

    In one run on 3,000 images of MNIST with BadNets to one class (10 %, 3 x 3), 20 epochs of Adam at 4e-3, all of the
    1 % of lowest loss were poisoned with the sign of the mean, and none with that of each row; at 1e-3, 73 and 3 %.
    """

    gamma: float = 0.5
    of_batch: bool = False

    def __post_init__(self):
        check_positive(self, "gamma")

    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        out = network.apply(x, keys.noise)
        loss = cross_entropy(out.logits, y)
        level = distributed.pmean(jnp.mean(jax.lax.stop_gradient(loss))) if self.of_batch else loss
        return Losses(jnp.sign(level - self.gamma) * loss, out.logits, out.batch_stats)


@dataclasses.dataclass(frozen=True)
class Unlearning(Objective):
    """The margin of the given label over the best other one, lowered to -bound at the least: the label is unlearnt.

    The paper raises the cross-entropy instead, whose gradient is 1 - p of the label's probability p: next to nothing on
    rows that were learnt to a loss below 1e-6. The margin's does not fade, and below -bound it is 0, so that ascent
    ends. bound: at least 0, where the label no longer leads; ValueError below.
    """

    bound: float = 0.0

    def __post_init__(self):
        check_nonnegative(self, "bound")

    def __call__(self, network: Learner, x: Array, y: Array, keys: Keys, progress: Array) -> Losses:
        out = network.apply(x, keys.noise)
        return Losses(-jnp.minimum(Margin()(out.logits, hard(y)), self.bound), out.logits, out.batch_stats)


@dataclasses.dataclass(frozen=True)
class ABL(Defence):
    """Isolate the rows of lowest loss, train on the others, then unlearn the isolated ones (Li et al. 2021, section 3).

    The paper goes on from the network that isolates and unlearns while it trains; its authors' code first trains on the
    other rows and then unlearns, as is done here, on a network that starts anew.

    isolated: share of the rows, in (0, 1); the paper's 1 %. judge: how the network is trained by whose losses rows are
    isolated, for judge_epochs, the paper's 20; as in the authors' code, see `LocalAscent`. epochs, learning_rate:
    of the unlearning, by plain gradient descent on `Unlearning(bound)`, which ends by itself; 5e-4 is the authors'
    rate. Batch statistics become those of the isolated rows. ValueError for impossible values.
    """

    isolated: float = 0.01
    judge: Objective = LocalAscent(of_batch=True)
    judge_epochs: int = 20
    epochs: int = 40
    learning_rate: float = 5e-4
    bound: float = 0.0

    def __post_init__(self):
        if not 0 < self.isolated < 1:
            raise ValueError(f"isolated is a share and must lie in (0, 1), got {self.isolated}")
        check_counts(self, "judge_epochs", "epochs")
        self._descent(), Unlearning(self.bound)  # check the other settings

    def select(self, context: Context) -> Selection:
        """All rows but the isolated ones; suspicion is minus the log of the loss. ValueError if one is not finite."""
        short = dataclasses.replace(context.training, epochs=self.judge_epochs)
        judge = context.fit("judge", self.judge, context.train, training=short)
        losses = context.map(log_losses, judge, context.train)
        if not np.isfinite(losses).all():
            raise ValueError("the judge's losses are not all finite; train it with a smaller learning rate")
        return Selection(take(context.train, ~lowest(losses, self.isolated)), -losses)

    def shield(self, victim: Victim, context: Context) -> Shield:
        """The network after it has unlearnt the rows that `select` isolated."""
        settings = dataclasses.replace(context.training, epochs=self.epochs, optimizer=self._descent())
        unlearnt = context.fit("unlearnt", Unlearning(self.bound), context.dropped, training=settings, start=victim)
        return instead(unlearnt)

    def _descent(self) -> Optimizer:
        # Momentum would carry on where the margin's gradient has ended.
        return SGD(self.learning_rate, momentum=0.0, weight_decay=0.0, schedule=Constant())


def lowest(losses: np.ndarray, share: float) -> np.ndarray:
    """The round(share * n) lowest of the losses [n], but at least one: [n] bool."""
    places = np.argsort(losses, kind="stable")[: max(1, round(share * len(losses)))]
    return np.isin(np.arange(len(losses)), places)
