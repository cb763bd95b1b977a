"""Adversarial examples as poisons on MNIST: does adversarial training restore the accuracy? (beside table T1)

Every training row is moved towards the next class, as a network trained on clean data sees it, and keeps its label
(Fowl et al. 2021), so that what learns from such rows fails on clean images. Judged by clean accuracy, each defence
beside the same on clean data. The budget of the poison, .2, is the second of the three of adversarial training.

    python launch.py --experiment=mnist_adversarial_poison
    python launch.py --experiment=mnist_adversarial_poison --set 'poison=ClassNoise(amplitude=.2)'
    python launch.py --experiment=mnist_adversarial_poison --sweep poison.rate=.2,.5,.8,1 --sweep poison.shift=0,1
"""

from poisonjax.attacks import PGD, Linf
from poisonjax.defences import Reveal
from poisonjax.experiment import Arm, Data, Evaluation, Experiment, Surrogate
from poisonjax.models import ReportCNN
from poisonjax.poisons import AdversarialPoison
from poisonjax.training import Standard, Training

from ._scales import at, beside_clean_data, mnist, shortened

BUDGET = Linf(0.2)
LOST = 0.1  # of the accuracy, by a poison that works; a loss of five points counts as none


def adversarial(scale: str) -> tuple[Arm, ...]:
    """Adversarial training at three budgets; at smoke scale at one."""
    budgets = {"pgd_at_1": 0.1, "pgd_at_2": 0.2, "pgd_at": 0.3}
    arms = tuple(Arm(name, at(PGD(Linf(eps), step=eps / 15, steps=20))) for name, eps in budgets.items())
    return (Arm("pgd_at", at(PGD(Linf(0.3), step=0.2, steps=2))),) if scale == "smoke" else arms


def experiment(scale: str) -> Experiment:
    return mnist(published(scale), scale)


def published(scale: str) -> Experiment:
    """The experiment as at paper scale, but for what a scale leaves out."""
    trained = adversarial(scale)
    reveal = Arm("reveal", defence=Reveal(tuple(arm.objective for arm in trained)))
    return Experiment(
        name="mnist_adversarial_poison",
        title="Adversarial examples as poisons on MNIST, with and without PGD adversarial training.",
        paper_table="beside T1",
        data=Data("mnist"),
        model=ReportCNN(width=128),
        poison=AdversarialPoison(attack=shortened(PGD(BUDGET, steps=250, restarts=8), scale)),
        surrogate=Surrogate(Standard(), Training(batch=250, epochs=10)),
        train=Training(batch=250, epochs=20),
        evaluation=Evaluation(PGD(Linf(0.3), step=0.01, steps=40), min_attack_success=LOST),
        arms=beside_clean_data(Arm("standard"), *trained, reveal),
    )
