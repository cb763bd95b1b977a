"""A network seen from another framework is the same network: logits, gradients, and what attacks make of its images."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.adapters import adapted, from_art, from_foolbox, from_torch, to_torch
from poisonjax.attacks import FAB, PGD, Linf, Square, TargetedAPGD
from poisonjax.evaluation.robustness import evaluate
from tests.attacks import references
from tests.attacks.references import assert_same_images, robust_accuracy, torch_module, victim

REASON = "the other frameworks are in requirements-dev.txt"
torch = pytest.importorskip("torch", reason=REASON)
torch.set_num_threads(1)
ATTACK = PGD(Linf(0.1), step=0.02, steps=10)


def wrapped(name, module):
    """The module in the framework's own clothes."""
    if name == "torch":
        return from_torch(module)
    if name == "foolbox":
        return from_foolbox(pytest.importorskip("foolbox", reason=REASON).PyTorchModel(module, (0, 1), "cpu"))
    return from_art(art(module))


def art(module, **settings):
    estimators = pytest.importorskip("art.estimators.classification", reason=REASON)
    loss = torch.nn.CrossEntropyLoss()
    settings = {"clip_values": (0, 1), "device_type": "cpu"} | settings
    return estimators.PyTorchClassifier(module, loss, (1, 28, 28), 10, **settings)


@pytest.fixture(scope="module", params=["torch", "foolbox", "art"])
def foreign(request):
    """A framework's network as JAX sees it."""
    return wrapped(request.param, torch_module(victim().params))


def slope(logits_fn, x, weights):
    return jax.jit(lambda x: jax.vjp(logits_fn, x)[1](weights)[0])(x)


def weights():
    return jnp.asarray(np.random.default_rng(0).normal(size=(32, 10)), jnp.float32)


def test_foreign_network_has_the_logits_and_gradients_of_the_original(foreign):
    net = victim()
    np.testing.assert_allclose(jax.jit(foreign)(net.x), net.logits_fn(net.x), atol=1e-4)
    expected = slope(net.logits_fn, net.x, weights())
    np.testing.assert_allclose(slope(foreign, net.x, weights()), expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_attack_gives_the_same_images_on_a_foreign_network(foreign):
    net = victim()
    ours, theirs = (evaluate(fn, net.x, net.y, ATTACK, jax.random.key(0), 32) for fn in (net.logits_fn, foreign))
    assert_same_images(theirs.x_adv, ours.x_adv)
    (left, _), (expected, _) = theirs.to_json()["robust"], ours.to_json()["robust"]
    assert abs(left - expected) <= 1 and 0 < expected < 32


def test_jax_network_in_torch_has_the_logits_and_gradients_of_the_original():
    net, theirs = victim(), torch_module(victim().params)
    adapted, x = to_torch(net.logits_fn), references.to_torch(net.x)
    for rows in (32, 5, 1):  # sizes that are filled up, and that are not
        found = []
        for module in (adapted, theirs):
            images = x[:rows].clone().requires_grad_()
            logits = module(images)
            found.append((logits, *torch.autograd.grad(logits, images, torch.tensor(np.array(weights()[:rows])))))
        for ours, expected in zip(*found, strict=True):
            assert ours.shape == expected.shape and ours.dtype == expected.dtype
            np.testing.assert_allclose(ours.detach(), expected.detach(), atol=1e-4)


def test_foolbox_gives_the_same_images_on_a_jax_network():
    foolbox, net = pytest.importorskip("foolbox", reason=REASON), victim()
    attack = foolbox.attacks.LinfPGD(rel_stepsize=0.2, steps=10, random_start=False)
    labels, made = torch.tensor(np.array(net.y)).long(), []
    for module in (to_torch(net.logits_fn), torch_module(net.params)):
        model = foolbox.PyTorchModel(module, (0, 1), "cpu")
        made.append(references.from_torch(attack(model, references.to_torch(net.x), labels, epsilons=0.1)[1]))
    assert_same_images(*made)
    assert 0 < robust_accuracy(net.logits_fn, made[0], net.y) < 1


def test_art_gives_the_same_images_on_a_jax_network():
    net, made = victim(), []
    evasion = pytest.importorskip("art.attacks.evasion", reason=REASON)
    for module in (to_torch(net.logits_fn), torch_module(net.params)):
        attack = evasion.ProjectedGradientDescent(art(module), eps=0.1, eps_step=0.02, max_iter=5, verbose=False)
        made.append(attack.generate(np.asarray(references.to_torch(net.x)), np.asarray(net.y)))
    assert_same_images(*made)
    assert np.abs(made[0] - np.asarray(references.to_torch(net.x))).max() > 0.09


def test_authors_autoattack_gives_the_same_accuracy_on_a_jax_network():
    official, net = pytest.importorskip("pyautoattack", reason=REASON), victim()
    of = {"norm": "Linf", "eps": 0.06, "seed": 0, "device": "cpu"}
    labels, left = torch.tensor(np.array(net.y)).long(), []
    for module in (to_torch(net.logits_fn), torch_module(net.params)):
        attack = official.AutoAttack(module, **of)
        attack.apgd = official.autopgd_base.APGDAttack(module, n_iter=5, **of)
        targeted = {"n_iter": 5, "n_target_classes": 2}
        attack.apgd_targeted = official.autopgd_base.APGDAttack_targeted(module, **targeted, **of)
        attack.fab = official.fab_pt.FABAttack_PT(module, targeted=True, **targeted, **of)
        attack.square = official.square.SquareAttack(module, n_queries=20, resc_schedule=False, **of)
        made, _ = attack.run_standard_evaluation(references.to_torch(net.x), labels)
        left.append(robust_accuracy(net.logits_fn, references.from_torch(made), net.y))
    assert abs(left[0] - left[1]) <= 1 / len(net.y) and 0 < left[0] < 1


LOOPS = [TargetedAPGD(Linf(0.06), 3, targets=2), FAB(steps=3, targets=2), Square(Linf(0.2), 30)]


@pytest.mark.parametrize("attack", LOOPS)
def test_loops_and_branches_run_on_a_foreign_network(attack):
    net = victim()
    few = slice(8)
    ours, theirs = (
        evaluate(fn, net.x[few], net.y[few], attack, jax.random.key(0))
        for fn in (net.logits_fn, from_torch(torch_module(net.params)))
    )
    assert_same_images(theirs.x_adv, ours.x_adv)
    assert np.abs(ours.x_adv - net.x[few]).max() > 0.01


def test_large_batches_and_many_threads_do_not_deadlock():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten())
    module = torch.nn.Sequential(module, torch.nn.Linear(4 * 64 * 64, 5)).eval()
    torch.set_num_threads(4)
    try:
        x = np.random.default_rng(0).random((256, 64, 64, 3), np.float32)
        foreign = from_torch(module)
        made = jax.jit(lambda x: PGD(Linf(0.1), 0.02, 5)(foreign, x, jnp.zeros(256, int), jax.random.key(0)))(x)
        assert 0.05 < np.abs(made - x).max() < 0.11
    finally:
        torch.set_num_threads(1)


def test_images_under_vmap_are_one_batch():
    net = victim()
    foreign, many = from_torch(torch_module(net.params)), jnp.stack([net.x[:4], net.x[4:8], net.x[8:12]])
    sizes = []
    counted = torch_module(net.params)
    counted.register_forward_hook(lambda module, given, found: sizes.append(len(found)))
    slopes = jax.vmap(slope, (None, 0, None))(from_torch(counted), many, weights()[:4])
    expected = jnp.stack([slope(foreign, x, weights()[:4]) for x in many])
    np.testing.assert_allclose(slopes, expected, atol=1e-5)
    assert sizes[:3] == [1, 2, 1] and set(sizes[3:]) == {12}  # the first count the classes and try the gradient


def test_gradients_stay_out_of_the_parameters():
    module = torch_module(victim().params)
    slope(from_torch(module), victim().x, weights())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_classifier_without_gradients_takes_attacks_that_need_none():
    estimators = pytest.importorskip("art.estimators.classification", reason=REASON)
    net = victim()
    module = torch_module(net.params)

    def predict(x):
        return module(references.to_torch(x)).detach().numpy()

    black = estimators.BlackBoxClassifier(predict, (28, 28, 1), 10, clip_values=(0, 1))
    found = evaluate(from_art(black), net.x, net.y, Square(Linf(0.2), 30), jax.random.key(0), 32)
    same = evaluate(net.logits_fn, net.x, net.y, Square(Linf(0.2), 30), jax.random.key(0), 32)
    assert found.to_json()["robust"] == same.to_json()["robust"] and found.to_json()["robust"][0] < 32


def test_networks_that_cannot_be_adapted_are_refused():
    module = torch_module(victim().params)
    with pytest.raises(ValueError, match=r"module must be in evaluation mode; call module.eval\(\) before"):
        from_torch(torch_module(victim().params).train())
    with pytest.raises(ValueError, match=r"module must be a torch.nn.Module, got str"):
        from_torch("resnet18")
    (half := torch_module(victim().params))[1].train()
    with pytest.raises(ValueError, match=r"module must be in evaluation mode"):
        from_torch(half)
    with pytest.raises(ValueError, match=r"must be in torch.float32, got torch.float64; call module.float\(\) before"):
        from_torch(torch_module(victim().params).double())
    with pytest.raises(ValueError, match=r"must have its weights on one device, got meta; load it on the cpu"):
        from_torch(torch.nn.Linear(3, 4, device="meta").eval())
    foolbox = pytest.importorskip("foolbox", reason=REASON)
    with pytest.raises(ValueError, match=r"fmodel must have bounds \(0, 1\), got \(-1, 1\)"):
        from_foolbox(foolbox.PyTorchModel(module, (-1, 1), "cpu"))
    with pytest.raises(ValueError, match=r"fmodel must be a foolbox.PyTorchModel, got Sequential"):
        from_foolbox(module)
    with pytest.raises(ValueError, match=r"must take images in \[0, 1\], got clip_values \[0.0\] to \[255.0\]"):
        from_art(art(module, clip_values=(0, 255)))
    with pytest.raises(ValueError, match=r"classifier must be one of ART's, got Sequential"):
        from_art(module)


class Gives(torch.nn.Module):
    """The logits that a function makes of images."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: x[:, :, :2], r"must give logits of shape \[b k\], got \[1, 1, 2, 28\] for 1 image"),
        (lambda x: x[:, 0, 0].squeeze(0), r"it gives \[28\] for one image and \[2, 28\] for two"),
        (lambda x: x.sum(), r"it gives \[\] for one image and \[\] for two, and must give logits \[b k\]"),
        (lambda x: (x.flatten(1), None), r"it gives a tuple, and must give a tensor of logits"),
        (lambda x: x.reshape(1, 3, -1), r"cannot take images of shape \[28, 28, 1\]: shape '\[1, 3, -1\]' is invalid"),
    ],
)
def test_logits_of_another_shape_are_refused_in_one_line(fn, message):
    net = victim()
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(from_torch(Gives(fn).eval()), net.x[:2], net.y[:2], ATTACK, jax.random.key(0))
    assert "\n" not in str(caught.value)


def test_a_class_of_modules_is_called_and_put_in_evaluation_mode():
    x = victim().x[:3]

    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5))

        def forward(self, x):
            return self.body(x)

    np.testing.assert_array_equal(adapted(Noisy)(x), x.reshape(3, -1))
    np.testing.assert_array_equal(adapted(Noisy().train())(x), x.reshape(3, -1))
    assert adapted(len) is len
    with pytest.raises(ValueError, match=r"Gives\(\) fails, without arguments: .*missing 1 required"):
        adapted(Gives)


@pytest.mark.parametrize(
    ("adapt", "missing"), [(from_torch, "torch"), (to_torch, "torch"), (from_foolbox, "foolbox"), (from_art, "art")]
)
def test_missing_framework_raises_one_line(adapt, missing, monkeypatch):
    for name in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"{adapt.__name__} needs .*, which cannot be imported: ") as caught:
        adapt(None)
    assert "\n" not in str(caught.value) and str(caught.value).endswith("; pip install 'poisonjax[torch]'")
