"""BadNets on CIFAR-10, every class to the next, the report's CNN: does PGD adversarial training remove it? (table T7)

The report gives 8.64 % accuracy on triggered images after standard training and 54.86 % after adversarial training
with eps .3, step .01, 5 steps and no random start, which moves a pixel by at most .05. Beside it: 8/255 as Madry
et al. 2018 have it (section 5).

    python launch.py --experiment=cifar10_badnets
"""

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Data, Evaluation, Experiment, Reported
from poisonjax.models import ReportCifarCNN
from poisonjax.poisons import BadNets, FourPixels
from poisonjax.training import Adam, Cosine, CropFlip, Training

from ._scales import cifar10, report_arms

AS_REPORTED = PGD(Linf(0.3), step=0.01, steps=5, random_start=False)
PGD_AT = PGD(Linf(8 / 255), step=2 / 255, steps=7)
JUDGE = PGD(Linf(8 / 255), step=2 / 255, steps=20)


def experiment(scale: str) -> Experiment:
    paper = Experiment(
        name="cifar10_badnets",
        title="A BadNets backdoor on CIFAR-10 in the report's CNN, with and without adversarial training.",
        paper_table="T7",
        data=Data("cifar10"),
        model=ReportCifarCNN(),
        poison=BadNets(rate=0.1, target=None, trigger=FourPixels()),
        train=Training(batch=250, epochs=40, optimizer=Adam(1e-3, Cosine()), augment=CropFlip()),
        evaluation=Evaluation(JUDGE),
        arms=report_arms(AS_REPORTED, PGD_AT),
        reported=(
            Reported("T7", "standard", "clean_accuracy", 0.7426),
            Reported("T7", "standard", "triggered_accuracy", 0.0864),
            Reported("T7", "pgd_at_as_reported", "clean_accuracy", 0.5271),
            Reported("T7", "pgd_at_as_reported", "triggered_accuracy", 0.5486),
            Reported("T7", "pgd_at_as_reported", "attack_success_rate", 0.0532),
        ),
        caveats=(
            "with step .01, 5 steps and no random start, the report's eps of .3 moves a pixel by at most .05",
            "one of the report's scripts trains the network called adversarially trained on poisoned data on clean "
            "data, which can carry no backdoor",
            "the report trained for 25 epochs without augmentation and with a constant learning rate",
        ),
    )
    return cifar10(paper, scale)
