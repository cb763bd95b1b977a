"""Training-time attacks: which rows change, how, and the trigger that exploits it at test time."""

from poisonjax.poisons.apply import count, poisoned
from poisonjax.poisons.badnets import BadNets
from poisonjax.poisons.clean_label import CleanLabel, Crafted
from poisonjax.poisons.no_poison import NoPoison
from poisonjax.poisons.triggers import Corners, FourPixels, Square

__all__ = ["BadNets", "CleanLabel", "Corners", "Crafted", "FourPixels", "NoPoison", "Square", "count", "poisoned"]
