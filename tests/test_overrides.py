"""Settings as text: what is legal is set, anything else is one line that says what is allowed."""

import dataclasses
import json

import pytest

from experiments import mnist_badnets, mnist_clean_label
from poisonjax.attacks import APGD, L2, PGD, Linf, Margin
from poisonjax.models import MadryCNN, ResNet18
from poisonjax.overrides import override, to_json
from poisonjax.poisons import Square


@pytest.fixture(scope="module")
def plan():
    return mnist_clean_label.experiment("paper")


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("poison.rate=.05", lambda e: e.poison.rate, 0.05),
        ("poison.target=3", lambda e: e.poison.target, 3),
        ("poison.attack.ball.eps=2.5", lambda e: e.poison.attack.ball, L2(2.5)),
        ("poison.attack.ball=Linf(8/255)", lambda e: e.poison.attack.ball, Linf(8 / 255)),
        ("poison.trigger=Square(size=4, amplitude=.5)", lambda e: e.poison.trigger, Square(4, 0.5)),
        ("train.attack.ball.eps=8/255", lambda e: e.train.attack.ball.eps, 8 / 255),
        ("train.attack.random_start=true", lambda e: e.train.attack.random_start, True),
        ("train.attack.loss=Margin()", lambda e: e.train.attack.loss, Margin()),
        ("train.attack=APGD(Linf(.2), best_loss=true)", lambda e: e.train.attack, APGD(Linf(0.2), best_loss=True)),
        ("train.max_steps=7", lambda e: e.train.max_steps, 7),
        ("train.max_steps=none", lambda e: e.train.max_steps, None),
        ("evaluation.attack=PGD(L2(2), step=.5, steps=3)", lambda e: e.evaluation.attack, PGD(L2(2.0), 0.5, 3)),
        ("model=MadryCNN()", lambda e: e.model, MadryCNN()),
        ("model.width=512", lambda e: e.model.width, 512),
        ("model=ResNet18(sync_batch_norm=false)", lambda e: e.model, ResNet18(sync_batch_norm=False)),
        ("arms.pgd_at.poisoned=false", lambda e: e.arms[1].poisoned, False),
        ("data.train=Unbalanced(minority=100)", lambda e: e.data.train.minority, 100),
    ],
)
def test_legal_settings_are_set_and_nothing_else(plan, text, read, value):
    changed = override(plan, text)
    assert read(changed) == value
    path = text.split("=")[0].split(".")[0]
    others = [field.name for field in dataclasses.fields(plan) if field.name != path]
    assert all(getattr(changed, name) == getattr(plan, name) for name in others)


def test_all_to_all_is_none():
    plan = mnist_badnets.experiment("small")
    assert override(plan, "poison.target=0").poison.target == 0
    assert override(override(plan, "poison.target=0"), "poison.target=none") == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poison.rate", "section.field=value"),
        ("poison.rate=", "section.field=value"),
        ("poison.rat=.1", "poison has no field 'rat'; it has rate, target, trigger"),
        ("poisons.rate=.1", "the experiment has no field 'poisons'; it has name"),
        ("poison.rate.x=1", "poison.rate is a single value"),
        ("poison.rate=many", "poison.rate must be a number, got 'many'"),
        ("poison.rate=nan", "poison.rate must be a number, got 'nan'"),
        ("poison.rate=1.5", r"rate must lie in \(0, 1\], got 1.5"),
        ("poison.target=10", "target must be one of the classes 0 to 9, got 10"),
        ("poison.target=1.5", "poison.target must be a whole number, got '1.5'"),
        ("train.attack.ball.eps=8", r"eps must lie in \[0, 1\] for images in \[0, 1\] \(8/255 is 0.0314\), got 8"),
        ("train.attack.ball=L3(1)", r"must be Linf\(...\) or L2\(...\) or L1\(...\) or L0\(...\), got 'L3\(1\)'"),
        ("train.attack.ball=Linf(radius=1)", "Linf has no field 'radius'; it has eps"),
        ("train.attack.random_start=maybe", "must be true or false, got 'maybe'"),
        ("train.attack.steps=0", "steps must be at least 1"),
        ("train.batch=0", "batch must be above 0"),
        ("train.epochs=none", "train.epochs must be a whole number, got 'none'"),
        ("train.warmup=2", "warmup is a share"),
        ("poison.classes=12", "poison.classes is 12, but model.classes is 10"),
        ("surrogate=none", "needs surrogate"),
        ("arms.trades.poisoned=true", "arms has no 'trades'; it has standard, pgd_at, pgd_at_madry, pgd"),
        ("evaluation.gate=50", "gate is a fraction"),
        ("model=ResNet()", "model must be "),
    ],
)
def test_bad_settings_are_one_line_that_says_what_is_allowed(plan, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        override(plan, text)
    assert "\n" not in str(caught.value)


def test_json_is_the_same_for_the_same_settings_and_readable(plan):
    text = json.dumps(to_json(plan))
    assert text == json.dumps(to_json(mnist_clean_label.experiment("paper")))
    made = json.loads(text)
    assert made["poison"]["attack"]["ball"] == {"type": "L2", "eps": 5.0}
    assert made["model"] == {"type": "ReportCNN", "width": 128, "classes": 10, "dtype": "float32"}
    assert " at 0x" not in text
