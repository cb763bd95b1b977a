"""Clean CIFAR-10: how accurate and how robust are ResNet-18 and the report's CNN? (table T2)

The report gives 92.7 % natural and 79.4 % PGD accuracy. Published setting: 50,000 images, PGD with 8/255.

    python launch.py --experiment=cifar10_baseline
"""

import dataclasses

from poisonjax.experiment import Arm, Experiment, Reported
from poisonjax.models import ReportCifarCNN, ResNet18, WongCNN
from poisonjax.poisons import NoPoison
from poisonjax.training import Adam, Cosine

from . import cifar10_badnets, cifar10_badnets_resnet18
from ._scales import at, cifar10

CNN = {
    "paper": ReportCifarCNN(),
    "full": ReportCifarCNN(),
    "small": WongCNN((32, 64), 128),
    "smoke": WongCNN((4, 8), 16),
}


def experiment(scale: str) -> Experiment:
    madry, cnn = cifar10_badnets.PGD_AT, {"model": CNN[scale], "optimizer": Adam(1e-3, Cosine())}
    paper = dataclasses.replace(
        cifar10_badnets_resnet18.experiment("paper"),
        name="cifar10_baseline",
        title="CIFAR-10 without any poison, with and without PGD adversarial training.",
        paper_table="T2",
        poison=NoPoison(),
        arms=(
            Arm("standard"),
            Arm("pgd_at_as_reported", at(cifar10_badnets.AS_REPORTED)),
            Arm("pgd_at", at(madry)),
            Arm("standard_report_cnn", **cnn),
            Arm("pgd_at_as_reported_report_cnn", at(cifar10_badnets.AS_REPORTED), **cnn),
            Arm("pgd_at_report_cnn", at(madry), **cnn),
        ),
        reported=(
            Reported("T2", "standard", "clean_accuracy", 0.927),
            Reported(
                "T2",
                "pgd_at_as_reported",
                "robust_accuracy",
                0.794,
                note="79.4 % is the natural accuracy of Madry et al.'s adversarially trained simple network; its PGD "
                "accuracy is 43.7 %",
            ),
        ),
        caveats=(),
    )
    return cifar10(paper, scale, ResNet18(filters=8), rows=8000)
