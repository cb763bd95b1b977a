"""Training-time attacks: which rows change, how, and the trigger that exploits it at test time."""

from poisonjax.poisons.apply import choose, count, poisoned
from poisonjax.poisons.badnets import BadNets
from poisonjax.poisons.base import Poison, SurrogatePoison
from poisonjax.poisons.blended import Blend, SignPattern
from poisonjax.poisons.clean_label import CleanLabel
from poisonjax.poisons.no_poison import NoPoison
from poisonjax.poisons.sig import SIG, Sinusoid
from poisonjax.poisons.triggers import BrightSquare, Corners, FourPixels, PatternTrigger, Trigger
from poisonjax.poisons.wanet import Warp

__all__ = [
    "SIG",
    "BadNets",
    "Blend",
    "BrightSquare",
    "CleanLabel",
    "Corners",
    "FourPixels",
    "NoPoison",
    "PatternTrigger",
    "Poison",
    "SignPattern",
    "Sinusoid",
    "SurrogatePoison",
    "Trigger",
    "Warp",
    "choose",
    "count",
    "poisoned",
]
