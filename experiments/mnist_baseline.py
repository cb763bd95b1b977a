"""Clean MNIST: how accurate and how robust is a network, with and without PGD adversarial training? (table T1)

The report prints 98.8 % natural and 93.2 % PGD accuracy, which are those of Madry et al. 2018 (table 1), for their
network. Published setting: 60,000 images, PGD with eps .3, step .01, 40 steps.

    python launch.py --experiment=mnist_baseline
"""

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Arm, Data, Evaluation, Experiment, Reported
from poisonjax.models import MadryCNN
from poisonjax.poisons import NoPoison
from poisonjax.training import Adam, Cosine, Training

from ._scales import mnist

AS_REPORTED = PGD(Linf(0.3), step=0.01, steps=40, random_start=False)
MADRY = PGD(Linf(0.3), step=0.01, steps=40)


def experiment(scale: str) -> Experiment:
    paper = Experiment(
        name="mnist_baseline",
        title="MNIST without any poison, with and without PGD adversarial training.",
        paper_table="T1",
        data=Data("mnist"),
        model=MadryCNN(),
        poison=NoPoison(),
        train=Training(AS_REPORTED, batch=250, epochs=20, warmup=0.3, optimizer=Adam(1e-3, Cosine())),
        evaluation=Evaluation(MADRY),
        arms=(Arm("standard"), Arm("pgd_at", True), Arm("pgd_at_madry", True, attack=MADRY)),
        reported=(
            Reported("T1", "pgd_at", "clean_accuracy", 0.988),
            Reported("T1", "pgd_at", "robust_accuracy", 0.932),
        ),
        known=("the report prints the numbers of Madry et al. 2018, whose PGD starts at random in the ball",),
    )
    return mnist(paper, scale)
