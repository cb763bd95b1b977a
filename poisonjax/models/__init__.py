"""Networks: frozen, hashable modules from images in [0, 1] to logits and features."""

from poisonjax.models.mnist import MadryCNN, ReportCNN, WongCNN

__all__ = ["MadryCNN", "ReportCNN", "WongCNN"]
