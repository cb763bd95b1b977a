"""Networks: frozen, hashable modules from images in [0, 1] to logits and features."""

from poisonjax.models.autoencoders import DenoisingAutoencoder
from poisonjax.models.boosted_trees import BoostedTrees
from poisonjax.models.cifar import MobileNet, ReportCifarCNN, ResNet18
from poisonjax.models.mnist import MadryCNN, ReportCNN, WongCNN
from poisonjax.models.network import Network
from poisonjax.models.tabular import TabularMLP

__all__ = [
    "BoostedTrees",
    "DenoisingAutoencoder",
    "MadryCNN",
    "MobileNet",
    "Network",
    "ReportCNN",
    "ReportCifarCNN",
    "ResNet18",
    "TabularMLP",
    "WongCNN",
]
