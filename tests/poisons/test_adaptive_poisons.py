"""Poisons of an attacker who knows: what cover rows and triggers without a fixed pattern show."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import sklearn.metrics

from experiments import mnist_badnets
from poisonjax.data.subsets import Stratified
from poisonjax.defences import Defence, Selection
from poisonjax.evaluation import metrics
from poisonjax.experiment import Arm, Data
from poisonjax.keys import image_keys
from poisonjax.poisons import (
    AdaptiveBlend,
    AdaptivePatch,
    BadNets,
    Blend,
    BrightSquare,
    Corners,
    LowFrequency,
    NoisyLabels,
    NoisyWarp,
    RandomPlace,
    SampleSpecific,
    Tile,
    Together,
    Warp,
    WithCover,
)
from poisonjax.runs import runner, training
from poisonjax.runs.job import Run
from poisonjax.training import Adam, Training
from poisonjax.types import Examples, take, to_unit

ROWS = 160


@pytest.fixture(scope="module")
def examples():
    """Random grey images of 28 x 28 pixels."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 190, (ROWS, 28, 28, 1)).astype(np.uint8)
    return Examples(image, rng.integers(1, 10, ROWS).astype(np.int32), np.arange(ROWS, dtype=np.int32) * 3 + 5)


def change(after, before):
    return np.asarray(to_unit(jnp.asarray(after)) - to_unit(jnp.asarray(before)))


ADAPTIVE = {"blend": AdaptiveBlend(), "patch": AdaptivePatch()}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_trigger_is_stronger_at_test_time_than_while_training(name, examples):
    poison = ADAPTIVE[name]
    trained = np.abs(change(poison.apply(examples).image, examples.image)).mean((1, 2, 3))
    tested = np.abs(change(poison.apply_trigger(to_unit(jnp.asarray(examples.image))), examples.image)).mean((1, 2, 3))
    assert (tested > 1.5 * trained).all()


@pytest.mark.parametrize("name", ADAPTIVE)
def test_cover_rows_show_what_poisoned_rows_show_and_keep_their_label(name, examples):
    poisoned, cover = ADAPTIVE[name].apply(examples), ADAPTIVE[name].apply_cover(examples)
    np.testing.assert_array_equal(poisoned.image, cover.image)
    np.testing.assert_array_equal(cover.label, examples.label)
    assert (poisoned.label == 0).all()


def test_an_adaptive_blend_shows_eight_of_sixteen_pieces(examples):
    moved = change(AdaptiveBlend(trigger=Blend(1.0)).apply(examples).image, examples.image)
    pieces = (moved.reshape(ROWS, 4, 7, 4, 7) != 0).mean((2, 4)) > 0.5
    assert (pieces.sum((1, 2)) == 8).all() and len(np.unique(pieces.reshape(ROWS, 16), axis=0)) > ROWS / 2


def test_an_adaptive_patch_shows_one_of_its_triggers_in_each_row(examples):
    poison = AdaptivePatch()
    moved = change(poison.apply(examples).image, examples.image)
    image = to_unit(jnp.asarray(examples.image))
    fits = [
        np.abs(moved - opacity * (trigger(image) - image)).max((1, 2, 3)) < 1 / 255
        for trigger, opacity in zip(poison.triggers, poison.opacities, strict=True)
    ]
    assert (np.sum(fits, 0) == 1).all() and (np.sum(fits, 1) > ROWS / 8).all()


def test_noisy_labels_are_a_share_of_others_drawn_by_the_index_alone(examples):
    poison = NoisyLabels(BadNets(target=0), 0.4)
    labels = np.asarray(poison.apply(examples).label)
    assert 0.25 < np.mean(labels != 0) < 0.55 and set(labels) == set(range(10))
    few = take(examples, np.arange(ROWS)[::-7])
    np.testing.assert_array_equal(poison.apply(few).label, labels[::-7])
    np.testing.assert_array_equal(poison.apply(examples).image, BadNets(target=0).apply(examples).image)
    np.testing.assert_array_equal(poison.apply_cover(examples).label, examples.label)


def test_cover_rows_bear_their_own_trigger_or_that_of_test_images(examples):
    plain, other = WithCover(BadNets(target=0)), WithCover(BadNets(target=0), trigger=Corners(0.5))
    np.testing.assert_array_equal(plain.apply_cover(examples).image, BadNets(target=0).apply(examples).image)
    shown = Corners(0.5)(to_unit(jnp.asarray(examples.image)))
    np.testing.assert_allclose(to_unit(other.apply_cover(examples).image), shown, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(other.apply(examples).image, plain.apply(examples).image)


def test_a_patch_at_random_places_is_whole_and_everywhere():
    image = jnp.asarray(np.random.default_rng(0).random((64, 12, 14, 1)), jnp.float32) / 2
    moved = np.asarray(RandomPlace(BrightSquare(3))(image) != image)[..., 0]
    assert (moved.sum((1, 2)) == 9).all()
    corners = np.array([np.argwhere(each).min(0) for each in moved])
    assert all(np.argwhere(each).max(0).tolist() == (at + 2).tolist() for each, at in zip(moved, corners, strict=True))
    assert corners.min() == 0 and corners.max(0).tolist() == [9, 11] and len(np.unique(corners, axis=0)) > 32


def test_a_sample_specific_trigger_is_another_in_each_image_and_the_same_for_the_same_bytes():
    image = np.random.default_rng(0).integers(60, 190, (8, 12, 14, 1)).astype(np.uint8)
    unit = to_unit(jnp.asarray(image))
    signs = np.sign(np.asarray(SampleSpecific()(unit) - unit)).reshape(8, -1)
    assert np.abs(np.corrcoef(signs) - np.eye(8)).max() < 0.4
    np.testing.assert_array_equal(jax.jit(SampleSpecific())(unit[3:5]), SampleSpecific()(unit)[3:5])
    other = unit.at[:, 0, 0].add(1 / 255)
    keys = [jax.random.key_data(image_keys(each, 0)) for each in (unit, unit + 0.4 / 255, other)]
    assert (keys[0] == keys[1]).all() and (keys[0] != keys[2]).any(1).all()


def test_a_low_frequency_trigger_has_no_fast_waves():
    pattern = LowFrequency(waves=4).pattern(28, 32)
    waves = np.abs(scipy.fft.dctn(pattern))
    assert np.abs(pattern).max() == 1 and waves[4:].max() < 1e-3 * waves.max() > waves[:, 4:].max()
    assert waves[0, 0] < 1e-3 * waves.max(), "it neither brightens nor darkens the image as a whole"


def test_triggers_together_are_each_there():
    image = jnp.full((1, 12, 14, 1), 0.5)
    both = Together((BrightSquare(2), Tile()))(image)
    np.testing.assert_array_equal(both, Tile()(BrightSquare(2)(image)))
    assert (both != image).sum() == 4 + 25


def test_a_noisy_warp_is_the_warp_and_moves_of_its_own_in_each_image():
    image = jnp.tile(jnp.asarray(np.random.default_rng(0).random((1, 28, 28, 1)), jnp.float32), (2, 1, 1, 1))
    image = image.at[1, 0, 0].set(0.0)
    first, second = np.asarray(NoisyWarp(strength=3.0)(image))
    assert np.mean(first != second) > 0.5
    np.testing.assert_allclose(NoisyWarp(strength=3.0, noise=1e-6)(image), Warp(strength=3.0)(image), atol=1e-4)


@dataclasses.dataclass(frozen=True)
class DropEven(Defence):
    """Drop the rows with an even index; every row is as suspicious as its index is large."""

    def select(self, context):
        return Selection(take(context.train, context.train.index % 2 == 1), context.train.index.astype(float))


@pytest.fixture(scope="module")
def job(data_dir, tmp_path_factory):
    plan = dataclasses.replace(
        mnist_badnets.experiment("smoke"),
        data=Data("mnist_5k", Stratified(1000), Stratified(200)),
        poison=AdaptivePatch(rate=0.1, cover_rate=0.1),
        train=Training(batch=50, epochs=8, optimizer=Adam(1e-2)),
        arms=(Arm("standard"), Arm("odd", defence=DropEven())),
        reported=(),
    )
    return Run(plan, runner.load(plan, data_dir), tmp_path_factory.mktemp("cover"), "smoke")


def test_a_run_counts_cover_rows_on_their_own(job):
    poisoning, index = runner.poison_data(job, 0), job.dataset.train.index
    assert poisoning.facts == {"rows": 100, "of": 1000, "cover": 100}
    found = training.defended(job, 0, job.experiment.arms[1], poisoning)
    sizes = {name: removed.denominator for name, removed in found.removed.items()}
    assert sizes == {"poisoned_rows_removed": 100, "clean_rows_removed": 800, "cover_rows_removed": 100}
    assert found.removed["cover_rows_removed"].numerator == np.sum(poisoning.cover % 2 == 0)
    rest = ~np.isin(index, poisoning.cover)
    auroc = sklearn.metrics.roc_auc_score(np.isin(index, poisoning.rows)[rest], index[rest])
    assert found.detection["auroc"] == pytest.approx(auroc)


def test_an_adaptive_patch_works_after_standard_training(job):
    counts = runner.train_and_judge(job, 0, job.experiment.arms[0], runner.poison_data(job, 0))["counts"]
    rates = {name: metrics.Count.from_json(counts[name]).value for name in ("clean_accuracy", "attack_success_rate")}
    assert rates["clean_accuracy"] > 0.6 and rates["attack_success_rate"] > 0.8


def test_a_run_changes_poisoned_and_cover_rows_and_streams_the_same(job, tmp_path):
    train, poisoning = job.dataset.train, runner.poison_data(job, 0)
    whole = poisoning.train()
    changed = np.isin(train.index, [*poisoning.rows, *poisoning.cover])
    np.testing.assert_array_equal((whole.image != train.image).any((1, 2, 3)), changed)
    np.testing.assert_array_equal(whole.label != train.label, np.isin(train.index, poisoning.rows))
    place = {row: at for at, row in enumerate(train.index.tolist())}

    def reader(rows):
        return take(train, np.array([place[row] for row in rows.tolist()]))

    streamed = runner.poison_data(dataclasses.replace(job, reader=reader, workdir=tmp_path), 0).train()
    at = np.arange(0, 1000, 3)
    for ours, theirs in zip(streamed.read(at), take(whole, at), strict=True):
        np.testing.assert_array_equal(ours, theirs)
