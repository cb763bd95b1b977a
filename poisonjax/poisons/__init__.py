"""Training-time attacks: which rows change, how, and the trigger that exploits it at test time."""

from poisonjax.poisons.adaptive import AdaptiveBlend, AdaptivePatch, AdaptivePoison
from poisonjax.poisons.adversarial_poison import AdversarialPoison
from poisonjax.poisons.aim import BACKDOOR, LOW_ACCURACY, Aim
from poisonjax.poisons.apply import choose, choose_cover, count, poisoned
from poisonjax.poisons.availability import AvailabilityPoison
from poisonjax.poisons.badnets import BadNets
from poisonjax.poisons.base import Poison, SurrogatePoison, Wrapped
from poisonjax.poisons.blended import Blend, SignPattern
from poisonjax.poisons.class_noise import ClassNoise
from poisonjax.poisons.clean_label import CleanLabel
from poisonjax.poisons.cover import WithCover
from poisonjax.poisons.entangled_features import CentreDistance, EntangledFeatures
from poisonjax.poisons.explanation_guided import (
    CountAbsSHAP,
    CountSHAP,
    ExplanationGuided,
    FeatureSelector,
    LargeAbsSHAP,
    LargeSHAP,
    MinPopulation,
    ValueSelector,
    Watermark,
)
from poisonjax.poisons.explanations import Explanation, IntegratedGradients, TreeSHAP
from poisonjax.poisons.hidden_trigger import HiddenTrigger
from poisonjax.poisons.low_frequency import LowFrequency
from poisonjax.poisons.no_poison import NoPoison
from poisonjax.poisons.noisy_labels import NoisyLabels
from poisonjax.poisons.random_place import RandomPlace
from poisonjax.poisons.sample_specific import SampleSpecific
from poisonjax.poisons.sig import SIG, Sinusoid
from poisonjax.poisons.sleeper_agent import GradientAlignment, SleeperAgent
from poisonjax.poisons.source_class import SourceClassPoison
from poisonjax.poisons.together import Together
from poisonjax.poisons.triggers import BrightSquare, Corners, FourPixels, PatternTrigger, Tile, Trigger
from poisonjax.poisons.wanet import NoisyWarp, Warp

__all__ = [
    "BACKDOOR",
    "LOW_ACCURACY",
    "SIG",
    "AdaptiveBlend",
    "AdaptivePatch",
    "AdaptivePoison",
    "AdversarialPoison",
    "Aim",
    "AvailabilityPoison",
    "BadNets",
    "Blend",
    "BrightSquare",
    "CentreDistance",
    "ClassNoise",
    "CleanLabel",
    "Corners",
    "CountAbsSHAP",
    "CountSHAP",
    "EntangledFeatures",
    "Explanation",
    "ExplanationGuided",
    "FeatureSelector",
    "FourPixels",
    "GradientAlignment",
    "HiddenTrigger",
    "IntegratedGradients",
    "LargeAbsSHAP",
    "LargeSHAP",
    "LowFrequency",
    "MinPopulation",
    "NoPoison",
    "NoisyLabels",
    "NoisyWarp",
    "PatternTrigger",
    "Poison",
    "RandomPlace",
    "SampleSpecific",
    "SignPattern",
    "Sinusoid",
    "SleeperAgent",
    "SourceClassPoison",
    "SurrogatePoison",
    "Tile",
    "Together",
    "TreeSHAP",
    "Trigger",
    "ValueSelector",
    "Warp",
    "Watermark",
    "WithCover",
    "Wrapped",
    "choose",
    "choose_cover",
    "count",
    "poisoned",
]
