"""Training: a state, an objective, a step, and the loop around them."""

from poisonjax.training.augment import Augmentation, CropFlip
from poisonjax.training.fit import Fitted, Interrupted, fit, fresh, restored
from poisonjax.training.objectives import (
    TRADES,
    AdversarialTraining,
    FreeAdversarialTraining,
    Losses,
    Objective,
    Standard,
    cross_entropy,
    fgsm_at,
)
from poisonjax.training.optimizers import SGD, Adam, Constant, Cosine, Cyclic, Optimizer, Schedule
from poisonjax.training.settings import Training
from poisonjax.training.state import TrainState, eval_logits, eval_variables, initial_state
from poisonjax.training.step import make_train_step

__all__ = [
    "SGD",
    "TRADES",
    "Adam",
    "AdversarialTraining",
    "Augmentation",
    "Constant",
    "Cosine",
    "CropFlip",
    "Cyclic",
    "Fitted",
    "FreeAdversarialTraining",
    "Interrupted",
    "Losses",
    "Objective",
    "Optimizer",
    "Schedule",
    "Standard",
    "TrainState",
    "Training",
    "cross_entropy",
    "eval_logits",
    "eval_variables",
    "fgsm_at",
    "fit",
    "fresh",
    "initial_state",
    "make_train_step",
    "restored",
]
