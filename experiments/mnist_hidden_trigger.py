"""A hidden trigger on MNIST: rows whose features are those of images with it (beside table T3)

Rows of fours are moved, within a budget, to where a network sees nines with a square at random places (Saha et al.
2020). The budget is .1, on black ground; that of the paper for ImageNet is 16/255. The victim of the paper trains the
last layer of the attacker's network; here it is trained from scratch, from another start.

    python launch.py --experiment=mnist_hidden_trigger
    python launch.py --experiment=mnist_hidden_trigger --sweep poison.rate=.01,.05 --sweep poison.attack.ball.eps=.1,.3
"""

import dataclasses

from poisonjax.attacks import PGD, Linf
from poisonjax.experiment import Experiment
from poisonjax.poisons import BrightSquare, CentreDistance, HiddenTrigger, RandomPlace

from . import mnist_sleeper_agent
from ._scales import mnist


def experiment(scale: str) -> Experiment:
    steps, pairings = (2, 2) if scale == "smoke" else (500, 50)
    paper = dataclasses.replace(
        mnist_sleeper_agent.published(scale),
        name="mnist_hidden_trigger",
        title="A hidden trigger by features on MNIST, with and without PGD adversarial training.",
        poison=HiddenTrigger(
            rate=0.01,
            target=4,
            source=9,
            trigger=RandomPlace(BrightSquare(6)),
            attack=PGD(Linf(0.1), steps=steps, random_start=False, loss=CentreDistance()),
            pairings=pairings,
        ),
    )
    return mnist(paper, scale)
