"""The contract of all attacks: what they declare, what they accept and refuse, and what a user's own may leave out."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax import attacks
from poisonjax.attacks import (
    APGD,
    FAB,
    L0,
    L1,
    L2,
    LBFGS,
    PGD,
    ROA,
    Attack,
    AutoAttack,
    Ball,
    Boundary,
    CarliniWagner,
    CarliniWagnerLinf,
    CrossEntropy,
    HopSkipJump,
    KLDivergence,
    Linf,
    Loss,
    LossAttack,
    Patch,
    PatchAttack,
    Square,
    TargetedAPGD,
    bim,
    check_inputs,
    fgsm,
    presets,
    transfer,
)
from poisonjax.types import Cost

MEMBERS = [
    PGD(Linf(0.1), 0.05, 2),
    APGD(Linf(0.1), 2),
    TargetedAPGD(Linf(0.1), 2, targets=2),
    FAB("L2", 2, 2),
    FAB("Linf", 2, 2, eps=0.1),
    Square(Linf(0.1), 3),
    AutoAttack(Linf(0.1), steps=2, targets=2, queries=3),
    CarliniWagner(steps=2, searches=2),
    CarliniWagnerLinf(steps=2),
    LBFGS(2, 2),
    Boundary(20, 2),
    HopSkipJump("L2", 60, 2),
    Patch(2, steps=2, batch=2),
    PatchAttack(2, search=PGD(Linf(1.0), 0.2, 2)),
    ROA(2, places=3, steps=2),
]
each_member = pytest.mark.parametrize("attack", MEMBERS, ids=lambda attack: type(attack).__name__)
RNG = np.random.default_rng(0)
X, Y, KEY = RNG.random((5, 6, 7, 1), np.float32), np.arange(5) % 4, jax.random.key(0)
WEIGHTS = RNG.normal(size=(42, 4)).astype(np.float32)


def logits_fn(x):
    return x.reshape(len(x), -1) @ WEIGHTS


def concrete(base):
    return {kind for kind in vars(attacks).values() if inspect.isclass(kind) and issubclass(kind, base)} - {
        kind for kind in vars(attacks).values() if inspect.isabstract(kind)
    }


def test_every_attack_is_in_the_table():
    assert {type(attack) for attack in MEMBERS} == concrete(Attack)
    assert concrete(Ball) == {Linf, L2, L1, L0} and len(concrete(Loss)) == 4


@each_member
def test_attacks_declare_what_others_rely_on(attack):
    assert dataclasses.is_dataclass(attack) and hash(attack) == hash(dataclasses.replace(attack))
    assert isinstance(attack.cost, Cost) and min(attack.cost) >= 0 and sum(attack.cost) > 0
    assert attack.ball is None or isinstance(attack.ball, Ball)
    assert isinstance(attack.climbs, bool) and isinstance(attack.single_step, bool)
    assert all(isinstance(name, str) and isinstance(stage, Attack) for name, stage in attack.stages)
    if isinstance(attack, LossAttack):
        assert isinstance(attack.loss, Loss) and attack.steps >= 1 and isinstance(attack.random_start, bool)
        assert 0 < attack.max_distance <= attack.ball.eps


@each_member
def test_rows_of_features_are_attacked_or_refused_in_one_line(attack):
    rows = jnp.asarray(X.reshape(5, 42))
    if getattr(attack, "needs_images", False):
        with pytest.raises(ValueError, match=r"x must be images of shape \[b h w c\], got shape \[5, 42\]"):
            attack(logits_fn, rows, Y, KEY)
        return
    x_adv = attack(logits_fn, rows, Y, KEY)
    assert x_adv.shape == rows.shape and x_adv.min() >= 0 and x_adv.max() <= 1
    if attack.ball is not None:
        np.testing.assert_allclose(attack.ball.project(x_adv - rows, attack.ball.eps), x_adv - rows, atol=1e-6)


def test_only_iterative_untargeted_gradient_attacks_that_cross_the_ball_climb():
    ball = Linf(0.1)
    climbing = [PGD(ball, 0.05, 2), PGD(ball), APGD(ball), TargetedAPGD(ball), FAB(eps=0.1)]
    others = [fgsm(ball), PGD(ball, 0.05, 1), PGD(ball, 0.01, 5), PGD(ball, 0.05, 5, targeted=True), Square(ball)]
    assert all(attack.climbs and not attack.single_step for attack in climbing)
    assert not any(attack.climbs for attack in [*others, transfer(logits_fn, PGD(ball))])
    assert [attack.single_step for attack in others] == [True, True, False, False, False]


TYPES = {  # refused when a program is compiled
    "uint8": (np.uint8(X * 255), Y, KEY, "x must be floating images in [0, 1], got uint8; divide by 255"),
    "int": (np.int32(X * 255), Y, KEY, "x must be floating images in [0, 1], got int32; divide by 255"),
    "bool": (X > 0.5, Y, KEY, "x must be floating images in [0, 1], got bool"),
    "no batch axis": (X[0], Y, KEY, "shape [6, 7, 1]"),
    "no batch axis at all": (X[0], Y[0], KEY, "shape [6, 7, 1]"),
    "one-hot": (
        X,
        np.eye(4, dtype=int)[Y],
        KEY,
        "of shape [5, 4] for x of shape [5, 6, 7, 1]; take argmax(-1) of one-hot labels",
    ),
    "floats one-hot": (X, np.eye(4, dtype=np.float32)[Y], KEY, "y must be integer labels, one per image, got float32"),
    "short labels": (X, Y[:4], KEY, "got int32 of shape [4] for x of shape [5, 6, 7, 1]"),
    "float labels": (X, np.float32(Y), KEY, "y must be integer labels, one per image, got float32 of shape [5]"),
    "few keys": (X, Y, jax.random.split(KEY, 3), "key must be one key or one per image (5), got shape [3]"),
    "int array": (X, Y, jnp.zeros(2, int), "key must be a JAX random key, as jax.random.key(0), got an array of int32"),
}
VALUES = {  # refused where the values are known
    "0 to 255": (X * 255, Y, KEY, "x must be images in [0, 1], got values from"),
    "normalised": ((X - 0.5) / 0.2, Y, KEY, "rescale it, and normalise inside logits_fn"),
    "nan": (np.where(X > 0.5, np.nan, X), Y, KEY, "x must be images in [0, 1], got values from nan to nan"),
    "negative label": (X, Y - 1, KEY, "y must not be negative, got -1"),
    "number for a key": (X, Y, 0, "key must be a JAX random key, as jax.random.key(0), got 0"),
    "no key": (X, Y, None, "key must be a JAX random key, as jax.random.key(0), got None"),
    "no array": ("cat.png", Y, KEY, "x must be an array, got str"),
}


def refusal(call, *arguments):
    with pytest.raises(ValueError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@each_member
@pytest.mark.parametrize("case", [*TYPES, *VALUES])
def test_invalid_input_raises_one_line(attack, case):
    *arguments, message = (TYPES | VALUES)[case]
    assert message in refusal(lambda *rows: attack(logits_fn, *rows), *arguments)


@pytest.mark.parametrize("case", TYPES)
def test_types_are_checked_when_a_program_is_compiled(case):
    *arguments, message = TYPES[case]
    assert message in refusal(lambda *rows: jax.eval_shape(lambda *r: MEMBERS[0](logits_fn, *r), *rows), *arguments)


@pytest.mark.parametrize("attack", [Square(Linf(0.1)), AutoAttack(Linf(0.1)), Patch(2), PatchAttack(2), ROA(2)])
def test_attacks_on_pixels_need_height_width_and_channels(attack):
    assert "x must be images of shape [b h w c], got shape [5, 42]" in refusal(
        attack, logits_fn, X.reshape(5, -1), Y, KEY
    )


@pytest.mark.parametrize(
    "attack",
    [
        *(attack for attack in MEMBERS if not isinstance(attack, Square | AutoAttack | Patch | PatchAttack | ROA)),
        *(PGD(ball, 0.05, 2) for ball in (L2(0.5), L1(1.0))),
        *(FAB("Linf", 2, 2, restarts=2), HopSkipJump("Linf", 60, 2), PGD(Linf(0.1), momentum=0.5)),
    ],
)
def test_rows_may_have_any_shape(attack):
    """Tabular rows [b d] are attacked as the images [b h w c] of the same values."""
    as_image, as_table = (jax.jit(lambda x, y: attack(logits_fn, x, y, KEY))(x, Y) for x in (X, X.reshape(5, -1)))
    np.testing.assert_allclose(as_table, as_image.reshape(5, -1), atol=1e-5)


def test_legacy_keys_are_the_keys_of_today():
    for legacy, key in ((jax.random.PRNGKey(3), jax.random.key(3)),) * 2:
        np.testing.assert_array_equal(*(attacks.PGD(Linf(0.1))(logits_fn, X, Y, k) for k in (legacy, key)))
        legacy, key = (jax.random.split(k, 5) for k in (legacy, key))
        np.testing.assert_array_equal(*(attacks.PGD(Linf(0.1))(logits_fn, X, Y, k) for k in (legacy, key)))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_images_are_attacked_in_single_precision(dtype):
    x = jnp.asarray(X, dtype)
    x_adv = PGD(Linf(0.1))(logits_fn, x, Y.astype(np.uint8), KEY)
    assert x_adv.dtype == jnp.float32
    np.testing.assert_array_equal(x_adv, PGD(Linf(0.1))(logits_fn, x.astype(jnp.float32), Y, KEY))


def test_checks_add_nothing_to_a_program():
    keys = jax.random.split(KEY, 5)
    jaxpr = jax.make_jaxpr(check_inputs)(jnp.asarray(X), jnp.asarray(Y, jnp.int32), keys)
    assert not jaxpr.eqns


def test_values_that_a_program_closes_over_are_checked():
    x, x_bad = jnp.asarray(X), jnp.asarray(X) * 255
    jax.jit(lambda key: MEMBERS[0](logits_fn, x, Y, key))(KEY)
    assert "got values from" in refusal(jax.jit(lambda key: MEMBERS[0](logits_fn, x_bad, Y, key)), KEY)


@pytest.mark.parametrize("attack", [PGD(Linf(0.1), 0.02, 5), APGD(Linf(0.1), 5, best_loss=True)])
def test_a_loss_says_whether_it_takes_probabilities(attack):
    divergence = dataclasses.replace(attack, loss=KLDivergence())
    p = jax.nn.softmax(logits_fn(X))
    x_adv = divergence(logits_fn, X, p, KEY)
    assert np.all(KLDivergence()(logits_fn(x_adv), p) > 0.01)
    assert "y must be integer labels" in refusal(attack, logits_fn, X, p, KEY)
    assert "y must be probabilities [b k], as the loss takes them, got int32" in refusal(
        divergence, logits_fn, X, Y, KEY
    )
    assert "y must be probabilities" in refusal(divergence, logits_fn, X, p[:4], KEY)


# Settings.


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PGD("Linf", 0.1, 1), "ball must be Ball, as Linf(8/255), got 'Linf'"),
        (lambda: APGD("Linf"), "ball must be Ball, as Linf(8/255), got 'Linf'"),
        (lambda: TargetedAPGD(0.1), "ball must be Ball, as Linf(8/255), got 0.1"),
        (lambda: Square(L1(3.0)), "ball must be Linf or L2, as Linf(8/255), got L1(eps=3.0, share=0.01)"),
        (lambda: AutoAttack(L0(3)), "ball must be Linf or L2, as Linf(8/255), got L0(eps=3)"),
        (lambda: PGD(Linf(0.1), loss="ce"), "loss must be Loss, as CrossEntropy(), got 'ce'"),
        (lambda: PGD(Linf(0.1), "0.1"), "step must be a number, got '0.1'"),
        (lambda: PGD(Linf(0.1), 0.1, 2.5), "steps must be a whole number, got 2.5"),
        (lambda: PGD(Linf(0.1), 0.1, "9"), "steps must be a number, got '9'"),
        (lambda: PGD(L0(3)), "step must be given for L0"),
        (lambda: Linf("8/255"), "eps must be a number, got '8/255'"),
        (lambda: L2("1"), "eps must be a number, got '1'"),
        (lambda: L1(None), "eps must be a number, got None"),
        (lambda: L0([1]), "eps must be a number, got [1]"),
        (lambda: L2(float("nan")), "eps must be a number that is not negative, got nan"),
        (lambda: transfer(logits_fn, "pgd"), "attack must be Attack, as PGD(Linf(8/255)), got 'pgd'"),
        (lambda: PatchAttack(2, search=Square(Linf(1.0))), "search must be LossAttack"),
        (lambda: ROA(2, ball=L2(1.0)), "ball must be Linf, as Linf(1.0), got L2(eps=1.0)"),
        (lambda: presets.bounded("pdg", Linf(0.1)), "attack must be one of fgsm, bim, pgd,"),
        (lambda: presets.minimal("boundary", "Linf"), "norm must be L2 for boundary, got 'Linf'"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    assert message in refusal(build)


def test_the_usual_step_follows_ball_and_steps():
    attack = PGD(Linf(8 / 255))
    assert (attack.step, attack.steps, attack.step_size) == (None, 40, pytest.approx(2.5 * 8 / 255 / 40))
    assert dataclasses.replace(attack, steps=10).step_size == pytest.approx(2.5 * 8 / 255 / 10)
    assert dataclasses.replace(attack, ball=L2(2.0)).step_size == pytest.approx(2.5 * 2 / 40)
    assert attack.max_distance == bim(Linf(8 / 255)).max_distance == 8 / 255 and attack.climbs
    given = PGD(Linf(8 / 255), attack.step_size, 40)
    np.testing.assert_array_equal(*(each(logits_fn, X, Y, KEY) for each in (attack, given)))
    np.testing.assert_array_equal(PGD(Linf(0.0))(logits_fn, X, Y, KEY), X)


@pytest.mark.parametrize("norm", presets.BALLS)
def test_presets_are_attacks_of_their_ball(norm):
    ball = presets.BALLS[norm](0.1)
    assert all(presets.bounded(name, ball).ball == ball for name in presets.BOUNDED)
    assert all(presets.minimal(name).ball is None for name in presets.MINIMAL)
    assert presets.minimal("carlini_wagner", norm) == (CarliniWagner() if norm == "L2" else CarliniWagnerLinf())


# What users write.


@dataclasses.dataclass(frozen=True)
class UpperHalf(Ball):
    """Changes of the upper half of the images alone."""

    eps: float

    def project(self, delta, radius):
        upper = jnp.arange(delta.shape[1]) < delta.shape[1] // 2
        return Linf(self.eps).project(delta, radius) * upper[:, None, None]

    def steepest(self, gradient):
        return Linf(self.eps).steepest(gradient)

    def sample(self, keys, shape):
        return Linf(self.eps).sample(keys, shape)

    def max_radius(self, shape):
        return 1.0


@dataclasses.dataclass(frozen=True)
class Confidence(Loss):
    """Minus the logit of the label."""

    def __call__(self, logits, labels):
        return -jnp.take_along_axis(logits, labels[:, None], -1)[:, 0]


@dataclasses.dataclass(frozen=True)
class Grey(Attack):
    """The images in grey."""

    def __call__(self, logits_fn, x, y, key):
        x, _, _ = check_inputs(x, y, key)
        return jnp.full_like(x, 0.5)

    @property
    def cost(self):
        return Cost()


@dataclasses.dataclass(frozen=True)
class Noise(Attack):
    """Uniform noise."""

    ball: Ball

    def __call__(self, logits_fn, x, y, key):
        x, _, keys = check_inputs(x, y, key)
        return jnp.clip(x + self.ball.eps * self.ball.sample(keys, x.shape[1:]), 0, 1)

    @property
    def cost(self):
        return Cost()


def test_a_users_ball_and_loss_work_in_our_attacks():
    change = np.abs(PGD(UpperHalf(0.1), loss=Confidence())(logits_fn, X, Y, KEY) - X)
    assert 0.09 < change[:, :3].max() < 0.11 and not change[:, 3:].any()


def test_a_users_attack_declares_a_ball_or_has_none():
    assert Grey().ball is None and Grey().stages == () and not Grey().climbs
    assert Noise(Linf(0.1)).ball == Linf(0.1)
    with pytest.raises(TypeError, match="ball"):
        Noise()
    assert np.abs(Noise(Linf(0.1))(logits_fn, X, Y, KEY) - X).max() <= 0.1 + 1e-6
    assert CrossEntropy.takes_probabilities is False
