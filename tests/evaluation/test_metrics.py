"""Metrics: each over exactly the images that its definition names, none dropped or counted twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from poisonjax.attacks import PGD, Linf
from poisonjax.evaluation import metrics
from poisonjax.evaluation.metrics import Predictions, audit, catastrophic_overfitting, measure, removals
from poisonjax.evaluation.victim import network_victim
from poisonjax.poisons import BadNets, CleanLabel
from poisonjax.reports.statistics import summary, wilson
from poisonjax.runtime import distributed
from poisonjax.training import TrainState
from poisonjax.types import Examples

LABELS = np.array([0, 0, 1, 1, 2, 2, 2, 1])
CLEAN = np.array([0, 1, 1, 2, 2, 2, 1, 1])
TRIGGERED = np.array([2, 0, 2, 2, 2, 2, 0, 1])
ADVERSARIAL = np.array([0, 1, 0, 2, 2, 0, 1, 0])
SAID = Predictions(CLEAN, TRIGGERED, ADVERSARIAL, np.ones(8, bool))

# By hand. All-to-one towards class 2: five victims, rows 0 1 2 3 7. All-to-all: everyone is a victim.
EXPECTED = {
    "all_to_one": {
        "clean_accuracy": (5, 8),
        "triggered_accuracy": (2, 5),  # rows 1 and 7
        "attack_success_rate": (3, 5),  # rows 0 2 3
        "attack_success_rate_turner": (2, 4),  # row 3 was class 2 already
        "art_effectiveness": (5, 8),
        "robust_accuracy": (2, 8),
    },
    "all_to_all": {
        "clean_accuracy": (5, 8),
        "triggered_accuracy": (4, 8),  # rows 1 4 5 7
        "attack_success_rate": (3, 8),  # wanted 1 1 2 2 0 0 0 2: rows 2 3 6
        "attack_success_rate_turner": (2, 6),  # rows 1 and 3 were so already
        "art_effectiveness": (3, 8),
        "robust_accuracy": (2, 8),
    },
}
WANTED = {"all_to_one": np.full(8, 2), "all_to_all": (LABELS + 1) % 3}


@pytest.mark.parametrize("goal", EXPECTED)
def test_every_metric_by_hand(goal):
    counts = measure(LABELS, WANTED[goal], SAID, 3)
    assert {name: (count.numerator, count.denominator) for name, count in counts.items()} == EXPECTED[goal]


def test_by_class_sums_to_the_whole():
    counts = measure(LABELS, WANTED["all_to_one"], SAID, 3)
    np.testing.assert_array_equal(counts["clean_accuracy"].of, [2, 3, 3])
    np.testing.assert_array_equal(counts["attack_success_rate"].of, [2, 3, 0])  # none of the wanted class
    np.testing.assert_array_equal(counts["attack_success_rate"].hits, [1, 2, 0])


@pytest.mark.parametrize(("poison", "rows"), [(CleanLabel(target=9), 9), (BadNets(target=0), 9), (BadNets(), 10)])
def test_victim_images_are_those_of_other_classes(poison, rows):
    labels = np.arange(10)
    wanted = np.asarray(poison.target_labels(jnp.asarray(labels)))
    assert (wanted != labels).sum() == rows


class Brightness(nn.Module):
    """Class k for images whose mean lies in the k-th third: what it must say is known."""

    classes: int = 3

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        mean = x.mean((1, 2, 3))[:, None] + self.param("zero", nn.initializers.zeros, (1,))
        logits = -jnp.abs(mean - jnp.array([0.17, 0.5, 0.83]))
        return logits, mean


@pytest.mark.parametrize("batch", [1, 4, 7, 20, 50])
def test_no_image_is_dropped_or_counted_twice_whatever_the_batch(batch):
    image = np.linspace(0, 255, 20).astype(np.uint8)[:, None, None, None] * np.ones((1, 6, 6, 1), np.uint8)
    examples = Examples(image, np.zeros(20, np.int32), np.arange(20, dtype=np.int32))
    model, poison = Brightness(), BadNets(target=2, classes=3)
    state = TrainState(jnp.int32(0), model.init(jax.random.key(0), image[:1] / 255.0)["params"], {}, ())
    heard = []
    said = metrics.predict(
        distributed.replicate(network_victim(model, state)),
        examples,
        poison,
        PGD(Linf(0.2), 0.2, 1, random_start=False),
        distributed.replicate(jax.random.key(0)),
        batch,
        heard.append,
    )
    levels = image[:, 0, 0, 0] / 255
    np.testing.assert_array_equal(said.clean, np.abs(levels[:, None] - [0.17, 0.5, 0.83]).argmin(1))
    assert sum(heard) == 20 and len(said.triggered) == len(said.adversarial) == len(said.finite) == 20
    assert (said.triggered >= said.clean).all() and (said.triggered > said.clean).any()


def test_audit_reports_collapse_and_nan():
    fine = Predictions(CLEAN, TRIGGERED, ADVERSARIAL, np.ones(8, bool))
    collapsed = fine._replace(clean=np.full(8, 1))
    broken = fine._replace(finite=np.arange(8) > 1)
    assert audit(LABELS, fine, 5) == []
    assert audit(LABELS, collapsed, 5) == ["collapsed: every clean test image is predicted as class 1"]
    assert "2 of 8 test images hold NaN" in audit(LABELS, broken, 5)[0]


def test_audit_reports_a_network_that_guesses():
    right = np.arange(20) % 10
    for hits, expected in [(3, ["undertrained: 15.0% clean accuracy, less than twice that of guessing"]), (4, [])]:
        clean = np.where(np.arange(20) < hits, right, (right + 1) % 10)
        assert audit(right, Predictions(clean, clean, clean, np.ones(20, bool)), 10) == expected


def test_where_the_attacker_spoils_accuracy_training_tells_a_network_that_guesses():
    one_class = Predictions(np.zeros(8, int), TRIGGERED, ADVERSARIAL, np.ones(8, bool))
    assert audit(LABELS, one_class, 5, learnt=0.9) == []
    assert audit(LABELS, one_class, 5, learnt=0.3) == [
        "undertrained: 30.0% training accuracy, less than twice that of guessing"
    ]


def test_of_two_classes_a_network_that_guesses_is_less_than_half_way_to_all():
    right = np.arange(20) % 2
    for hits, expected in [
        (14, ["undertrained: 70.0% clean accuracy, less than half-way from guessing to 100%"]),
        (15, []),
    ]:
        clean = np.where(np.arange(20) < hits, right, 1 - right)
        assert audit(right, Predictions(clean, clean, clean, np.ones(20, bool)), 2) == expected


def test_wilson_interval_against_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    assert wilson(81, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert wilson(0, 20) == pytest.approx([0.0, 0.1611], abs=5e-5)
    assert wilson(0, 0) is None


def test_summary_over_seeds():
    counts = [measure(LABELS, WANTED["all_to_one"], SAID, 3)["clean_accuracy"]] * 2
    other = measure(LABELS, WANTED["all_to_one"], SAID._replace(clean=LABELS), 3)["clean_accuracy"]
    made = summary([*counts, other])
    assert made["mean"] == pytest.approx((5 / 8 + 5 / 8 + 1) / 3)
    assert made["std"] == pytest.approx(np.std([5 / 8, 5 / 8, 1], ddof=1))
    assert made["numerator"] == [5, 5, 8] and made["denominator"] == [8, 8, 8]
    assert made["ci95"][0] < made["mean"] < made["ci95"][1] <= 1
    one = summary(counts[:1])
    assert one["std"] is None and one["ci95"] == wilson(5, 8)


def test_undefined_metric_is_none():
    said = SAID._replace(clean=np.full(8, 2))
    made = summary([measure(LABELS, np.full(8, 2), said, 3)["attack_success_rate_turner"]])
    assert made["mean"] is None and made["ci95"] is None and made["denominator"] == [0]


@pytest.mark.parametrize(
    ("accuracies", "single_step", "warned"),
    [
        ([0.1, 0.5, 0.45], 0.6, False),
        ([0.1, 0.6, 0.0], 0.4, True),  # it fell
        ([0.6, 0.0, 0.5], 0.6, False),  # it came back
        ([0.0, 0.01, 0.03], 0.97, True),  # it never came
        ([], 0.97, False),
        ([0.6], 0.9, False),
    ],
)
def test_catastrophic_overfitting_is_robustness_to_the_single_step_alone(accuracies, single_step, warned):
    rows = [{"epoch": 0}, *({"robust_accuracy": value, "train_accuracy": single_step} for value in accuracies)]
    lines = catastrophic_overfitting(rows)
    assert bool(lines) == warned and all("catastrophic overfitting" in line for line in lines)


def test_a_removed_cover_row_is_neither_a_poisoned_row_found_nor_a_clean_row_lost():
    poisoned, cover, keep = (np.isin(np.arange(8), rows) for rows in ([0, 1, 2], [3, 4], [2, 3, 6, 7]))
    found = {name: (of.numerator, of.denominator) for name, of in removals(LABELS, poisoned, cover, keep, 3).items()}
    assert found == {"poisoned_rows_removed": (2, 3), "clean_rows_removed": (1, 3), "cover_rows_removed": (1, 2)}
    assert "cover_rows_removed" not in removals(LABELS, poisoned, np.zeros(8, bool), keep, 3)
