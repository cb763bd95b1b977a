"""An experiment at three sizes: the published one, one of minutes on a laptop, one of seconds for tests."""

import dataclasses

from poisonjax.attacks import PGD
from poisonjax.data.subsets import All, Stratified, Unbalanced
from poisonjax.experiment import Arm, Data, Experiment, Model
from poisonjax.models import WongCNN
from poisonjax.training import Adam, Cosine, Training

Subset = All | Stratified | Unbalanced


def mnist(paper: Experiment, scale: str, small: Subset = All(), smoke: Subset = Stratified(300)) -> Experiment:
    """paper: as it is. small: those of the 5,000 images of mnist_5k, and a small network. smoke: a few hundred."""
    if scale == "paper":
        return paper
    if scale == "small":
        plan = dataclasses.replace(paper, data=Data("mnist_5k", small), model=WongCNN())
        return _trained(plan, Training(paper.train.attack, batch=100, epochs=16, optimizer=Adam(4e-3, Cosine())))
    return _smoke(paper, Data("mnist_5k", smoke, Stratified(100)), WongCNN(filters=(4, 8), hidden=16))


def _trained(plan: Experiment, settings: Training) -> Experiment:
    """With the length, batch and optimiser of the settings; the attacker's proxy is trained half as long."""

    def like(old: Training, epochs: int) -> Training:
        return dataclasses.replace(old, batch=settings.batch, epochs=epochs, optimizer=settings.optimizer)

    proxy = plan.proxy and like(plan.proxy, max(1, settings.epochs // 2))
    return dataclasses.replace(plan, train=like(plan.train, settings.epochs), proxy=proxy)


def _smoke(paper: Experiment, data: Data, model: Model) -> Experiment:
    """Every attack in two steps."""

    def quick(part):
        return part and dataclasses.replace(part, attack=_brief(part.attack))

    plan = dataclasses.replace(paper, data=data, model=model, train=quick(paper.train), proxy=quick(paper.proxy))
    plan = _trained(plan, Training(plan.train.attack, batch=64, epochs=2, optimizer=Adam(3e-3)))
    evaluation = dataclasses.replace(quick(paper.evaluation), batch=64)
    return dataclasses.replace(plan, evaluation=evaluation, arms=tuple(map(_brief_arm, paper.arms)))


def _brief(attack: PGD) -> PGD:
    return dataclasses.replace(attack, steps=2, step=attack.ball.eps * 2 / 3)


def _brief_arm(arm: Arm) -> Arm:
    return dataclasses.replace(arm, attack=arm.attack and _brief(arm.attack))
