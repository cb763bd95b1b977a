"""A network or data set is the same through MAITE's protocols, in both directions."""

import functools
import itertools
import re
import sys
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poisonjax.adapters import adapted, from_maite, from_maite_dataset, to_maite, to_maite_dataset
from poisonjax.attacks import PGD, Linf, Square
from poisonjax.data import Dataset, from_arrays, mnist_5k
from poisonjax.evaluation.robustness import evaluate
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.poisons.apply import poisoned

tasks = pytest.importorskip("maite.tasks", reason="the extra poisonjax[maite] is not installed")
torch = pytest.importorskip("torch", reason="the other frameworks are in requirements-dev.txt")
torch.set_num_threads(1)
from maite.protocols import image_classification as ic  # noqa: E402

PAGE = Path(__file__).parents[1] / "docs" / "attack_my_network.md"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ATTACK = PGD(Linf(0.1), step=0.03, steps=5)


@functools.cache
def dataset() -> Dataset:
    """400 training and 64 test images of mnist_5k."""
    splits = mnist_5k.splits()
    few = slice(None, None, 10), slice(0, 1000, 16)
    train, test = ((image[rows], label[rows]) for (image, label), rows in zip(splits.values(), few, strict=True))
    return from_arrays("digits", train, test, NAMES)


@functools.cache
def weights() -> np.ndarray:
    """The mean training image of each class, [k d], by which an image is classified."""
    x, y = dataset().train.image.reshape(-1, 784) / 255, dataset().train.label
    return np.stack([x[y == label].mean(0) for label in range(10)]).astype(np.float32)


def logits_fn(x):
    return (x.reshape(len(x), -1) @ weights().T * 2 - (weights() ** 2).sum(-1)) / 10


class TorchModel:
    """The same network as others wrap theirs: a list of tensors, and probabilities."""

    metadata = MappingProxyType({"id": "means", "index2label": dict(enumerate(NAMES))})

    def __call__(self, batch):
        x = torch.stack([torch.as_tensor(image) for image in batch]).flatten(1)
        logits = x @ torch.tensor(weights()).T * 2 - torch.tensor(weights()).square().sum(-1)
        return list((logits / 10).softmax(-1))


class NumPyModel:
    """The same network without gradients, and with logits."""

    metadata = MappingProxyType({"id": "means"})

    def __call__(self, batch):
        x = np.stack([np.asarray(image) for image in batch]).reshape(len(batch), -1)
        return logits_fn(x)


class Accuracy:
    """A MAITE metric."""

    metadata = MappingProxyType({"id": "accuracy"})

    def reset(self):
        self.right = []

    def update(self, predictions, targets, metadata):
        self.right += [np.argmax(a) == np.argmax(b) for a, b in zip(predictions, targets, strict=True)]

    def compute(self):
        return {"accuracy": float(np.mean(self.right))}


def right(x, y):
    return float(np.mean(np.argmax(logits_fn(x), -1) == y))


def test_what_is_made_meets_the_protocols_of_maite():
    model, rows = to_maite(logits_fn, "means", NAMES), to_maite_dataset(dataset(), dataset().train)
    assert isinstance(model, ic.Model) and isinstance(rows, ic.Dataset)
    assert model.metadata == {"id": "means", "index2label": dict(enumerate(NAMES))}
    assert rows.metadata == {"id": "digits", "index2label": dict(enumerate(NAMES))} and len(rows) == 400
    image, target, metadata = rows[7]
    np.testing.assert_array_equal(image[0], dataset().train.image[7, :, :, 0].astype(np.float32) / 255)
    assert image.shape == (1, 28, 28) and image.dtype == target.dtype == np.float32
    assert target.tolist() == np.eye(10)[dataset().train.label[7]].tolist() and metadata == {"id": 7}


def test_maite_measures_the_accuracy_of_a_network_as_poisonjax_does():
    rows, test = to_maite_dataset(dataset(), dataset().test), dataset().test
    found, _, _ = tasks.evaluate(model=to_maite(logits_fn, "means"), metric=Accuracy(), dataset=rows, batch_size=48)
    assert found["accuracy"] == right(test.image / 255, test.label) and 0.5 < found["accuracy"] < 1


def test_bytes_and_unit_floats_have_the_same_logits_and_others_are_refused():
    model, images = to_maite(logits_fn, "means"), dataset().test.image[:3].transpose(0, 3, 1, 2)
    (ours, expected) = model(list(images)), logits_fn(dataset().test.image[:3] / 255)
    assert [row.shape for row in ours] == [(10,)] * 3
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    np.testing.assert_allclose(model(torch.tensor(images / 255)), expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"must be uint8 or lie in \[0, 1\], got values from 0.0 to 255.0"):
        model(list(images.astype(np.float32)))


def test_poisoned_rows_are_handed_over_and_the_others_stay():
    poison, train = BadNets(0.02, 3, BrightSquare(3)), dataset().train
    rows = train.index[np.asarray(poison.select(jnp.asarray(train.label), jax.random.key(0)))]
    given = poisoned(poison.apply, train, rows)  # arrays of JAX
    clean, bad = to_maite_dataset(dataset(), train), to_maite_dataset(dataset(), given)
    both = [(*one, *other) for one, other in itertools.zip_longest(clean, bad)]  # ends by itself
    changed = [metadata["id"] for image, _, metadata, other, _, _ in both if (image != other).any()]
    assert len(both) == 400 and changed == rows.tolist() and len(rows) >= 8
    assert all(bad[row][1].argmax() == 3 for row in changed)


def test_a_data_set_comes_back_as_it_was():
    splits = (to_maite_dataset(dataset(), split) for split in (dataset().train, dataset().test))
    found = from_maite_dataset(*splits)
    assert (found.name, found.sha256, found.label_names) == ("digits", dataset().sha256, NAMES)
    assert found.names == tuple(map(str, range(400)))


@pytest.mark.parametrize("model", [TorchModel(), NumPyModel()], ids=["torch", "numpy"])
def test_a_maite_model_has_the_classes_of_the_original(model):
    x = jnp.asarray(dataset().test.image[:16] / 255, jnp.float32)
    assert isinstance(model, ic.Model)
    found, expected = jax.nn.log_softmax(jax.jit(from_maite(model))(x)), jax.nn.log_softmax(logits_fn(x))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_attack_finds_the_same_images_on_a_maite_model_with_gradients():
    x, y = dataset().test.image[:32] / 255, dataset().test.label[:32]
    ours, theirs = (evaluate(fn, x, y, ATTACK, jax.random.key(0), 32) for fn in (logits_fn, from_maite(TorchModel())))
    np.testing.assert_allclose(theirs.x_adv, ours.x_adv, atol=1e-4)
    assert theirs.robust_accuracy == ours.robust_accuracy < right(x, y)


def test_a_maite_model_without_gradients_takes_attacks_that_need_none():
    x, y = dataset().test.image[:8] / 255, dataset().test.label[:8]
    fn = from_maite(NumPyModel())
    ours, theirs = (evaluate(each, x, y, Square(Linf(0.2), 5), jax.random.key(0)) for each in (logits_fn, fn))
    assert theirs.robust_accuracy == ours.robust_accuracy < right(x, y)
    with pytest.raises(ValueError, match=r"it has no gradients: .*; allowed are attacks") as caught:
        evaluate(fn, x, y, ATTACK, jax.random.key(0))
    assert "\n" not in str(caught.value)


def test_without_torch_a_maite_model_is_given_arrays(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    kinds = []

    class Model(NumPyModel):
        def __call__(self, batch):
            kinds.extend(map(type, batch))
            return super().__call__(batch)

    x = jnp.asarray(dataset().test.image[:4] / 255, jnp.float32)
    np.testing.assert_allclose(from_maite(Model())(x), logits_fn(x), atol=1e-4)
    assert set(kinds) == {np.ndarray}


def test_a_maite_model_is_adapted_by_what_it_is():
    x = jnp.asarray(dataset().test.image[:4] / 255, jnp.float32)
    assert adapted(to_maite(logits_fn, "means")) is logits_fn
    np.testing.assert_allclose(adapted(NumPyModel())(x), logits_fn(x), atol=1e-4)
    assert adapted(NumPyModel) is NumPyModel  # a class has to be called first


class Items(list):
    """A MAITE data set of these items."""

    metadata = MappingProxyType({"id": "mine"})


ITEM = np.zeros((1, 4, 4), np.uint8), np.eye(2)[0], {"id": "a"}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([ITEM], "a MAITE data set must have an index and metadata, got list"),
        (Items(), r"mine: must have images \[c h w\] and targets \[k\] of one shape, got none"),
        (Items([(ITEM[0], 3, ITEM[2])]), r"one shape, got \[1, 4, 4\], \[\]$"),
        (Items([ITEM, (ITEM[0][0], *ITEM[1:])]), r"one shape, got \[1, 4, 4\], \[2\] or \[4, 4\], \[2\]$"),
        (Items([(ITEM[0] + 1.5, *ITEM[1:])]), r"mine train: floating images must lie in \[0, 1\], got 1.5 to 1.5"),
    ],
)
def test_other_data_are_refused_in_one_line(items, message):
    with pytest.raises(ValueError, match=message):
        from_maite_dataset(items, items)


def test_other_things_are_refused_in_one_line():
    with pytest.raises(ValueError, match="model must be a MAITE model, called and with metadata, got function"):
        from_maite(logits_fn)
    features = from_arrays("rows", *[(np.zeros((2, 3), np.uint8), np.arange(2))] * 2)
    with pytest.raises(ValueError, match="rows: has rows of features; MAITE's image classification takes images"):
        to_maite_dataset(features, features.train)


def test_the_code_of_the_page_runs():
    (code,) = [each for each in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "maite" in each]
    split = to_maite_dataset(dataset(), dataset().train)
    given = {"logits_fn": logits_fn, "dataset": dataset(), "their_model": TorchModel(), "metric": Accuracy()}
    exec(code, made := given | {"their_train": split, "their_test": split})
    assert made["found"]["accuracy"] == right(dataset().test.image / 255, dataset().test.label)
    assert made["result"].robust_accuracy < 1
