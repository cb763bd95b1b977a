"""An explanation-guided backdoor in rows of features (section 4 of Severi et al. 2021, beyond the report)

A watermark of eight rare values, which the attacker can set, on 4 % of the legitimate sites of the data set phishing,
with right labels: are phishing sites that bear it taken for legitimate, by a perceptron and by gradient-boosted trees
on the same rows, and which defence prevents it? All scales but smoke are the same. Needs poisonjax[tabular].

    python launch.py --experiment=tabular_explanation_guided --seeds=3
    python launch.py --experiment=tabular_explanation_guided --set data.name=spambase --set 'poison.changeable=()' \
        --set poison.size=16
    python launch.py --experiment=tabular_explanation_guided --sweep 'poison.values=MinPopulation(),CountSHAP()'
"""

from poisonjax.analyses import GradientBoostedTrees
from poisonjax.attacks import L0, PGD, Linf
from poisonjax.data.subsets import All, Stratified
from poisonjax.defences import ActivationClustering, IsolationForest, Reveal, SpectralSignatures
from poisonjax.experiment import Arm, Data, Evaluation, Experiment, Surrogate
from poisonjax.models import BoostedTrees, TabularMLP
from poisonjax.poisons import ExplanationGuided, LargeSHAP, MinPopulation, TreeSHAP
from poisonjax.training import Adam, Cosine, Standard, Training

from ._scales import at

RATE = 0.04  # of the legitimate rows
SMOKE = ("standard", "pgd_at", "isolation_forest", "standard_clean_data")  # arms, to save time
# All of phishing but what a third party vouches for: certificate (7), length of registration (8), host name in WHOIS
# (17), age of the domain (21) and its DNS record (22).
CHANGEABLE = (0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20)


def experiment(scale: str) -> Experiment:
    smoke = scale == "smoke"
    steps = 2 if smoke else 10
    # In units of a feature's range: of three values, .3 leads from none to the next. L0 counts features.
    linf, l0 = PGD(Linf(0.3), steps=steps), PGD(L0(1), step=1.0, steps=min(steps, 4))
    trees = BoostedTrees(trees=5) if smoke else BoostedTrees()
    train = Training(batch=100, epochs=2 if smoke else 30, optimizer=Adam(3e-3, Cosine()))
    filters = {
        "spectral_signatures": SpectralSignatures(expected=RATE),
        "activation_clustering": ActivationClustering(),
        "isolation_forest": IsolationForest(),
        "reveal": Reveal((at(linf),)),
    }
    arms = (
        Arm("standard"),
        Arm("pgd_at", at(linf)),
        Arm("pgd_at_l0", at(l0)),
        *(Arm(name, defence=defence) for name, defence in filters.items()),
        Arm("standard_clean_data", poisoned=False),
        Arm("pgd_at_clean_data", at(linf), poisoned=False),
        Arm("isolation_forest_clean_data", poisoned=False, defence=filters["isolation_forest"]),
    )
    return Experiment(
        name="tabular_explanation_guided",
        title="An explanation-guided watermark in rows of features, and filters of training rows against it.",
        paper_table="beyond the report",
        data=Data("phishing", *((Stratified(600), Stratified(200)) if smoke else (All(), All()))),
        model=TabularMLP(hidden=(16, 8)) if smoke else TabularMLP(),
        poison=ExplanationGuided(
            rate=RATE,
            target=0,
            size=8,
            explanation=TreeSHAP(trees),
            features=LargeSHAP(),
            values=MinPopulation(),
            changeable=CHANGEABLE,
        ),
        surrogate=Surrogate(Standard(), train),
        train=train,
        evaluation=Evaluation(linf),
        arms=tuple(arm for arm in arms if arm.name in SMOKE or not smoke),
        analyses=(GradientBoostedTrees(trees),),
    )
