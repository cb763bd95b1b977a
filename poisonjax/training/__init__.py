"""Training: a state, an objective, a step, and the loop around them."""

from poisonjax.training.augment import CropFlip
from poisonjax.training.fit import Fitted, Interrupted, fit, restored
from poisonjax.training.objectives import Madry, Standard
from poisonjax.training.optimizers import SGD, Adam, Constant, Cosine, Cyclic
from poisonjax.training.settings import Training
from poisonjax.training.state import TrainState, eval_logits, initial_state
from poisonjax.training.step import make_train_step

__all__ = [
    "SGD",
    "Adam",
    "Constant",
    "Cosine",
    "CropFlip",
    "Cyclic",
    "Fitted",
    "Interrupted",
    "Madry",
    "Standard",
    "TrainState",
    "Training",
    "eval_logits",
    "fit",
    "initial_state",
    "make_train_step",
    "restored",
]
