"""Defences beside those of the Adversarial Robustness Toolbox, on the features and logits of one network.

    pip install -r requirements-bench.txt
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/defences_vs_art.py --data_dir=DATA

The rows are those of mnist_5k; the network is a WongCNN as it was initialised, since its features only have to be the
same for both. ART's detectors get them ready-made and ART's STRIP our compiled logits, so that only the defences
differ: spectral signatures, and activation clustering by ten principal components, two means and silhouettes, of 4,000
rows; STRIP with 100 overlays at half weight, on 100 images, without the fit of its threshold.

Both take turns; a first turn, which compiles, is not counted. Times are of the processor, over all cores, since on a
busy machine those of the clock measure the others; so ours gain nothing from running on several cores.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.throughput import machine
from poisonjax import Data
from poisonjax.data import prepare
from poisonjax.defences import ActivationClustering, SpectralSignatures
from poisonjax.defences.strip import overlaid_entropy
from poisonjax.evaluation.victim import Victim, network_victim
from poisonjax.models import WongCNN
from poisonjax.training import initial_state
from poisonjax.types import Examples, to_unit

OVERLAYS, IMAGES, CLASSES = 100, 100, 10
Turn = Callable[[], object]


def detectors(features: np.ndarray, train: Examples) -> dict[str, tuple[Turn, Turn]]:
    """{defence: (ours, ART's)}: a function each that filters rows by given features [n d]."""
    from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense

    context = SimpleNamespace(train=train, fit=lambda name, *given: name, map=lambda fn, network, rows: features)
    ready = SimpleNamespace(
        layer_names=["features"], nb_classes=CLASSES, get_activations=lambda x, layer, batch_size: features
    )
    given = ready, np.asarray(train.image), np.eye(CLASSES)[train.label]
    spectral = SpectralSignatureDefense(*given, expected_pp_poison=0.1)
    clusters = ActivationDefence(*given)
    way = {"nb_clusters": 2, "nb_dims": 10, "reduce": "PCA", "cluster_analysis": "silhouette-scores"}
    return {
        "spectral signatures": (lambda: SpectralSignatures(0.1).select(context), spectral.detect_poison),
        "activation clustering": (
            lambda: ActivationClustering().select(context),
            lambda: clusters.detect_poison(clustering_method="KMeans", **way),
        ),
    }


def strip(victim: Victim, train: Examples) -> tuple[Turn, Turn]:
    """Ours and ART's: a function each that judges IMAGES images under OVERLAYS others."""
    from art.estimators.poison_mitigation.strip import STRIPMixin

    class Guarded(STRIPMixin):
        def abstain(self):
            return np.zeros(CLASSES)

    shown = to_unit(np.asarray(train.image[: OVERLAYS + IMAGES]))
    over, x = shown[:OVERLAYS], shown[OVERLAYS:]
    logits = jax.jit(lambda x: victim.logits(x))
    entropy = jax.jit(lambda x: overlaid_entropy(victim.logits, over, 0.5, x))
    guarded = Guarded(lambda x: np.asarray(jax.nn.softmax(logits(jnp.asarray(x)))), num_samples=OVERLAYS)
    guarded.entropy_threshold, guarded.validation_data = 0.0, np.asarray(over)
    return lambda: np.asarray(entropy(x)), lambda: guarded.predict(np.asarray(x))


def seconds(turn: Turn) -> float:
    """The processor time that a turn takes."""
    start = time.process_time()
    turn()
    return time.process_time() - start


def row(name: str, ours: Turn, theirs: Turn, repeats: int) -> str:
    """A line of the table: the times of both, in turns, and their ratio in each round."""
    seconds(ours), seconds(theirs)
    times = np.array([(seconds(ours), seconds(theirs)) for _ in range(repeats)])
    cells = [spread(1000 * times[:, 0]), spread(1000 * times[:, 1]), spread(times[:, 1] / times[:, 0], 2)]
    return f"| {name} | {' | '.join(cells)} |"


def spread(values: np.ndarray, digits: int = 0) -> str:
    """Median (lowest to highest)."""
    low, middle, high = (f"{value:,.{digits}f}" for value in np.quantile(values, [0, 0.5, 1]))
    return f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    prepare.prepared("mnist_5k", args.data_dir)
    train = Data("mnist_5k").load(args.data_dir).train
    model = WongCNN()
    state = initial_state(model, optax.sgd(0.1), np.asarray(train.image[0]), jax.random.key(0))
    victim = network_victim(model, state)
    features = np.asarray(jax.jit(lambda x: victim.features(to_unit(x)))(jnp.asarray(train.image)))
    print(machine(), f"\n{len(features):,} rows of {features.shape[1]} features\n")
    print("| defence | poisonjax, ms | ART, ms | ART / poisonjax |\n|---|---|---|---|")
    for name, turns in (detectors(features, train) | {"STRIP": strip(victim, train)}).items():
        print(row(name, *turns, args.repeats), flush=True)


if __name__ == "__main__":
    main()
