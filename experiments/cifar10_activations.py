"""Do triggered CIFAR-10 images look different inside the networks? (figure 5)

As mnist_activations, with the BadNets of cifar10_badnets.

    python launch.py --experiment=cifar10_activations
"""

import dataclasses

from poisonjax.analyses.activations import Activations
from poisonjax.experiment import Experiment

from . import cifar10_badnets
from ._scales import cifar10


def experiment(scale: str) -> Experiment:
    paper = dataclasses.replace(
        cifar10_badnets.experiment("paper"),
        name="cifar10_activations",
        title="Activations of clean and triggered CIFAR-10 images in networks with a BadNets backdoor.",
        paper_table="figure 5",
        reported=(),
        caveats=(),
        analyses=(Activations(),),
    )
    if scale == "smoke":
        paper = dataclasses.replace(paper, analyses=(Activations(per_class=5, perplexity=4, permutations=20, folds=2),))
    return cifar10(paper, scale)
