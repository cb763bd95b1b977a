"""Settings as text and as JSON: what is legal is set and comes back, anything else is one line that says what to do."""

import dataclasses
import importlib.util
import json
import re
import sys
import textwrap
import typing

import pytest

from experiments import cifar10_activations, mnist_attacks, mnist_badnets, mnist_clean_label
from poisonjax.analyses import Activations, AdversarialExample
from poisonjax.attacks import APGD, L2, PGD, Linf, Margin
from poisonjax.data.subsets import Unbalanced
from poisonjax.experiment import Arm, Experiment
from poisonjax.models import MadryCNN, ReportCNN, ResNet18
from poisonjax.models.network import Network
from poisonjax.overrides import from_json, members, override, parse, to_json, type_name
from poisonjax.poisons import BadNets, BrightSquare, Corners, Trigger
from poisonjax.training import SGD, Adam, AdversarialTraining, Cosine, CropFlip, Cyclic

USER_MODULE = """
    import dataclasses
    from typing import ClassVar, NamedTuple

    import flax.linen as nn
    import jax.numpy as jnp
    import numpy as np
    import optax

    from poisonjax.attacks import PGD, Linf, Margin
    from poisonjax.data.subsets import Subset
    from poisonjax.defences import Defence
    from poisonjax.evaluation.analysis import Analysis
    from poisonjax.models.network import Network
    from poisonjax.poisons import BadNets, Trigger
    from poisonjax.training import Augmentation, Objective, Optimizer, Schedule
    from poisonjax.types import take


    @dataclasses.dataclass(frozen=True)
    class Sinus(Trigger):
        amplitude: float = 0.1
        frequency: int = 6

        def __call__(self, image):
            wave = np.sin(2 * np.pi * self.frequency * np.arange(image.shape[2]) / image.shape[2])
            return jnp.clip(image + self.amplitude * wave[:, None], 0, 1)


    @dataclasses.dataclass(frozen=True)
    class Twice(BadNets):
        trigger: Trigger = Sinus()
        again: bool = True


    class UsersNetwork(Network):
        hidden: int = 8
        classes: int = 10

        @nn.compact
        def __call__(self, x, train=False, keys=None):
            features = nn.relu(nn.Dense(self.hidden)(x.reshape(len(x), -1)))
            return nn.Dense(self.classes)(features), features


    @dataclasses.dataclass(frozen=True)
    class Jump(PGD):
        height: float = 1.0


    @dataclasses.dataclass(frozen=True)
    class Half(Linf):
        pass


    @dataclasses.dataclass(frozen=True)
    class Gap(Margin):
        pass


    @dataclasses.dataclass(frozen=True)
    class Scaled(Objective):
        factor: float

        def __call__(self, network, x, y, keys, progress):
            raise NotImplementedError


    @dataclasses.dataclass(frozen=True)
    class Halves(Schedule):
        times: int = 2

        def __call__(self, learning_rate, steps):
            return optax.exponential_decay(learning_rate, steps // self.times, 0.5, staircase=True)


    @dataclasses.dataclass(frozen=True)
    class Lion(Optimizer):
        learning_rate: float = 1e-4
        schedule: Schedule = Halves()

        def __call__(self, steps):
            return optax.lion(self.schedule(self.learning_rate, steps))


    @dataclasses.dataclass(frozen=True)
    class Invert(Augmentation):
        def __call__(self, image, keys):
            return 255 - image


    @dataclasses.dataclass(frozen=True)
    class Every(Subset):
        step: int

        def __call__(self, examples):
            return take(examples, slice(None, None, self.step))


    @dataclasses.dataclass(frozen=True)
    class Trim(Defence):
        share: float = 0.1


    class Seen(NamedTuple):
        mean: np.ndarray


    @dataclasses.dataclass(frozen=True)
    class Brightness(Analysis):
        images: int = 5
        name: ClassVar[str] = "brightness"
        heading: ClassVar[str] = "Brightness"
        arrays: ClassVar[type] = Seen

        def collect(self, subject):
            return Seen(np.asarray(subject.examples.image[: self.images].mean()))
"""

# family: where one of it stands in an experiment, and a member of the user's own
USERS = {
    "trigger": ("poison.trigger", "Sinus(.3, frequency=3)"),
    "poison": ("poison", "Twice(.2, trigger=Sinus(.3))"),
    "network": ("model", "UsersNetwork(hidden=16)"),
    "attack": ("evaluation.attack", "Jump(Linf(8/255), .1, 3, height=2)"),
    "ball": ("evaluation.attack.ball", "Half(.2)"),
    "loss": ("evaluation.attack.loss", "Gap()"),
    "objective": ("arms.pgd_at.objective", "Scaled(2)"),
    "optimizer": ("train.optimizer", "Lion(1e-3)"),
    "schedule": ("train.optimizer.schedule", "Halves(3)"),
    "augmentation": ("train.augment", "Invert()"),
    "subset": ("data.train", "Every(2)"),
    "defence": ("arms.pgd_at.defence", "Trim(.2)"),
    "analysis": ("analyses", "Brightness(3)"),
}


def loaded(folder, name, source):
    """A module of the user's own, loaded from a file that is not on sys.path."""
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    yield loaded(tmp_path_factory.mktemp("user"), "my_types", USER_MODULE)
    del sys.modules["my_types"]


@pytest.fixture(scope="module")
def plan():
    return mnist_clean_label.experiment("paper")


def through_json(config):
    return from_json(json.loads(json.dumps(to_json(config))), type(config))


def at(config, path):
    """The part of a config at a path; of a tuple, the element of that name, or the only one."""
    for name in path.split("."):
        by_name = {item.name: item for item in config} if isinstance(config, tuple) else {}
        config = by_name[name] if by_name else getattr(config, name)
    return config[0] if isinstance(config, tuple) else config


def pgd_at(plan):
    return next(arm for arm in plan.arms if arm.name == "pgd_at")


def refused(change, message):
    """The call raises a ValueError of one line that matches."""
    with pytest.raises(ValueError, match=message) as caught:
        change()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("poison.rate=.05", lambda e: e.poison.rate, 0.05),
        ("poison.target=3", lambda e: e.poison.target, 3),
        ("poison.attack.ball.eps=2.5", lambda e: e.poison.attack.ball, L2(2.5)),
        ("poison.attack.ball=Linf(8/255)", lambda e: e.poison.attack.ball, Linf(8 / 255)),
        ("poison.trigger=BrightSquare(size=4, amplitude=.5)", lambda e: e.poison.trigger, BrightSquare(4, 0.5)),
        ("poison.trigger=poisonjax.poisons.triggers:Corners(.5)", lambda e: e.poison.trigger, Corners(0.5)),
        ("poison=BadNets(.2, none, BrightSquare(2))", lambda e: e.poison, BadNets(0.2, None, BrightSquare(2))),
        ("arms.pgd_at.objective.attack.ball.eps=8/255", lambda e: pgd_at(e).objective.attack.ball.eps, 8 / 255),
        ("arms.pgd_at.objective.attack.random_start=false", lambda e: pgd_at(e).objective.attack.random_start, False),
        ("arms.pgd_at.objective.attack.loss=Margin()", lambda e: pgd_at(e).objective.attack.loss, Margin()),
        (
            "arms.pgd_at.objective.attack=APGD(Linf(.2), best_loss=true)",
            lambda e: pgd_at(e).objective.attack,
            APGD(Linf(0.2), best_loss=True),
        ),
        (
            "arms.pgd_at.objective=AdversarialTraining(PGD(Linf(.1), .01, 5), eps_warmup=.5)",
            lambda e: pgd_at(e).objective,
            AdversarialTraining(PGD(Linf(0.1), 0.01, 5), 0.5),
        ),
        ("arms.pgd_at.model=MadryCNN()", lambda e: pgd_at(e).model, MadryCNN()),
        ("train.max_steps=7", lambda e: e.train.max_steps, 7),
        ("train.max_steps=none", lambda e: e.train.max_steps, None),
        ("train.optimizer=SGD(.2, schedule=Cyclic(.3))", lambda e: e.train.optimizer, SGD(0.2, schedule=Cyclic(0.3))),
        ("train.augment=CropFlip(2)", lambda e: e.train.augment, CropFlip(2)),
        ("evaluation.attack=PGD(L2(2), step=.5, steps=3)", lambda e: e.evaluation.attack, PGD(L2(2.0), 0.5, 3)),
        ("model=MadryCNN()", lambda e: e.model, MadryCNN()),
        ("model=MadryCNN((8, 16), 32)", lambda e: e.model, MadryCNN((8, 16), 32)),
        ("model.width=512", lambda e: e.model.width, 512),
        ("model=ResNet18(sync_batch_norm=false)", lambda e: e.model, ResNet18(sync_batch_norm=False)),
        ("model=ReportCNN(dtype='bfloat16')", lambda e: e.model, ReportCNN(dtype="bfloat16")),
        ("arms.pgd_at.poisoned=false", lambda e: pgd_at(e).poisoned, False),
        (
            "arms=Arm(standard), Arm('other-2', poisoned=false)",
            lambda e: e.arms,
            (Arm("standard"), Arm("other-2", poisoned=False)),
        ),
        ("data.train=Unbalanced(minority=100)", lambda e: e.data.train, Unbalanced(100)),
        (
            "analyses=Activations(per_class=20), AdversarialExample()",
            lambda e: e.analyses,
            (Activations(20), AdversarialExample()),
        ),
        ("analyses=()", lambda e: e.analyses, ()),
        ("title=a,b: BrightSquare(1)", lambda e: e.title, "a,b: BrightSquare(1)"),
    ],
)
def test_legal_settings_are_set_and_nothing_else(plan, text, read, value):
    changed = override(plan, text)
    assert read(changed) == value
    path = text.split("=")[0].split(".")[0]
    others = [field.name for field in dataclasses.fields(plan) if field.name != path]
    assert all(getattr(changed, name) == getattr(plan, name) for name in others)


def test_an_analysis_is_addressed_by_its_name():
    plan = cifar10_activations.experiment("small")
    assert override(plan, "analyses.activations.per_class=40").analyses[0].per_class == 40
    assert override(plan, "analyses.activations=Activations(30)").analyses[0] == Activations(30)


def test_elements_of_plain_tuples_are_set_together():
    model = MadryCNN()
    assert [override(model, f"filters={text}").filters for text in ("(8,16)", "8, 16", "8")] == [(8, 16), (8, 16), (8,)]
    refused(
        lambda: override(model, "filters.0=8"), "filters has no '0'; it has no named elements and is set as a whole"
    )


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
        ("poison.needs_surrogate=false", "poison has no field 'needs_surrogate'; it has rate"),
        ("poison.rate.x=1", "poison.rate is a single value"),
        ("poison.rate=many", "poison.rate must be a number, got 'many'"),
        ("poison.rate=nan", "poison.rate must be a number, got 'nan'"),
        ("poison.rate=1.5", r"rate must lie in \(0, 1\], got 1.5"),
        ("poison.target=10", "target must be one of the classes 0 to 9, got 10"),
        ("poison.target=1.5", "poison.target must be a whole number, got '1.5'"),
        (
            "poison.trigger=Squares(3)",
            r"poison.trigger must be FourPixels\(...\) or BrightSquare\(...\) or Corners\(...\)",
        ),
        ("poison.trigger=BrightSquare(3, 1, 2)", "poison.trigger: BrightSquare takes at most 2 values in order, got 3"),
        ("poison.trigger=BrightSquare(3, size=4)", "poison.trigger: BrightSquare has size twice"),
        ("poison.trigger=elsewhere:Sinus(.3)", "'elsewhere:Sinus'; name the .* defines it, --experiment=elsewhere.py$"),
        ("poison.trigger=json:Sinus(.3)", "unknown type 'json:Sinus'; allowed: FourPixels, BrightSquare, Corners"),
        (
            "arms.pgd_at.objective.attack.ball.eps=8",
            r"eps must lie in \[0, 1\] for images in \[0, 1\] \(8/255 is 0.0314\), got 8",
        ),
        (
            "arms.pgd_at.objective.attack.ball=L3(1)",
            r"must be Linf\(...\) or L2\(...\) or L1\(...\) or L0\(...\).*, got 'L3\(1\)'",
        ),
        ("arms.pgd_at.objective.attack.ball=Linf(radius=1)", "Linf has no field 'radius'; it has eps"),
        ("arms.pgd_at.objective.attack.ball=Linf()", "arms.pgd_at.objective.attack.ball: Linf needs eps$"),
        ("arms.pgd_at.objective.attack.random_start=maybe", "must be true or false, got 'maybe'"),
        ("arms.pgd_at.objective.attack.steps=0", "steps must be at least 1"),
        ("arms.pgd_at.objective.eps_warmup=2", "warmup is a share"),
        ("train.batch=0", "batch must be above 0"),
        ("train.epochs=none", "train.epochs must be a whole number, got 'none'"),
        ("train.optimizer=Adam(lr=1)", "train.optimizer: Adam has no field 'lr'; it has learning_rate, schedule"),
        ("poison.classes=12", "poison.classes is 12, but model.classes is 10"),
        ("surrogate=none", "needs surrogate"),
        ("arms.trades.poisoned=true", "arms has no 'trades'; it has standard, pgd_at_as_reported, pgd_at, pgd"),
        ("evaluation.min_attack_success=50", "min_attack_success is a fraction"),
        ("model=ResNet()", "model must be "),
        ("analyses=TSNE()", r"analyses must be Activations\(...\)"),
    ],
)
def test_bad_settings_are_one_line_that_says_what_is_allowed(plan, text, message):
    refused(lambda: override(plan, text), message)


def test_only_networks_of_poisonjax_and_the_user_are_offered(plan, user):
    """Apart from those of other tests, which are loaded too if one process runs them all."""
    with pytest.raises(ValueError) as caught:
        override(plan, "model=ResNet()")
    given = set(re.findall(r"([^\s:]+)\(\.\.\.\)", str(caught.value).partition(", got")[0]))
    of_tests = {kind for kind in members(Network) if kind.__module__.partition(".")[0] not in ("poisonjax", "my_types")}
    offered = {"ReportCNN", "MadryCNN", "WongCNN", "ReportCifarCNN", "MobileNet", "ResNet18", "DenoisingAutoencoder"}
    assert given - {kind.__name__ for kind in of_tests} == {*offered, "TabularMLP", "UsersNetwork"}


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("8/255", float, 8 / 255),
        ("1e-3", float | None, 1e-3),
        ("None", float | None, None),
        ("L1", typing.Literal["L1", "L2"], "L1"),
        ("'a b'", str, "a b"),
        ("a-b, c", tuple[str, ...], ("a-b", "c")),
        ("a b, c d", tuple[str, ...], ("a b", "c d")),
        ("(1, .5)", tuple[int, float], (1, 0.5)),
        ("[3]", tuple[int, ...], None),
    ],
)
def test_plain_values_are_read_as_annotated(text, hint, value):
    if value is None and type(None) not in typing.get_args(hint):
        refused(lambda: parse(text, hint, "here"), "here must be a whole number")
    else:
        assert parse(text, hint, "here") == value


@pytest.mark.parametrize("family", USERS)
def test_a_users_own_type_is_set_and_comes_back_from_json(plan, user, family):
    path, text = USERS[family]
    name = text.partition("(")[0]
    changed = override(plan, f"{path}={text}")
    assert type(at(changed, path)) is getattr(user, name)
    assert override(plan, f"{path}=my_types:{text}") == changed
    assert at(to_json_tree(changed), path)["type"] == f"my_types:{name}"
    assert through_json(changed) == changed
    assert type(at(through_json(changed), path)) is getattr(user, name)


def to_json_tree(config):
    """The JSON of a config as something `at` can walk."""

    class Node(dict):
        __getattr__ = dict.__getitem__

    def node(value):
        if isinstance(value, dict):
            return Node({name: node(item) for name, item in value.items()})
        return tuple(map(node, value)) if isinstance(value, list) else value

    return node(to_json(config))


def test_settings_of_a_users_own_type_are_set_like_others(plan, user):
    changed = override(override(plan, "poison.trigger=Sinus()"), "poison.trigger.frequency=3")
    assert changed.poison.trigger == user.Sinus(frequency=3)
    refused(lambda: override(changed, "poison.trigger.phase=1"), "has no field 'phase'; it has amplitude, frequency")


def test_types_of_poisonjax_keep_their_plain_names(plan):
    made = json.loads(json.dumps(to_json(plan)))
    assert made["poison"]["attack"]["ball"] == {"type": "L2", "eps": 5.0}
    assert made["model"] == {"type": "ReportCNN", "width": 128, "classes": 10, "dtype": "float32"}
    assert made["arms"][0]["objective"] == {"type": "Standard", "temperature": 1.0}


def test_json_is_the_same_for_the_same_settings(plan):
    text = json.dumps(to_json(plan))
    assert text == json.dumps(to_json(mnist_clean_label.experiment("paper")))
    assert " at 0x" not in text


@pytest.mark.parametrize("experiment", [mnist_clean_label, mnist_badnets, mnist_attacks, cifar10_activations])
@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_an_experiment_comes_back_from_json(experiment, scale):
    plan = experiment.experiment(scale)
    assert through_json(plan) == plan


def test_missing_settings_have_their_defaults():
    assert from_json({"type": "Adam", "schedule": {"type": "Cosine"}}, Adam) == Adam(schedule=Cosine())


def test_reading_a_config_imports_nothing(plan, tmp_path, monkeypatch):
    (tmp_path / "absent.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    config, before = to_json(plan), set(sys.modules)
    config["poison"]["trigger"] = {"type": "absent:Sinus", "amplitude": 0.3}
    line = "^unknown type 'absent:Sinus'; name the experiment or module that defines it, --experiment=absent.py$"
    refused(lambda: from_json(config, Experiment), line)
    config["poison"]["trigger"]["type"] = "my_package.triggers:Sinus"
    refused(lambda: from_json(config, Experiment), "--experiment=my_package.triggers$")
    refused(lambda: override(plan, "poison.trigger=absent:Sinus(.3)"), "'absent:Sinus'; name the experiment or module")
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ({"type": "L3", "eps": 1}, Trigger, "^unknown type 'L3'; allowed: FourPixels, BrightSquare, Corners"),
        ({"type": "Sinus"}, Trigger, "^unknown type 'Sinus'; allowed: "),  # plain names are poisonjax's
        ({"type": "_Block"}, Network, "^unknown type '_Block'"),
        ({"type": "Network"}, Network, "^unknown type 'Network'"),
        (
            {"type": "BrightSquare", "colour": 1},
            Trigger,
            "^BrightSquare has no field 'colour'; it has size, .*version",
        ),
        ({"type": "BrightSquare", "size": 0}, Trigger, "^size must be at least 1"),
        ({"type": "BrightSquare", "size": "x"}, Trigger, "^BrightSquare: "),
        ({"type": "Linf"}, Linf, "^Linf needs eps$"),
        ({"eps": 1}, Linf, "^unknown type 'None'; allowed: Linf"),
    ],
)
def test_bad_json_is_one_line(user, value, hint, message):
    refused(lambda: from_json(value, hint), message)


def test_types_of_one_name_in_two_modules_are_told_apart_by_module(plan, tmp_path):
    source = """
        import dataclasses
        from poisonjax.poisons import Corners, BrightSquare

        @dataclasses.dataclass(frozen=True)
        class BrightSquare(BrightSquare):
            pass
    """
    twin = loaded(tmp_path, "twin", source)
    line = (
        r"BrightSquare is ambiguous; write poisonjax.poisons.triggers:BrightSquare\(...\) or twin:BrightSquare\(...\)"
    )
    refused(lambda: override(plan, "poison.trigger=BrightSquare(2)"), line)
    assert override(plan, "poison.trigger=twin:BrightSquare(2)").poison.trigger == twin.BrightSquare(2)
    own = override(plan, "poison.trigger=poisonjax.poisons.triggers:BrightSquare(2)")
    assert own.poison.trigger == BrightSquare(2) == through_json(own).poison.trigger
    refused(
        lambda: override(plan, "poison.trigger=Circle()"), r"triggers:BrightSquare\(...\) or .*twin:BrightSquare\(...\)"
    )
    twin.BrightSquare.__name__ = "Gone"  # classes live as long as the process


def test_a_type_that_is_defined_again_replaces_the_first(plan, tmp_path):
    source = """
        import dataclasses
        from poisonjax.poisons import PatternTrigger, BrightSquare

        @dataclasses.dataclass(frozen=True)
        class Again(BrightSquare):
            {field}: int = 1
    """
    first = loaded(tmp_path, "again", source.format(field="older"))  # by its length Python knows stale bytecode
    second = loaded(tmp_path, "again", source.format(field="new"))
    assert type(override(plan, "poison.trigger=Again(new=2)").poison.trigger) is second.Again is not first.Again
    assert "again:Again" in map(type_name, members(Trigger))


def test_a_type_of_the_main_script_is_named_as_a_module(plan, user, monkeypatch):
    monkeypatch.setattr(user.Sinus, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/somewhere/my_script.py", raising=False)
    changed = dataclasses.replace(plan, poison=dataclasses.replace(plan.poison, trigger=user.Sinus()))
    assert to_json(changed)["poison"]["trigger"]["type"] == "my_script:Sinus"
    assert through_json(changed) == changed


def test_settings_that_cannot_be_read_back_are_refused(plan):
    @dataclasses.dataclass(frozen=True)
    class Duck:
        amplitude: float = 1.0

    @dataclasses.dataclass(frozen=True)
    class Held:
        function: object = len

    duck = dataclasses.replace(plan, poison=dataclasses.replace(plan.poison, trigger=Duck()))
    refused(lambda: to_json(duck), "^poison.trigger must be a dataclass of Trigger, got tests.*:Duck$")
    refused(lambda: to_json(Held()), "^function must be a number, a string, a tuple or a frozen dataclass")
