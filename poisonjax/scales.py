"""An experiment at three sizes: the published one, one of minutes on a laptop, one of seconds for tests."""

import dataclasses

from poisonjax.data.subsets import Stratified
from poisonjax.experiment import Data, Experiment
from poisonjax.models import WongCNN
from poisonjax.training import Adam, Cosine


def mnist(paper: Experiment, scale: str) -> Experiment:
    """paper: as it is. small: the 5,000 images of mnist_5k and a small network. smoke: a few hundred of them."""
    return {"paper": lambda: paper, "small": lambda: _small(paper), "smoke": lambda: _smoke(paper)}[scale]()


def _small(paper: Experiment) -> Experiment:
    train = dataclasses.replace(paper.train, batch=100, epochs=16, optimizer=Adam(4e-3, Cosine()))
    proxy = paper.proxy and dataclasses.replace(paper.proxy, batch=100, epochs=8, optimizer=Adam(4e-3, Cosine()))
    return dataclasses.replace(paper, data=Data("mnist_5k"), model=WongCNN(), train=train, proxy=proxy)


def _smoke(paper: Experiment) -> Experiment:
    def quick(settings):
        attack = dataclasses.replace(settings.attack, steps=2, step=0.2)
        return dataclasses.replace(settings, batch=64, epochs=2, optimizer=Adam(3e-3), attack=attack)

    small = _small(paper)
    evaluation = dataclasses.replace(
        paper.evaluation, attack=dataclasses.replace(paper.evaluation.attack, steps=2, step=0.2), batch=64
    )
    return dataclasses.replace(
        small,
        data=Data("mnist_5k", Stratified(300), Stratified(100)),
        model=WongCNN(filters=(4, 8), hidden=16),
        train=quick(small.train),
        proxy=small.proxy and quick(small.proxy),
        evaluation=evaluation,
    )
