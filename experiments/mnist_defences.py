"""Every defence against one backdoor: what it removes, what it costs, and how well it tells poisoned rows (beside T6)

BadNets to one class on MNIST, with rows that the defender trusts kept apart. Sweep the poison for a table of poisons
against defences; with `NoPoison()` it shows what each defence costs where there is nothing to find.

    python launch.py --experiment=mnist_defences
    python launch.py --experiment=mnist_defences --sweep 'poison=BadNets(.04,0),BadNets(.1),SIG(.5),NoPoison()'
"""

import dataclasses

from poisonjax.analyses import CertifiedPatch, CertifiedRows, InformedAttack
from poisonjax.data.subsets import Stratified
from poisonjax.defences import (
    ABL,
    DPA,
    STRIP,
    ActivationClustering,
    Defence,
    Distillation,
    FinePruning,
    MagNet,
    MaskedDisagreement,
    NeuralCleanse,
    PatchCleanser,
    ReconstructionError,
    RepeatedPatch,
    Reveal,
    SpectralSignatures,
    Trapdoors,
    TriggerInversion,
    Union,
)
from poisonjax.experiment import Arm, Experiment
from poisonjax.models.autoencoders import DenoisingAutoencoder
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.training import Adam, Objective, Training

from . import mnist_badnets, mnist_removes_or_reveals
from ._scales import at, judges

RATE = 0.04  # of all rows, so that 29 % of the target class are poisoned: of two halves no filter knows the clean one
FALSE_POSITIVES = 0.01  # of each detector
SMOKE = ("activation_clustering", "abl", "strip", "patch_cleanser", "dpa")  # one defence for each hook, to save time


def filters(pgd_at: Objective, judges: tuple[Objective, ...]) -> dict[str, Defence]:
    """Filters of training rows by name; those that look at features also in an adversarially trained network."""
    reveal, masked = Reveal(judges), MaskedDisagreement()
    return {
        "spectral_signatures": SpectralSignatures(expected=1 / 3),
        "spectral_signatures_of_pgd_at": SpectralSignatures(expected=1 / 3, judge=pgd_at),
        "activation_clustering": ActivationClustering(),
        "activation_clustering_of_pgd_at": ActivationClustering(judge=pgd_at),
        "reveal": reveal,
        "masked_disagreement": masked,
        "reveal_or_masked": Union((reveal, masked)),
        "repeated_patch": RepeatedPatch(),
    }


def shields(smoke: bool) -> dict[str, Defence]:
    """Defences of the trained network by name. smoke: as briefly as possible."""
    flat = DenoisingAutoencoder(pooled=False)
    detectors = ReconstructionError(2, rate=FALSE_POSITIVES), ReconstructionError(1, flat, FALSE_POSITIVES)
    steps = TriggerInversion(steps=2, batch=16) if smoke else TriggerInversion()
    autoencoders = Training(batch=25, epochs=1 if smoke else 60, optimizer=Adam(0.01))  # from a few hundred rows
    return {
        "abl": ABL(judge_epochs=2, epochs=2) if smoke else ABL(),
        "fine_pruning": FinePruning(epochs=1 if smoke else 10),
        "neural_cleanse": NeuralCleanse(steps),
        "strip": STRIP(overlays=5 if smoke else 100, rejection=FALSE_POSITIVES),
        "magnet": MagNet(() if smoke else detectors, training=autoencoders),
        "distillation": Distillation(),
        "trapdoors": Trapdoors(),
        "patch_cleanser": PatchCleanser(size=5, masks=2 if smoke else 6),
        "dpa": DPA(2 if smoke else 20),
    }


def against_one_backdoor(plan: Experiment, pgd_at: Objective, defences: dict[str, Defence], scale: str) -> Experiment:
    """The experiment with an arm for each defence, {name: defence}, against BadNets to one class; SMOKE at smoke scale.

    pgd_at: the adversarial training beside them.
    """
    smoke = scale == "smoke"
    if smoke:
        defences = {name: defences[name] for name in SMOKE}
    clean = Stratified(100 if smoke else 500 if scale == "small" else 3000)
    few = 50 if smoke else 200
    looks = CertifiedPatch(5, masks=2 if smoke else 6, images=few), CertifiedRows(), InformedAttack(images=few)
    return dataclasses.replace(
        plan,
        poison=BadNets(rate=RATE, target=0, trigger=BrightSquare(3)),
        data=dataclasses.replace(plan.data, clean=clean),
        arms=(
            Arm("standard"),
            Arm("pgd_at", pgd_at),
            *(Arm(name, defence=defence) for name, defence in defences.items()),
            Arm("standard_clean_data", poisoned=False),
        ),
        analyses=looks,
    )


def experiment(scale: str) -> Experiment:
    pgd_at = at(mnist_badnets.PGD_AT)
    plan = dataclasses.replace(
        mnist_removes_or_reveals.experiment(scale),
        name="mnist_defences",
        title="Defences against a BadNets backdoor on MNIST, some of which have clean rows to work with.",
    )
    return against_one_backdoor(plan, pgd_at, filters(pgd_at, judges(scale)) | shields(scale == "smoke"), scale)
