"""Do triggered MNIST images look different inside the networks? (figure 5)

The report shows a t-SNE of some 50 clean and 50 poisoned images of class 8 in the layer before the last. Here with
numbers: how well a linear probe tells them apart, silhouette and MMD with a permutation test, epoch by epoch.

    python launch.py --experiment=mnist_activations
"""

import dataclasses

from poisonjax.analyses.activations import Activations
from poisonjax.experiment import Experiment

from . import mnist_clean_label
from ._scales import mnist


def experiment(scale: str) -> Experiment:
    paper = dataclasses.replace(
        mnist_clean_label.experiment("paper"),
        name="mnist_activations",
        title="Activations of clean and triggered MNIST images in networks with a clean-label backdoor.",
        paper_table="figure 5",
        reported=(),
        caveats=(),
        arms=mnist_clean_label.arms("small"),
        analyses=(Activations(),),
    )
    if scale == "smoke":
        paper = dataclasses.replace(
            paper, analyses=(Activations(per_class=10, perplexity=5, permutations=20, folds=2),)
        )
    return mnist(paper, scale)
