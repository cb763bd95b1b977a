"""An experiment at three sizes: the published one, one of minutes on a laptop, one of seconds for tests."""

import dataclasses

from poisonjax.attacks import PGD
from poisonjax.data.subsets import All, Stratified, Unbalanced
from poisonjax.experiment import Arm, Data, Experiment, Model
from poisonjax.models import WongCNN
from poisonjax.poisons import BadNets
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


def cifar10(
    paper: Experiment, scale: str, small: Model | None = None, smoke: Model | None = None, rows: int = 20_000
) -> Experiment:
    """paper: as it is. small: a subset of the prepared data set, and a network that a laptop can train. smoke: tiny.

    small, smoke: the networks, those of `mnist` if not given. rows: of the training data at small scale.
    """
    if scale == "paper":
        return paper
    if scale == "small":
        model = small or WongCNN(filters=(32, 64), hidden=128)
        data = Data("cifar10", Stratified(rows), Stratified(1000))
        plan = dataclasses.replace(paper, data=data, model=model, poison=_to_one_class(paper.poison))
        plan = _unaugmented(plan)
        return _trained(plan, Training(paper.train.attack, batch=100, epochs=6, optimizer=Adam(2e-3, Cosine())))
    data = Data("cifar10", Stratified(100), Stratified(50))
    return _smoke(paper, data, smoke or WongCNN(filters=(4, 8), hidden=16))


def _to_one_class(poison):
    """All-to-all success is at most the clean accuracy, of which a small network has too little to judge by it."""
    return dataclasses.replace(poison, target=0) if isinstance(poison, BadNets) and poison.target is None else poison


def _unaugmented(plan: Experiment) -> Experiment:
    """Without crops and flips, which so short a training does not learn a trigger through."""
    surrogate = plan.surrogate and dataclasses.replace(plan.surrogate, augment=None)
    return dataclasses.replace(plan, train=dataclasses.replace(plan.train, augment=None), surrogate=surrogate)


def _trained(plan: Experiment, settings: Training) -> Experiment:
    """With the length, batch and optimiser of the settings in all arms; the surrogate is trained half as long."""

    def like(old: Training, epochs: int) -> Training:
        return dataclasses.replace(old, batch=settings.batch, epochs=epochs, optimizer=settings.optimizer)

    surrogate = plan.surrogate and like(plan.surrogate, max(1, settings.epochs // 2))
    arms = tuple(dataclasses.replace(arm, optimizer=None) for arm in plan.arms)
    return dataclasses.replace(plan, train=like(plan.train, settings.epochs), surrogate=surrogate, arms=arms)


def _smoke(paper: Experiment, data: Data, model: Model) -> Experiment:
    """Every attack in two steps."""

    def quick(part):
        return part and dataclasses.replace(part, attack=_brief(part.attack))

    plan = dataclasses.replace(
        paper, data=data, model=model, train=quick(paper.train), surrogate=quick(paper.surrogate)
    )
    plan = _trained(plan, Training(plan.train.attack, batch=64, epochs=2, optimizer=Adam(3e-3)))
    evaluation = dataclasses.replace(quick(paper.evaluation), batch=64)
    return dataclasses.replace(plan, evaluation=evaluation, arms=tuple(map(_brief_arm, plan.arms)))


def _brief(attack: PGD) -> PGD:
    return dataclasses.replace(attack, steps=2, step=attack.ball.eps * 2 / 3)


def _brief_arm(arm: Arm) -> Arm:
    return dataclasses.replace(arm, attack=arm.attack and _brief(arm.attack))
