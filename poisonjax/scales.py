"""Scales: how large an experiment is run, from the published setting down to a test."""

SCALES = {
    "paper": "the published setting, on an accelerator",
    "full": "the published data, poison and attacks; a network and a training that two CPU cores manage",
    "small": "a subset of the data, in minutes on a laptop",
    "smoke": "a few hundred images and steps, in seconds",
}  # largest first
COMPARED = ("paper", "full")  # with the numbers of the report


def rank(scale: str) -> int:
    """The place of a scale among `SCALES`, those of users last."""
    return [*SCALES, scale].index(scale)
