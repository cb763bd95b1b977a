"""Runs on rows of features: what is made for images is refused in one line, the rest works as on images."""

import dataclasses

import numpy as np
import pytest

from experiments import tabular_explanation_guided as guided
from poisonjax.analyses import AdversarialExample, AttackSuite, CertifiedPatch, GradientBoostedTrees, NamedAttack
from poisonjax.attacks import L0, PGD, AutoAttack, Linf, Square
from poisonjax.cli import main
from poisonjax.defences import (
    MagNet,
    MaskedDisagreement,
    NeuralCleanse,
    PatchCleanser,
    Reveal,
    SpectralSignatures,
    Trapdoors,
    Union,
)
from poisonjax.experiment import Arm
from poisonjax.models import WongCNN
from poisonjax.poisons import SIG, BadNets, NoPoison, Watermark
from poisonjax.runs import runner, training
from poisonjax.runs.job import Run
from poisonjax.training import CropFlip, Standard, Training
from poisonjax.types import Examples, take

SHAPE = (23,)


def plan(**changes):
    return dataclasses.replace(guided.experiment("smoke"), **changes)


def defended(defence):
    return plan(
        arms=(Arm("standard"), Arm("tried", defence=defence)), data=dataclasses.replace(plan().data, clean=None)
    )


def judged(autoattack):
    return plan(evaluation=dataclasses.replace(plan().evaluation, autoattack=autoattack))


REFUSED = {
    "network": (lambda: plan(model=WongCNN(classes=2)), "WongCNN cannot take them: phishing has rows of 23 features"),
    "autoattack": (lambda: judged(AutoAttack(Linf(0.1))), "evaluation.autoattack: AutoAttack is made for images"),
    "trigger": (lambda: plan(poison=BadNets(target=0, classes=2)), "poison.trigger: FourPixels is made for images"),
    "sinusoid": (lambda: plan(poison=SIG(classes=2)), "poison.trigger: Sinusoid is made for images"),
    "augmentation": (lambda: plan(train=Training(augment=CropFlip())), "train.augment: CropFlip is made for images"),
    "attack": (
        lambda: plan(analyses=(AttackSuite((NamedAttack("square", Square(Linf(0.1))),)),)),
        "analyses.attack_suite.attacks.square.attack: Square is made for images",
    ),
    "certificate": (lambda: plan(analyses=(CertifiedPatch(5),)), "CertifiedPatch is made for images"),
    "pictures": (lambda: plan(analyses=(AdversarialExample(),)), "AdversarialExample is made for images"),
    "masks": (lambda: defended(MaskedDisagreement()), "arms.tried.defence: MaskedDisagreement is made for images"),
    "patches": (lambda: defended(PatchCleanser(5)), "arms.tried.defence: PatchCleanser is made for images"),
    "trapdoors": (lambda: defended(Trapdoors()), "arms.tried.defence: Trapdoors is made for images"),
    "one of two": (
        lambda: defended(Union((SpectralSignatures(), MaskedDisagreement()))),
        "arms.tried.defence.filters.1: MaskedDisagreement is made for images",
    ),
    "too many features": (
        lambda: plan(poison=dataclasses.replace(plan().poison, changeable=(), size=24)),
        "must fit rows",
    ),
    "large ball": (
        lambda: plan(arms=(Arm("standard", guided.at(PGD(L0(24), step=1.0))),)),
        "ball.eps must be at most 23",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_made_for_images_is_refused_in_one_line(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        make().check(2, SHAPE, 600)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_defences_of_pixels_say_so():
    """Those that need clean data are refused before, where there is none."""
    assert all(kind.needs_images for kind in (MagNet, NeuralCleanse, Trapdoors, PatchCleanser, MaskedDisagreement))
    assert not any(getattr(kind, "needs_images", False) for kind in (Reveal, SpectralSignatures, Union))


def test_the_command_line_refuses_with_status_two(tmp_path, capsys):
    words = ["run", "--experiment=tabular_explanation_guided", "--scale=smoke", f"--workdir={tmp_path / 'w'}"]
    assert main([*words, "--set=poison=SIG(classes=2)"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "poison.trigger: Sinusoid is made for images, but phishing has rows of 23 features" in line
    pytest.importorskip("lightgbm", reason="the extra poisonjax[tabular] is not installed")
    assert main([*words, "--stream"]) == 2
    assert "no record files to stream from" in capsys.readouterr().err


def test_rows_on_the_host_train_the_same_network_as_rows_in_memory(tmp_path):
    small = plan(
        poison=dataclasses.replace(plan().poison, trigger=Watermark((3, 5), (0, 255))),
        arms=(Arm("standard"),),
        analyses=(),
    )
    dataset = runner.load(small, None)
    whole = guided.Data("phishing").load(None).train

    def read(rows: np.ndarray) -> Examples:
        return take(whole, rows)

    jobs = [Run(small, dataset, tmp_path / name, "smoke", reader=reader) for name, reader in (("a", None), ("b", read))]
    fitted = [training.defended(job, 0, small.arms[0], runner.poison_data(job, 0)) for job in jobs]
    for one, other in zip(*(each.fitted.state.params["Dense_0"].values() for each in fitted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    learnt = [each.learnt() for each in fitted]
    np.testing.assert_array_equal(learnt[0].image, learnt[1].image)
    assert (learnt[0].image != dataset.train.image).any()


def test_trees_learn_from_the_rows_that_a_defence_keeps(tmp_path):
    pytest.importorskip("lightgbm", reason="the extra poisonjax[tabular] is not installed")
    arm = Arm("filtered", Standard(), poisoned=False, defence=SpectralSignatures(0.2))
    small = plan(poison=NoPoison(classes=2), arms=(Arm("standard"), arm), analyses=(GradientBoostedTrees(),))
    job = Run(small, runner.load(small, None), tmp_path, "smoke")
    made = training.defended(job, 0, arm, runner.poison_data(job, 0))
    assert len(made.learnt().label) == 420  # three times a tenth of each class are dropped
