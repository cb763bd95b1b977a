"""poisonjax: training-data poisoning, adversarial training and backdoor defences, measured in JAX.

    import poisonjax as pj

    record = pj.run(experiment, workdir="runs/mine", seeds=3)
    record = pj.defend("runs/mine", pj.defences.STRIP())
    victim = pj.load_victim("runs/mine", arm="pgd_at")
    result = pj.evaluate(victim.logits, x, y, pj.attacks.AutoAttack(pj.attacks.Linf(0.3)), key)

Names are imported when first used, so `import poisonjax` and `from poisonjax.attacks import PGD` stay fast.
"""

import importlib

__version__ = "0.1.0"

_MODULES = ("adapters", "analyses", "attacks", "data", "defences", "models", "poisons", "training")
_ATTRIBUTES = {
    "Arm": "poisonjax.experiment",
    "Data": "poisonjax.experiment",
    "Evaluation": "poisonjax.experiment",
    "Experiment": "poisonjax.experiment",
    "Victim": "poisonjax.evaluation.victim",
    "defend": "poisonjax.runs.defend",
    "evaluate": "poisonjax.evaluation.robustness",
    "get_experiment": "poisonjax.runs.experiments",
    "load_victim": "poisonjax.runs.trained",
    "run": "poisonjax.runs.start",
}

__all__ = ["__version__", *_MODULES, *_ATTRIBUTES]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"poisonjax.{name}")
    if name in _ATTRIBUTES:
        return getattr(importlib.import_module(_ATTRIBUTES[name]), name)
    raise AttributeError(f"module 'poisonjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
