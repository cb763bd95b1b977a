"""The defences against one backdoor on CIFAR-10: what each removes, and what it costs (beside table T7)

BadNets to one class, with rows that the defender trusts kept apart, as in mnist_defences. The adversarially trained
network of 8/255 is also the judge of those filters that look at one.

    python launch.py --experiment=cifar10_defences
"""

import dataclasses

from poisonjax.experiment import Experiment

from . import cifar10_badnets, mnist_defences
from ._scales import at, cifar10

DEFENCES = (
    "spectral_signatures",
    "spectral_signatures_of_pgd_at",
    "activation_clustering",
    "activation_clustering_of_pgd_at",
    "reveal",
    "masked_disagreement",
    "reveal_or_masked",
    "abl",
    "fine_pruning",
    "neural_cleanse",
    "strip",
    "patch_cleanser",
    "dpa",
)


def experiment(scale: str) -> Experiment:
    pgd_at = at(cifar10_badnets.PGD_AT)
    every = mnist_defences.filters(pgd_at, (pgd_at,)) | mnist_defences.shields(scale == "smoke")
    plan = dataclasses.replace(
        cifar10(cifar10_badnets.experiment("paper"), scale, rows=10_000),
        name="cifar10_defences",
        title="Defences against a BadNets backdoor on CIFAR-10, some of which have clean rows to work with.",
        paper_table="beside T7",
        reported=(),
        caveats=(),
    )
    return mnist_defences.against_one_backdoor(plan, pgd_at, {name: every[name] for name in DEFENCES}, scale)
