"""What the experiments share: their arms, and their scales (see `poisonjax.scales`)."""

import dataclasses

from poisonjax.attacks import PGD, AutoAttack, Linf, LossAttack
from poisonjax.data.subsets import All, Stratified, Subset
from poisonjax.defences import MaskedDisagreement, Reveal, Union
from poisonjax.experiment import Arm, Data, Experiment
from poisonjax.models import WongCNN
from poisonjax.models.network import Network
from poisonjax.training import Adam, AdversarialTraining, Cosine, Training

WARMUP = 0.3  # of the training: without it adversarial training of a small network collapses to one class


def at(attack: LossAttack) -> AdversarialTraining:
    """Adversarial training as all experiments have it."""
    return AdversarialTraining(attack, eps_warmup=WARMUP)


def report_arms(as_reported: LossAttack, pgd: LossAttack) -> tuple[Arm, ...]:
    """Standard training, the report's adversarial training, that of Madry et al. 2018, and two controls.

    as_reported: the attack with the report's settings. pgd: the attack as Madry et al. mean it.
    """
    return (
        Arm("standard"),
        Arm("pgd_at_as_reported", at(as_reported)),
        Arm("pgd_at", at(pgd)),
        Arm("pgd_at_as_reported_clean_data", at(as_reported), poisoned=False),
        Arm("standard_clean_data", poisoned=False),
    )


def judges(scale: str) -> tuple[AdversarialTraining, ...]:
    """The trainings by which poisoned rows of MNIST are revealed: at three budgets, or a single one at smoke scale."""
    if scale == "smoke":
        return (at(PGD(Linf(0.3), step=0.2, steps=2)),)
    return tuple(at(PGD(Linf(eps), step=eps / 15, steps=20)) for eps in (0.1, 0.2, 0.3))


def reveal_or_masked(scale: str) -> Union:
    """The defence of this project: drop the rows that are revealed, and those of another class behind a mask."""
    masked = MaskedDisagreement(rounds=1 if scale == "smoke" else 3)
    return Union((Reveal(judges(scale), epochs=3 if scale in ("full", "paper") else None), masked))


def defended_arms(pgd: LossAttack, scale: str) -> tuple[Arm, ...]:
    """The arm that shows what a defence leaves of the report's poisons, where all of MNIST is trained on."""
    if scale not in ("full", "paper"):  # which would no longer take five minutes
        return ()
    return (Arm("reveal_or_masked_pgd_at", at(pgd), defence=reveal_or_masked(scale)),)


def beside_clean_data(*arms: Arm) -> tuple[Arm, ...]:
    """The arms, and each of them on clean data: poisons that lower the accuracy are judged by it."""
    return (*arms, *(dataclasses.replace(arm, name=f"{arm.name}_clean_data", poisoned=False) for arm in arms))


def arms_by_size(networks: dict[str, Network], attack: LossAttack) -> tuple[Arm, ...]:
    """Networks {size: network}, each trained in the standard way and adversarially."""
    standard = [Arm(f"standard_{size}", model=model) for size, model in networks.items()]
    adversarial = [Arm(f"pgd_at_{size}", at(attack), model=model) for size, model in networks.items()]
    return (*standard, *adversarial)


def mnist(paper: Experiment, scale: str, small: Subset = All(), smoke: Subset = Stratified(300)) -> Experiment:
    """The experiment at a scale: paper, or with a small network on all its data (full), mnist_5k (small) or less.

    small, smoke: the rows of mnist_5k that are trained on.
    """
    if scale == "paper":
        return _judged(paper, 500)
    if scale == "full":
        plan = dataclasses.replace(paper, model=WongCNN())
        return _judged(_trained(plan, Training(batch=100, epochs=10, optimizer=Adam(4e-3, Cosine()))), 500)
    if scale == "small":
        plan = dataclasses.replace(paper, data=Data("mnist_5k", small), model=WongCNN())
        return _judged(_trained(plan, Training(batch=100, epochs=16, optimizer=Adam(4e-3, Cosine()))), 200, 5)
    return _smoke(paper, Data("mnist_5k", smoke, Stratified(100)), WongCNN(filters=(4, 8), hidden=16))


def cifar10(
    paper: Experiment, scale: str, small: Network | None = None, smoke: Network | None = None, rows: int = 20_000
) -> Experiment:
    """The experiment at a scale: paper, shorter on all its data (full), on a subset (small), or on a thousand images.

    small: the network of the full and small scales; None for the experiment's own (full) and WongCNN (small). smoke:
    that of the smoke scale, WongCNN if not given. rows: of the training data at small scale.
    """
    if scale == "paper":
        return _judged(paper, 500)
    if scale == "full":
        plan = dataclasses.replace(paper, model=small or paper.model)
        return _judged(_trained(plan, Training(batch=100, epochs=12, optimizer=Adam(1e-3, Cosine()))), 500)
    if scale == "small":
        model = small or WongCNN(filters=(32, 64), hidden=128)
        data = Data("cifar10", Stratified(rows), Stratified(1000))
        # All-to-all success is at most the clean accuracy, of which a small network has too little to judge by it.
        plan = dataclasses.replace(paper, data=data, model=model, poison=paper.poison.to_one_class())
        plan = _trained(_unaugmented(plan), Training(batch=100, epochs=6, optimizer=Adam(2e-3, Cosine())))
        return _judged(plan, 200, 5)
    data = Data("cifar10", Stratified(100), Stratified(50))
    return _smoke(paper, data, smoke or WongCNN(filters=(4, 8), hidden=16))


def shortened(attack: PGD, scale: str) -> PGD:
    """The attack that crafts a poison at a scale: below paper, a single run of fewer steps."""
    if scale == "paper":
        return attack
    return dataclasses.replace(attack, steps={"full": 100, "small": 40}.get(scale, 2), restarts=1)


def _judged(plan: Experiment, images: int, share: int = 1) -> Experiment:
    """With AutoAttack on so many images, of a share of its budget, in the ball of the evaluation's attack."""
    autoattack = AutoAttack(plan.evaluation.attack.ball, steps=100 // share, queries=5000 // share)
    evaluation = dataclasses.replace(plan.evaluation, autoattack=autoattack, autoattack_images=images)
    return dataclasses.replace(plan, evaluation=evaluation)


def _unaugmented(plan: Experiment) -> Experiment:
    """Without crops and flips, which so short a training does not learn a trigger through."""
    train = dataclasses.replace(plan.train, augment=None)
    attacker = plan.surrogate
    if attacker is not None:
        attacker = dataclasses.replace(attacker, train=dataclasses.replace(attacker.train, augment=None))
    return dataclasses.replace(plan, train=train, surrogate=attacker)


def _trained(plan: Experiment, settings: Training) -> Experiment:
    """With the length, batch and optimiser of the settings in all arms; the surrogate is trained half as long."""

    def like(old: Training, epochs: int) -> Training:
        return dataclasses.replace(old, batch=settings.batch, epochs=epochs, optimizer=settings.optimizer)

    attacker = plan.surrogate
    if attacker is not None:
        attacker = dataclasses.replace(attacker, train=like(attacker.train, max(1, settings.epochs // 2)))
    arms = tuple(dataclasses.replace(arm, optimizer=None) for arm in plan.arms)
    return dataclasses.replace(plan, train=like(plan.train, settings.epochs), surrogate=attacker, arms=arms)


def _smoke(paper: Experiment, data: Data, model: Network) -> Experiment:
    """Every attack in two steps at most."""
    plan = dataclasses.replace(paper, data=data, model=model)
    plan = _trained(plan, Training(batch=64, epochs=2, optimizer=Adam(3e-3)))
    evaluation = dataclasses.replace(plan.evaluation, attack=_brief(plan.evaluation.attack), autoattack=None, batch=64)
    attacker = plan.surrogate and _briefly(plan.surrogate)
    arms = tuple(map(_briefly, plan.arms))
    return dataclasses.replace(plan, evaluation=evaluation, surrogate=attacker, arms=arms)


def _brief(attack: PGD) -> PGD:
    return attack if attack.steps == 1 else dataclasses.replace(attack, steps=2, step=attack.ball.eps * 2 / 3)


def _briefly(part):
    """An arm or a surrogate, whose objective's attack, if it has one, is brief."""
    if part.objective.attack is None:
        return part
    return dataclasses.replace(
        part, objective=dataclasses.replace(part.objective, attack=_brief(part.objective.attack))
    )
