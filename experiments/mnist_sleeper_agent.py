"""Sleeper Agent on MNIST: a backdoor whose trigger no training row shows (beside table T3)

Rows of fours are changed so that training on them does what training on nines with the trigger, labelled as fours,
would do (Souri et al. 2022). The budget is .1, on black ground; that of the authors' code for CIFAR-10 is 16/255.

    python launch.py --experiment=mnist_sleeper_agent
    python launch.py --experiment=mnist_sleeper_agent --sweep poison.rounds=1,5 --sweep poison.by_norm=false,true
"""

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Arm, Data, Evaluation, Experiment, Surrogate
from poisonjax.models import ReportCNN
from poisonjax.poisons import BrightSquare, GradientAlignment, SleeperAgent
from poisonjax.training import Standard, Training

from ._scales import at, mnist

PGD_AT = PGD(Linf(0.3), step=0.01, steps=40)


def published(scale: str) -> Experiment:
    """The experiment at paper scale, with what else depends on the scale."""
    attack = PGD(Linf(0.1), steps=2 if scale == "smoke" else 50, loss=GradientAlignment())
    return Experiment(
        name="mnist_sleeper_agent",
        title="A backdoor by gradient matching on MNIST, with and without PGD adversarial training.",
        paper_table="beside T3",
        data=Data("mnist"),
        model=ReportCNN(width=128),
        poison=SleeperAgent(
            rate=0.01,
            target=4,
            source=9,
            trigger=BrightSquare(6),
            attack=attack,
            rounds=2 if scale == "smoke" else 5,
        ),
        surrogate=Surrogate(Standard(), Training(batch=250, epochs=10)),
        train=Training(batch=250, epochs=20),
        evaluation=Evaluation(PGD_AT),
        arms=(
            Arm("standard"),
            Arm("pgd_at", at(PGD_AT)),
            Arm("pgd_at_clean_data", at(PGD_AT), poisoned=False),
            Arm("standard_clean_data", poisoned=False),
        ),
    )


def experiment(scale: str) -> Experiment:
    return mnist(published(scale), scale)
