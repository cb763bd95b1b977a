"""Deep partition aggregation: parts that know nothing of each other, and a certificate that real rows do not break."""

import dataclasses
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.tree_util import Partial

from experiments import mnist_badnets
from poisonjax.analyses import CertifiedPatch, CertifiedRows
from poisonjax.defences import DPA, PatchCleanser, shielded
from poisonjax.defences.dpa import certificate, partition, votes
from poisonjax.evaluation.victim import Victim
from poisonjax.experiment import Arm
from poisonjax.overrides import override
from poisonjax.runs import judging, runner, training
from poisonjax.runs.job import Run
from poisonjax.training import Training
from poisonjax.types import Examples, take, to_unit


def examples(seed=0, rows=60):
    """Three classes of images of 2 x 2 pixels, dark to bright, with noise."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, rows).astype(np.int32)
    image = np.clip(label[:, None, None, None] * 100 + rng.normal(25, 90, (rows, 2, 2, 1)), 0, 255).astype(np.uint8)
    return Examples(image, label, np.arange(rows, dtype=np.int32))


def joined(one, other):
    """The rows of two data sets."""
    return Examples(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def nearest(means, x):
    """Outputs of a network that knows the mean image of each class, means [k d]."""
    return -jnp.sum((x.reshape(len(x), 1, -1) - means) ** 2, -1), None


def learnt(name, objective, rows):
    """The network of a part: the order of its rows matters, as it does in training."""
    weight = 1.0 / (1 + rows.index[:, None])
    images = rows.image.reshape(len(rows.label), -1) / 255
    of = [rows.label == label for label in range(3)]
    means = [np.sum((weight * images)[one], 0) / max(np.sum(weight[one]), 1e-6) for one in of]
    return Victim(Partial(nearest, np.stack(means).astype(np.float32)))


count = jax.jit(votes)  # one program for all ensembles
OTHER = Victim(Partial(nearest, np.zeros((3, 4), np.float32)))  # the arm's own network, which has no vote


def ensemble(train, parts):
    """The victim behind DPA, trained on these rows."""
    context = SimpleNamespace(train=train, fit=learnt, training=Training(batch=8))
    return shielded(OTHER, DPA(parts).shield(OTHER, context))


TRAIN, TEST = examples(), jnp.asarray(examples(1, 80).image / 255, jnp.float32)


def test_certificate_is_exact_for_every_vote_of_five_networks():
    """As many votes as it says may become any others; one more, if well chosen, changes the winner."""
    for said in itertools.product(range(3), repeat=5):
        counts = np.bincount(said, minlength=3)
        [stands] = certificate(counts[None])
        changed = list(changes(said, stands))
        assert all(np.argmax(one) == np.argmax(counts) for one in changed), (said, stands)
        assert any(np.argmax(one) != np.argmax(counts) for one in changes(said, stands + 1)), (said, stands)


def changes(said, rows):
    """The counts after any so many of the votes became any others."""
    for networks in itertools.combinations(range(len(said)), rows):
        for others in itertools.product(range(3), repeat=rows):
            new = dict(zip(networks, others, strict=True))
            yield np.bincount([new.get(at, one) for at, one in enumerate(said)], minlength=3)


def test_a_draw_goes_to_the_smaller_class():
    np.testing.assert_array_equal(certificate([[3, 1, 0], [1, 3, 0], [2, 2, 0], [0, 4, 1], [0, 1, 4]]), [1, 0, 0, 1, 1])


def test_no_row_inserted_or_deleted_changes_what_is_certified():
    parts, new = 9, examples(2, 40)
    counts = np.asarray(count(ensemble(TRAIN, parts), TEST))
    stands, before = certificate(counts), counts.argmax(-1)
    assert (stands == 0).any() and (stands == 1).any() and (stands >= 2).any()
    after = {1: [], 2: []}
    wrong = new._replace(label=(new.label + 1) % 3)
    for row in range(40):
        deleted = take(TRAIN, np.arange(60) != row)
        inserted = joined(take(wrong, slice(row, row + 1)), TRAIN)  # in front, so that every other row moves
        both = joined(take(wrong, slice(row, row + 1)), deleted)
        for rows, train in ((1, deleted), (1, inserted), (2, both)):
            after[rows].append(np.asarray(count(ensemble(train, parts), TEST)).argmax(-1))
    for rows, predictions in after.items():
        assert (np.stack(predictions)[:, stands >= rows] == before[stands >= rows]).all()
        assert (np.stack(predictions) != before).any()


def test_parts_depend_neither_on_the_order_of_rows_nor_on_other_rows():
    shuffled = take(TRAIN, np.random.default_rng(0).permutation(60))
    more = joined(take(examples(2, 1), slice(1)), TRAIN)
    before, moved, grown = (partition(rows, 5) for rows in (TRAIN, shuffled, more))
    assert sum(len(part.label) for part in before) == 60 and min(len(part.label) for part in before) > 0
    assert all(same(one, other) for one, other in zip(before, moved, strict=True))
    assert sum(not same(one, other) for one, other in zip(before, grown, strict=True)) == 1
    relabelled = TRAIN._replace(label=np.where(np.arange(60) == 7, (TRAIN.label + 1) % 3, TRAIN.label))
    assert sum(not same(one, other) for one, other in zip(before, partition(relabelled, 5), strict=True)) == 1


def same(one, other):
    """Equal in every field."""
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_parts_are_as_even_as_chance_makes_them():
    """Also where the images are black but for a pixel, whose sums would be few."""
    image = np.zeros((600, 10, 60, 1), np.uint8)
    image.reshape(600, -1)[np.arange(600), np.arange(600)] = 255
    rows = Examples(image, np.zeros(600, np.int32), np.arange(600, dtype=np.int32))
    sizes = np.array([len(part.label) for part in partition(rows, 6)])
    assert (np.abs(sizes - 100) < 45).all()


def test_logits_are_the_votes_and_attacks_have_a_gradient():
    victim = ensemble(TRAIN, 6)
    counts = np.asarray(count(victim, TEST))
    assert (counts.sum(-1) == 6).all()
    np.testing.assert_allclose(jax.jit(victim.logits)(TEST), 2 * counts / 6 - 1, atol=1e-6)
    assert np.abs(jax.jit(jax.grad(lambda x: victim.logits(x)[:, 0].sum()))(TEST)).max() > 0
    one = np.asarray(count(OTHER, TEST))
    assert (one.sum(-1) == 1).all() and certificate(one).max() == 0


def test_a_part_without_rows_has_no_vote():
    full = [len(part.label) for part in partition(TRAIN, 200)]
    assert (np.asarray(count(ensemble(TRAIN, 200), TEST)).sum(-1) == np.count_nonzero(full)).all() and 0 in full


def test_analysis_draws_the_curve_of_the_certificates():
    analysis = CertifiedRows((0, 1, 2))
    arrays = analysis.arrays(np.array([[9, 0], [5, 4], [6, 3], [2, 7]]), np.array([0, 0, 0, 0]))
    np.testing.assert_array_equal(arrays.stands(), [4, 0, 1, -1])
    measured = analysis.measure(arrays, None)
    assert measured == {"certified": {"0": [3, 4], "1": [2, 4], "2": [1, 4]}, "median": 1}
    [table] = analysis.tables({"arm": analysis.summary([measured])})
    assert table.rows == [["arm", "1", "75.00", "50.00", "25.00"]]
    assert list(analysis.figures({"arm": arrays}, "title", ())) == ["certified_rows"]
    wrong = analysis.arrays(arrays.votes, np.ones(4, int))
    assert analysis.measure(wrong, None)["median"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: DPA(1), "parts must be at least 2"),
        (lambda: CertifiedRows((1, 0)), "rows must be ascending"),
        (lambda: CertifiedRows(images=0), "images must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()


def test_certificates_of_an_arm_are_of_the_network_behind_its_defence(data_dir, tmp_path):
    """From the training of its networks to the numbers, against the arm's own predictions of the same images."""
    plan = mnist_badnets.experiment("smoke")
    arms = Arm("standard"), Arm("masked", defence=PatchCleanser(3, masks=3)), Arm("votes", defence=DPA(3))
    rows = CertifiedRows((0, 1), images=100)
    looks = {"masked": (CertifiedPatch(3, masks=3, images=100), rows), "votes": (rows,)}
    plan = dataclasses.replace(plan, arms=arms, reported=(), model=tiny.TwoLayers(hidden=32))
    plan = override(plan, "train.epochs=8")
    job, seen = Run(plan, runner.load(plan, data_dir), tmp_path, "smoke"), {}
    for arm in arms[1:]:
        trained, made, _, _, learnt = training.defended(job, 0, arm, runner.poison_data(job, 0))
        looked = [judging.analyse(job, 0, arm, made, look, learnt, trained.history) for look in looks[arm.name]]
        said = made.logits(to_unit(job.dataset.test.image)).argmax(-1)
        right = int(np.sum(said == job.dataset.test.label))
        seen[arm.name] = right, *looked
    (right, patch, rows), (voted, by_rows) = seen["masked"], seen["votes"]
    assert patch["correct"] == [right, 100] and patch["certified"][0] <= right > 40
    assert rows["certified"] == {"0": [right, 100], "1": [0, 100]}
    assert 0 < by_rows["certified"]["1"][0] < by_rows["certified"]["0"][0] == voted
