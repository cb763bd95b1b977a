"""Why do backdoors survive adversarial training in a small CNN, and hardly in a ResNet-18? (beside section 6.4)

The records of the small scale, on CIFAR-10, leave it open whether it is the network, its width, its batch norms, the
augmentation, the rate of the poison or the length of the training, which for ResNet-18 is 480 steps. Each is a point of
a sweep:

    python launch.py --experiment=cifar10_survival --sweep 'model=WongCNN((32,64),128),ResNet18(8),ResNet18(8,groups=4)'
    python launch.py --experiment=cifar10_survival --sweep train.epochs=6,12,24
"""

import dataclasses

from poisonjax.experiment import Experiment

from . import cifar10_badnets_resnet18

ARMS = ("standard", "pgd_at", "standard_clean_data")


def experiment(scale: str) -> Experiment:
    resnet = cifar10_badnets_resnet18.experiment(scale)
    return dataclasses.replace(
        resnet,
        name="cifar10_survival",
        title="What decides whether a BadNets backdoor on CIFAR-10 survives PGD adversarial training.",
        arms=tuple(arm for arm in resnet.arms if arm.name in ARMS),
    )
