"""Contracts of poisons and triggers: exactly the promised rows change, the same ones in memory and in a stream."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from experiments import mnist_badnets
from poisonjax.attacks import APGD, L2, PGD, Linf
from poisonjax.overrides import from_json, members, to_json
from poisonjax.poisons import (
    BACKDOOR,
    LOW_ACCURACY,
    SIG,
    AdaptiveBlend,
    AdaptivePatch,
    AdversarialPoison,
    BadNets,
    Blend,
    BrightSquare,
    CentreDistance,
    ClassNoise,
    CleanLabel,
    Corners,
    EntangledFeatures,
    ExplanationGuided,
    FourPixels,
    GradientAlignment,
    HiddenTrigger,
    LowFrequency,
    NoisyLabels,
    NoisyWarp,
    NoPoison,
    Poison,
    RandomPlace,
    SampleSpecific,
    SignPattern,
    Sinusoid,
    SleeperAgent,
    SurrogatePoison,
    Tile,
    Together,
    Trigger,
    Warp,
    Watermark,
    WithCover,
    Wrapped,
    poisoned,
)
from poisonjax.types import Examples, take, to_unit

ROWS, CLASSES = 203, 10


@dataclasses.dataclass(frozen=True)
class Cropped(Trigger):
    """A trigger that breaks the contract."""

    def __call__(self, image):
        return image[:, 1:]


@pytest.fixture
def examples(request):
    """Random grey images, or rows of features; their index is not their place, as after a subset."""
    rng, call = np.random.default_rng(0), getattr(request.node, "callspec", None)
    shape = (9,) if call is not None and call.params.get("name") in FOR_FEATURES else (12, 14, 1)
    image = rng.integers(60, 190, (ROWS, *shape)).astype(np.uint8)
    return Examples(image, rng.integers(0, CLASSES, ROWS).astype(np.int32), np.arange(ROWS, dtype=np.int32) * 3 + 5)


def drawn(shape):
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def linear(weights, x):
    """Logits, and as many features."""
    logits = x.reshape(len(x), -1) @ weights
    return logits, logits / 10


outputs = Partial(linear, drawn((168, CLASSES)))


def logits_fn(x):
    return outputs(x)[0]


CENTRES = drawn((CLASSES, CLASSES))
ALIGNED = PGD(Linf(0.3), 0.1, 5, loss=GradientAlignment())
CENTRED = dataclasses.replace(ALIGNED, random_start=False, loss=CentreDistance(), steps=6)
LINF, TWO = PGD(Linf(0.3), 0.1, 5), PGD(L2(2.0), 0.5, 5, random_start=False)
POISONS = {
    "badnets_all_to_one": BadNets(rate=0.1, target=3),
    "badnets_all_to_all": BadNets(rate=0.25, trigger=BrightSquare(4, 0.5)),
    "badnets_every_row": BadNets(rate=1.0, trigger=Corners(0.3)),
    "badnets_blended": BadNets(rate=0.2, trigger=Blend()),
    "badnets_warped": BadNets(rate=0.2, trigger=Warp(strength=3.0)),
    "clean_label_linf": CleanLabel(rate=0.33, target=9, attack=LINF, trigger=Corners(0.25)),
    "clean_label_apgd": CleanLabel(rate=0.5, target=2, attack=APGD(Linf(0.2), steps=5, best_loss=True)),
    "clean_label_l2": CleanLabel(rate=1.0, target=4, attack=TWO),
    "sig": SIG(rate=0.4, target=1),
    "adversarial_targeted": AdversarialPoison(rate=0.5, attack=LINF),
    "adversarial_untargeted": AdversarialPoison(shift=0, attack=dataclasses.replace(LINF, restarts=2)),
    "class_noise": ClassNoise(rate=0.8, amplitude=0.1, patch=3),
    "class_noise_every_row": ClassNoise(),
    "entangled_push": EntangledFeatures(rate=0.3, attack=dataclasses.replace(LINF, loss=CentreDistance())),
    "entangled_pull": EntangledFeatures(rate=0.3, pull=True, attack=dataclasses.replace(LINF, loss=CentreDistance())),
    "explanation_guided": ExplanationGuided(rate=0.4, target=1, trigger=Watermark((3, 0), (255, 4)), classes=CLASSES),
    "badnets_watermark": BadNets(rate=0.2, target=3, trigger=Watermark((8,), (0,))),
    "sleeper_agent": SleeperAgent(rate=0.05, target=3, source=5, attack=ALIGNED),
    "sleeper_agent_all_sources": SleeperAgent(rate=0.05, target=3, source=None, sources_used=40, attack=ALIGNED),
    "sleeper_agent_with_cover": WithCover(SleeperAgent(rate=0.05, target=3, attack=ALIGNED, trigger=Corners()), 0.02),
    "hidden_trigger": HiddenTrigger(rate=0.05, target=3, source=5, attack=CENTRED, pairings=3),
    "hidden_trigger_few_sources": HiddenTrigger(
        rate=0.05, target=3, source=None, attack=CENTRED, pairings=1, sources_used=4
    ),
    "no_poison": NoPoison(),
    "adaptive_blend": AdaptiveBlend(rate=0.1, cover_rate=0.15, target=3),
    "adaptive_patch": AdaptivePatch(rate=0.1, cover_rate=0.2, target=3),
    "badnets_noisy_labels": NoisyLabels(BadNets(rate=0.3, target=3), 0.5),
    "badnets_noisy_labels_with_cover": WithCover(NoisyLabels(BadNets(rate=0.1, target=3)), 0.2, Corners()),
    "badnets_all_to_all_with_cover": WithCover(BadNets(rate=0.1, trigger=Corners(0.3)), 0.2),
    "clean_label_with_cover": WithCover(CleanLabel(rate=0.5, target=2, attack=TWO), 0.1),
}
WITHOUT_TRIGGER = [name for name, poison in POISONS.items() if poison.aim == LOW_ACCURACY]
HIDDEN = [name for name in POISONS if name.startswith(("sleeper_agent", "hidden_trigger"))]
FOR_FEATURES = ("explanation_guided", "badnets_watermark")
# the rows that are poisoned: so many of how many that could be
POOLS = {
    AdaptiveBlend: lambda poison, labels: (poison.rate, len(labels)),
    AdaptivePatch: lambda poison, labels: (poison.rate, len(labels)),
    NoisyLabels: lambda poison, labels: POOLS[type(poison.poison)](poison.poison, labels),
    WithCover: lambda poison, labels: POOLS[type(poison.poison)](poison.poison, labels),
    BadNets: lambda poison, labels: (poison.rate, len(labels)),
    AdversarialPoison: lambda poison, labels: (poison.rate, len(labels)),
    ClassNoise: lambda poison, labels: (poison.rate, len(labels)),
    EntangledFeatures: lambda poison, labels: (poison.rate, len(labels)),
    SleeperAgent: lambda poison, labels: (poison.rate, len(labels)),
    HiddenTrigger: lambda poison, labels: (poison.rate, len(labels)),
    CleanLabel: lambda poison, labels: (poison.rate, int((labels == poison.target).sum())),
    SIG: lambda poison, labels: (poison.rate, int((labels == poison.target).sum())),
    ExplanationGuided: lambda poison, labels: (poison.rate, int((labels == poison.target).sum())),
    NoPoison: lambda poison, labels: (0, len(labels)),
}
TRIGGERS = {
    "four_pixels": FourPixels(),
    "four_pixels_faint": FourPixels(0.25),
    "square": BrightSquare(),
    "square_large": BrightSquare(12, 0.1),
    "corners": Corners(),
    "corners_faint": Corners(0.25),
    "blend": Blend(),
    "sign_pattern": SignPattern(),
    "sinusoid": Sinusoid(),
    "warp": Warp(),
    "noisy_warp": NoisyWarp(),
    "tile": Tile("lower_left"),
    "low_frequency": LowFrequency(),
    "sample_specific": SampleSpecific(),
    "random_place": RandomPlace(FourPixels(0.5)),
    "together": Together((BrightSquare(2), Tile())),
    "watermark": Watermark((11, 2), (0, 255)),
}
PIXELS = {"four_pixels": 4, "square": 9, "corners": 36, "tile": 25}


def of_poisonjax(family):
    return {kind for kind in members(family) if kind.__module__.startswith("poisonjax.")}


def test_the_contracts_are_tested_for_every_poison_and_trigger():
    assert of_poisonjax(Poison) <= set(map(type, POISONS.values()))
    assert of_poisonjax(Trigger) <= set(map(type, TRIGGERS.values()))


def chosen_rows(poison, examples, seed=1):
    return np.asarray(poison.select(jnp.asarray(examples.label), jax.random.key(seed)))


def crafted_rows(poison, examples, chosen):
    seen = poison.view(outputs, CENTRES if poison.needs_centres else poison.sources(examples))
    return poison.perturb(seen, take(examples, np.flatnonzero(chosen)), jax.random.key(9))


def apply_of(poison, examples, chosen):
    return poison.crafted(crafted_rows(poison, examples, chosen)) if poison.needs_surrogate else poison.apply


def cover_rows(poison, examples, chosen, seed=1):
    return np.asarray(poison.cover(jnp.asarray(examples.label), jnp.asarray(chosen), jax.random.key(seed)))


def attacked(poison, examples, rows, cover, apply):
    """The rows as a run has them."""
    return poisoned(poison.apply_cover, poisoned(apply, examples, rows), cover)


def innermost(poison):
    return innermost(poison.poison) if isinstance(poison, Wrapped) else poison


@pytest.mark.parametrize("name", POISONS)
def test_exactly_the_promised_rows_change(name, examples):
    poison = POISONS[name]
    chosen, (rate, pool) = chosen_rows(poison, examples), POOLS[type(poison)](poison, examples.label)
    assert chosen.dtype == bool and chosen.sum() == round(rate * pool)
    cover = cover_rows(poison, examples, chosen)
    assert cover.dtype == bool and cover.sum() == round(getattr(poison, "cover_rate", 0) * ROWS)
    assert not (cover & chosen).any() and (poison.target_labels(examples.label) != examples.label)[cover].all()
    apply, index = apply_of(poison, examples, chosen), examples.index
    after = jax.tree.map(np.asarray, attacked(poison, examples, index[chosen], index[cover], apply))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, examples)
    np.testing.assert_array_equal(after.label[~chosen], examples.label[~chosen])
    np.testing.assert_array_equal(after.index, examples.index)
    changed = (after.image != examples.image).reshape(ROWS, -1).any(1)
    np.testing.assert_array_equal(changed, chosen | cover)


@pytest.mark.parametrize("name", POISONS)
def test_a_stream_gives_the_same_rows_and_pixels(name, examples):
    poison = POISONS[name]
    chosen = chosen_rows(poison, examples)
    apply = apply_of(poison, examples, chosen)
    rows, cover = (examples.index[each] for each in (chosen, cover_rows(poison, examples, chosen)))
    whole = attacked(poison, examples, rows, cover, apply)
    parts = [take(examples, slice(at, at + 29)) for at in range(0, ROWS, 29)]
    batches = [attacked(poison, part, rows, cover, apply) for part in parts]
    chex.assert_trees_all_equal(whole, jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches))


@pytest.mark.parametrize("name", POISONS)
def test_the_draw_depends_on_the_key_alone(name, examples):
    first, again, other = (chosen_rows(POISONS[name], examples, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert getattr(POISONS[name], "rate", 1.0) == 1.0 or (first != other).any()
    first, again, other = (cover_rows(POISONS[name], examples, first, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not hasattr(POISONS[name], "cover_rate") or (first != other).any()


@pytest.mark.parametrize("name", POISONS)
def test_a_poison_keeps_what_the_rest_relies_on(name, examples):
    poison, image = POISONS[name], to_unit(jnp.asarray(examples.image))
    assert hash(poison) == hash(dataclasses.replace(poison)) and poison == dataclasses.replace(poison)
    assert from_json(json.loads(json.dumps(to_json(poison))), Poison) == poison
    assert poison.classes == CLASSES and poison.poisons == (name != "no_poison")
    assert poison.needs_surrogate == isinstance(innermost(poison), SurrogatePoison)
    targets, shown = poison.target_labels(jnp.asarray(examples.label)), poison.apply_trigger(image)
    chex.assert_trees_all_equal_shapes_and_dtypes(targets, jnp.asarray(examples.label))
    chex.assert_trees_all_equal_shapes_and_dtypes(shown, image)
    wants_a_class = poison.poisons and poison.aim == BACKDOOR
    assert poison.has_trigger == wants_a_class == bool((shown != image).any())
    assert ((targets >= 0) & (targets < CLASSES)).all() and wants_a_class == bool((targets != examples.label).any())
    assert hash(poison.aim) == hash(dataclasses.replace(poison.aim)) and poison.aim.success(0.25) in (0.25, 0.75)
    np.testing.assert_array_equal(poison.apply_trigger(image[5:9]), shown[5:9])
    poison.check(examples.image.shape[1:])


def test_badnets_labels_are_the_attackers(examples):
    one, every = BadNets(0.1, target=3), BadNets(0.1)
    np.testing.assert_array_equal(one.apply(examples).label, 3)
    np.testing.assert_array_equal(every.apply(examples).label, (examples.label + 1) % CLASSES)
    assert not (examples.label[chosen_rows(one, examples)] == 3).any()


@pytest.mark.parametrize("name", ["clean_label_linf", "clean_label_l2"])
def test_clean_label_keeps_labels_and_the_ball_in_bytes(name, examples):
    poison = POISONS[name]
    chosen = chosen_rows(poison, examples)
    assert (examples.label[chosen] == poison.target).all()
    before, rows = take(examples, chosen), crafted_rows(poison, examples, chosen)
    after = poison.crafted(rows)(before)
    np.testing.assert_array_equal(after.label, before.label)
    change = np.asarray(to_unit(rows.image) - to_unit(jnp.asarray(before.image))).reshape(chosen.sum(), -1)
    size = np.abs(change).max(1) if isinstance(poison.attack.ball, Linf) else np.linalg.norm(change, axis=1)
    assert (size <= poison.attack.ball.eps + 1e-5).all() and (size > 0.5 * poison.attack.ball.eps).all()
    triggered = poison.trigger(to_unit(rows.image))
    np.testing.assert_allclose(to_unit(after.image), triggered, atol=0.5 / 255 + 1e-6)


def test_clean_label_crafts_a_share_of_one_class():
    assert CleanLabel(rate=0.33).expected_rows(60_000) == 1980
    assert AdversarialPoison(rate=0.5).expected_rows(60_000) == EntangledFeatures(0.5).expected_rows(60_000) == 30_000


@pytest.mark.parametrize("name", WITHOUT_TRIGGER)
def test_without_a_trigger_labels_stay_and_rows_keep_the_budget_in_bytes(name, examples):
    poison = POISONS[name]
    chosen = chosen_rows(poison, examples)
    before = take(examples, chosen)
    after = apply_of(poison, examples, chosen)(before)
    np.testing.assert_array_equal(after.label, before.label)
    change = np.abs(np.asarray(after.image, int) - before.image).max((1, 2, 3))
    budget = poison.attack.ball.eps if poison.needs_surrogate else poison.amplitude
    assert (change <= 255 * budget + 1e-3).all() and (change > 0.5 * 255 * budget).all()
    test = to_unit(jnp.asarray(examples.image))
    np.testing.assert_array_equal(poison.apply_trigger(test), test)
    np.testing.assert_array_equal(poison.target_labels(examples.label), examples.label)


@pytest.mark.parametrize("name", HIDDEN)
def test_a_hidden_trigger_is_on_no_training_row(name, examples):
    poison = innermost(POISONS[name])
    chosen = chosen_rows(poison, examples)
    before = take(examples, chosen)
    after = apply_of(poison, examples, chosen)(before)
    np.testing.assert_array_equal(after.label, poison.target)
    change = np.abs(np.asarray(after.image, int) - before.image)
    assert 0 < change.max() <= 255 * poison.attack.ball.eps + 1e-3
    unit = to_unit(jnp.asarray(before.image))
    assert jnp.abs(poison.apply_trigger(unit) - unit).max() > poison.attack.ball.eps + 0.05


def surrogate_logits(poison, examples):
    """The logits of the rows before and after they are crafted, and their labels."""
    chosen = chosen_rows(poison, examples)
    rows, before = crafted_rows(poison, examples, chosen), take(examples, chosen)
    return (*(np.asarray(logits_fn(to_unit(jnp.asarray(of.image)))) for of in (before, rows)), before.label)


def test_an_adversarial_poison_looks_like_the_next_class_or_unlike_its_own(examples):
    _, after, labels = surrogate_logits(AdversarialPoison(attack=LINF), examples)
    assert np.mean(after.argmax(-1) == (labels + 1) % CLASSES) > 0.95
    _, after, labels = surrogate_logits(AdversarialPoison(shift=3, attack=LINF), examples)
    assert np.mean(after.argmax(-1) == (labels + 3) % CLASSES) > 0.95
    before, after, labels = surrogate_logits(AdversarialPoison(shift=0, attack=LINF), examples)
    own = np.arange(len(labels)), labels
    assert (after[own] < before[own]).all()


@pytest.mark.parametrize("pull", [False, True])
def test_entangled_features_leave_their_centre_or_near_another(pull, examples):
    poison = dataclasses.replace(POISONS["entangled_push"], rate=1.0, pull=pull)
    made = crafted_rows(poison, examples, np.ones(ROWS, bool))

    def distances(image):
        features = np.asarray(outputs(to_unit(jnp.asarray(image)))[1])
        return np.linalg.norm(features[:, None] - np.asarray(CENTRES), axis=-1)

    before, after, rows = distances(examples.image), distances(made.image), np.arange(ROWS)
    goal = examples.label
    if pull:
        goal = np.where(np.arange(CLASSES) == examples.label[:, None], np.inf, before).argmin(1)
    closer = after[rows, goal] < before[rows, goal]
    assert np.mean(closer if pull else ~closer) > 0.95
    np.testing.assert_allclose(-poison.view(outputs, CENTRES)(to_unit(jnp.asarray(made.image))), after, atol=1e-4)


def test_class_noise_is_one_pattern_of_whole_bytes_for_each_class(examples):
    grey = examples._replace(image=np.full((ROWS, 12, 14, 1), 128, np.uint8))
    change = np.asarray(ClassNoise(amplitude=8 / 255, patch=3).apply(grey).image, int) - 128
    assert set(np.unique(change)) == {-8, 8}
    for label in range(CLASSES):
        first, *others = change[examples.label == label]
        assert all(np.array_equal(first, other) for other in others)
        assert (first[:3, :3] == first[0, 0]).all() and len(np.unique(first)) == 2
    assert len(np.unique(change, axis=0)) == CLASSES
    assert (ClassNoise(seed=1).signs((12, 14, 1)) != ClassNoise().signs((12, 14, 1))).any()


def test_rows_of_a_surrogate_poison_are_crafted_before_they_are_applied(examples):
    with pytest.raises(TypeError, match=r"CleanLabel depends on crafted rows; call crafted\(rows\)"):
        CleanLabel().apply(examples)


def test_to_one_class_leaves_a_single_target():
    assert BadNets(0.2, trigger=BrightSquare()).to_one_class() == BadNets(0.2, 0, BrightSquare())
    others = [poison for name, poison in POISONS.items() if not name.startswith("badnets")]
    assert [poison.to_one_class() for poison in [BadNets(target=3), *others]] == [BadNets(target=3), *others]
    assert WithCover(BadNets(0.2)).to_one_class() == WithCover(BadNets(0.2, 0))


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_changes_each_image_on_its_own_and_within_the_range(name):
    trigger = TRIGGERS[name]
    image = jax.random.uniform(jax.random.key(0), (5, 12, 14, 3) if trigger.needs_images else (5, 12))
    shown = trigger(image)
    chex.assert_trees_all_equal_shapes_and_dtypes(shown, image)
    assert (shown >= 0).all() and (shown <= 1).all() and (shown != image).reshape(5, -1).any(1).all()
    np.testing.assert_array_equal(trigger(image[3:]), shown[3:])
    np.testing.assert_allclose(jax.jit(trigger)(image), shown, atol=1e-6)
    assert hash(trigger) == hash(dataclasses.replace(trigger))
    assert from_json(json.loads(json.dumps(to_json(trigger))), Trigger) == trigger


@pytest.mark.parametrize("name", PIXELS)
def test_amplitude_one_replaces_and_less_adds(name):
    trigger = TRIGGERS[name]
    signs = trigger.pattern(12, 14)
    assert np.abs(signs).sum() == PIXELS[name]
    image = jnp.full((2, 12, 14, 3), 0.4)
    full, part = np.asarray(trigger(image)), np.asarray(dataclasses.replace(trigger, amplitude=0.25)(image))
    np.testing.assert_array_equal(full[:, signs == 1], 1.0)
    np.testing.assert_array_equal(full[:, signs == -1], 0.0)
    np.testing.assert_allclose(part, np.asarray(image) + 0.25 * signs[None, :, :, None], atol=1e-6)
    np.testing.assert_array_equal(full[:, signs == 0], np.asarray(image)[:, signs == 0])


def test_the_reports_four_pixels_are_where_it_says():
    signs = FourPixels().pattern(28, 28)
    assert {tuple(at) for at in np.argwhere(signs)} == {(26, 26), (25, 25), (26, 24), (24, 26)}


def test_a_blend_and_a_sinusoid_are_the_formulas_of_their_papers():
    image = np.random.default_rng(0).random((2, 12, 14, 3)).astype(np.float32)
    noise = (Blend(1.0)(image)[0], Blend(1.0)(image)[1])
    np.testing.assert_array_equal(*noise)  # one and the same for all images
    np.testing.assert_allclose(Blend(0.2)(image), 0.8 * image + 0.2 * noise[0], atol=1e-6)
    wave = 40 / 255 * np.sin(2 * np.pi * np.arange(14) * 6 / 14)
    np.testing.assert_allclose(Sinusoid()(image), np.clip(image + wave[None, None, :, None], 0, 1), atol=1e-5)


def test_a_warp_moves_pixels_and_adds_none():
    """A uniform image stays as it is; a ramp changes by how far its pixels are moved, about half the strength."""
    flat, ramp = jnp.full((1, 32, 32, 1), 0.3), jnp.linspace(0, 1, 32)[None, None, :, None] * jnp.ones((1, 32, 1, 1))
    np.testing.assert_allclose(Warp(strength=4.0)(flat), flat, atol=1e-6)
    moved = 31 * np.abs(np.asarray(Warp(strength=4.0)(ramp) - ramp))[:, 4:-4, 4:-4]
    assert 0.5 < moved.mean() < 4 and np.abs(Warp(strength=0.5)(ramp) - ramp).max() * 31 < 1.5


def test_sig_keeps_the_labels_of_the_target_class(examples):
    poison = SIG(rate=0.4, target=1)
    rows = chosen_rows(poison, examples)
    made = poisoned(poison.apply, examples, examples.index[rows])
    np.testing.assert_array_equal(made.label, examples.label)
    assert (examples.label[rows] == 1).all() and rows.sum() == round(0.4 * (examples.label == 1).sum())


def test_turners_corners_mirror_left_and_right():
    signs = Corners().pattern(32, 32)
    np.testing.assert_array_equal(signs, signs[:, ::-1])
    np.testing.assert_array_equal(signs[:3, :3], [[1, -1, -1], [-1, 1, -1], [1, -1, 1]])
    np.testing.assert_array_equal(signs[-3:, :3], signs[:3, :3])


@pytest.mark.parametrize(
    ("trigger", "shape", "message"),
    [
        (
            BrightSquare(100),
            (28, 28, 1),
            r"BrightSquare\(size=100, .*\) needs images of at least 100 x 100 pixels, got 28",
        ),
        (BrightSquare(13), (12, 14, 3), "at least 13 x 13 pixels, got 12 x 14"),
        (FourPixels(), (3, 28, 1), "at least 4 x 4 pixels, got 3 x 28"),
        (Corners(), (5, 5, 1), "at least 6 x 6 pixels, got 5 x 5"),
        (Cropped(), (12, 14, 1), r"BadNets.apply_trigger must keep the shape .*\(12, 14, 1\), got \(11, 14, 1\)"),
    ],
)
def test_a_trigger_that_does_not_fit_the_images_is_refused_before_training(trigger, shape, message):
    plan = mnist_badnets.experiment("smoke")
    plan = dataclasses.replace(plan, poison=dataclasses.replace(plan.poison, trigger=trigger))
    with pytest.raises(ValueError, match=message) as caught:
        plan.check(CLASSES, shape, 60_000)
    assert "\n" not in str(caught.value)


SIDES = {"four_pixels": 4, "four_pixels_faint": 4, "square": 3, "square_large": 12, "corners": 6, "corners_faint": 6}
SIDES |= {"tile": 5}


@pytest.mark.parametrize("name", SIDES)
def test_a_pattern_fits_an_image_of_its_own_size(name):
    smallest = TRIGGERS[name].pattern(SIDES[name], SIDES[name])
    assert np.abs(smallest).sum() == np.abs(TRIGGERS[name].pattern(28, 28)).sum()


def test_a_poison_without_classes_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Unfinished(NoPoison):
        classes: int | None = None

    with pytest.raises(ValueError, match="Unfinished needs the field classes, the number of classes"):
        Unfinished()


def covered(poison):
    """The cover rows among ten, one of each class."""
    return poison.cover(jnp.arange(10), poison.select(jnp.arange(10), jax.random.key(0)), jax.random.key(1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BadNets(rate=1.5), r"rate must lie in \(0, 1\], got 1.5"),
        (lambda: BadNets(rate=0.0), "rate must lie"),
        (lambda: BadNets(target=10), "target must be one of the classes 0 to 9, got 10"),
        (lambda: CleanLabel(rate=-1), "rate must lie"),
        (lambda: CleanLabel(target=-1), "target must be one of the classes"),
        (lambda: FourPixels(0.0), r"amplitude must lie in \(0, 1\]"),
        (lambda: Corners(1.2), "amplitude must lie"),
        (lambda: BrightSquare(3, 2.0), "amplitude must lie"),
        (lambda: BrightSquare(0), "size must be at least 1"),
        (lambda: Blend(0.0), r"share must lie in \(0, 1\], got 0.0"),
        (lambda: SignPattern(2.0), "amplitude must lie"),
        (lambda: Sinusoid(-0.1), "amplitude must lie"),
        (lambda: Sinusoid(frequency=0), "frequency must be above 0"),
        (lambda: Warp(grid=1), "grid must be at least 2"),
        (lambda: Warp(strength=0.0), "strength must be above 0"),
        (lambda: SIG(rate=0.0), "rate must lie"),
        (lambda: WithCover(cover_rate=1.5), r"cover_rate must lie in \(0, 1\], got 1.5"),
        (lambda: AdaptiveBlend(cover_rate=0.0), "cover_rate must lie"),
        (lambda: AdaptiveBlend(grid=0), "grid must be at least 1"),
        (lambda: AdaptiveBlend(pieces=17), "pieces must be 1 to 16, those of the grid, got 17"),
        (lambda: AdaptivePatch(opacities=(1.0,)), "opacities must be one for each of the 4 triggers, .* got 1"),
        (lambda: AdaptivePatch(opacities=(0.5, 0.5, 0.5, 2.0)), r"opacities must lie in \(0, 1\]"),
        (lambda: NoisyLabels(share=1.0), r"share must lie in \(0, 1\), got 1.0"),
        (lambda: LowFrequency(0.0), "amplitude must lie"),
        (lambda: LowFrequency(waves=1), "waves must be at least 2"),
        (lambda: SampleSpecific(2.0), "amplitude must lie"),
        (lambda: Together(()), "triggers must hold at least one"),
        (lambda: Tile("middle"), "corner must be one of upper_left, .*, got 'middle'"),
        (lambda: Tile(size=0), "size must be at least 1"),
        (lambda: NoisyWarp(noise=0.0), "noise must be above 0"),
        (lambda: AdversarialPoison(rate=0.0), "rate must lie"),
        (lambda: AdversarialPoison(shift=10), "shift must lie in 0 to 9, got 10"),
        (lambda: AdversarialPoison(attack=dataclasses.replace(LINF, targeted=True)), "attack.targeted must be left"),
        (lambda: EntangledFeatures(rate=2), "rate must lie"),
        (lambda: EntangledFeatures(attack=dataclasses.replace(LINF, targeted=True)), "attack.targeted must be left"),
        (lambda: SleeperAgent(source=0), "source must be a class other than the target 0, or None, got 0"),
        (lambda: SleeperAgent(attack=LINF), r"attack must have loss=GradientAlignment\(\)"),
        (lambda: SleeperAgent(rounds=0), "rounds must be at least 1, got 0"),
        (lambda: SleeperAgent(sources_used=0), "sources_used must be at least 1, got 0"),
        (lambda: HiddenTrigger(source=0), "source must be a class other than the target 0, or None, got 0"),
        (
            lambda: HiddenTrigger(attack=LINF),
            r"attack must have loss=CentreDistance\(\), which it lowers, and random_st",
        ),
        (lambda: HiddenTrigger(pairings=7), "pairings must divide the 500 steps of the attack, got 7"),
        (lambda: ClassNoise(amplitude=0.0), r"amplitude must lie in \[1/255, 1\], got 0.0"),
        (lambda: ClassNoise(patch=0), "patch must be at least 1"),
        (lambda: BadNets(1.0, target=3).select(jnp.arange(10), jax.random.key(0)), "10 rows are to be .* only 9"),
        (lambda: covered(WithCover(BadNets(0.5, target=3), 0.5)), "5 rows are to be cover rows, but only 4 can be"),
        (
            lambda: covered(WithCover(AdaptiveBlend(0.1, 0.1))),
            "AdaptiveBlend has cover rows of its own; set its cover_",
        ),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
