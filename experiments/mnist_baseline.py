"""Clean MNIST: how accurate and how robust is a network, with and without PGD adversarial training? (table T1)

The report gives 98.8 % natural and 93.2 % PGD accuracy, which are those of Madry et al. 2018 (table 1), for their
network. Published setting: 60,000 images, PGD with eps .3, step .01, 40 steps.

    python launch.py --experiment=mnist_baseline
"""

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Arm, Data, Evaluation, Experiment, Reported
from poisonjax.models import MadryCNN
from poisonjax.poisons import NoPoison
from poisonjax.training import TRADES, Adam, Cosine, FreeAdversarialTraining, Training, fgsm_at

from ._scales import WARMUP, at, mnist

AS_REPORTED = PGD(Linf(0.3), step=0.01, steps=40, random_start=False)
PGD_AT = PGD(Linf(0.3), step=0.01, steps=40)


def experiment(scale: str) -> Experiment:
    paper = Experiment(
        name="mnist_baseline",
        title="MNIST without any poison, with and without PGD adversarial training.",
        paper_table="T1",
        data=Data("mnist"),
        model=MadryCNN(),
        poison=NoPoison(),
        train=Training(batch=250, epochs=20, optimizer=Adam(1e-3, Cosine())),
        evaluation=Evaluation(PGD_AT),
        arms=(
            Arm("standard"),
            Arm("pgd_at_as_reported", at(AS_REPORTED)),
            Arm("pgd_at", at(PGD_AT)),
            Arm("trades", TRADES(PGD_AT, beta=1.0, eps_warmup=WARMUP)),
            Arm("fast_at", fgsm_at(PGD_AT.ball, eps_warmup=WARMUP)),
            Arm("fgsm_at", fgsm_at(PGD_AT.ball, random_start=False, eps_warmup=WARMUP)),
            Arm("free_at", FreeAdversarialTraining(PGD_AT.ball, replays=4, eps_warmup=WARMUP)),
        ),
        reported=(
            Reported("T1", "pgd_at_as_reported", "clean_accuracy", 0.988),
            Reported("T1", "pgd_at_as_reported", "robust_accuracy", 0.932),
        ),
        caveats=("the report gives the numbers of Madry et al. 2018, whose PGD starts at random in the ball",),
    )
    return mnist(paper, scale)
