"""The agenda of a job: no guess before a measurement, and the right answer where work is regular."""

from types import SimpleNamespace

import pytest

from experiments import mnist_clean_label
from poisonjax.runs import job
from poisonjax.runs.agenda import Agenda, Item

COMPILE, CHORES = 7.0, 3.0  # seconds of each network


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self):
        return self.now


def agenda(lanes=1, **gradients):
    """Networks named after their kind: of standard training or of attacks."""
    clock = Clock()
    items = [Item(("run", 0, name), name, name, of, name[0], "arm") for name, of in gradients.items()]
    return Agenda(items, lanes, clock), clock


def train(asked, clock, name, seconds, calls=4):
    """Train a network, of so many calls after the first; yields after each."""
    key = ("run", 0, name)
    with asked.visit(key):
        asked.trained(key, 0.0)
        clock.now += COMPILE
        asked.trained(key, 0.2)
        for call in range(1, calls + 1):
            clock.now += 0.8 * seconds / calls
            asked.trained(key, 0.2 + 0.8 * call / calls)
            yield asked.left()
        clock.now += CHORES


def test_nothing_is_said_before_each_kind_of_training_was_measured():
    asked, clock = agenda(standard=100, attack=1000, attack_again=1000)
    assert asked.left() is None and asked.spell() == ""
    assert list(train(asked, clock, "standard", 10)) == [None] * 4
    first, *_, last = train(asked, clock, "attack", 200)
    assert first == (pytest.approx(160 * 3 / 4 + 200 + CHORES + COMPILE + CHORES), True)
    assert last == (pytest.approx(200 + CHORES + COMPILE + CHORES), True)


def test_what_has_not_been_measured_makes_it_more():
    asked, clock = agenda(attack=600)
    first, *_ = train(asked, clock, "attack", 600)
    assert first == (pytest.approx(360), False)
    asked.passed(("run", 0, "attack"))
    assert asked.left() is None  # nothing is left


def test_what_was_done_before_counts_neither_as_work_nor_as_a_measurement():
    asked, clock = agenda(attack=100, attack_again=100, attack_thrice=100)
    assert asked.passed(("run", 0, "attack"))
    *_, last = train(asked, clock, "attack_again", 100)
    assert last[0] == pytest.approx(100) and not asked.passed(("run", 0, "attack_again"))
    assert asked.spell() == "about 2 min left"


def test_seeds_on_several_devices_share_the_work():
    clock = Clock()
    items = [Item(("run", seed, "a"), "a", "a", 100, "a", "arm") for seed in range(4)]
    asked = Agenda(items, 2, clock)
    key = ("run", 0, "a")
    for share in (0.0, 0.5, 1.0):
        asked.trained(key, share)
        clock.now += 5
    asked.passed(key)
    assert asked.left() == (pytest.approx(3 * 10 / 2), False)


def test_networks_are_listed_in_the_order_of_their_training(tmp_path):
    plan, rows = mnist_clean_label.experiment("smoke"), SimpleNamespace(train=SimpleNamespace(label=range(300)))
    (asked,) = job.scheduled([job.Run(plan, rows, tmp_path, "smoke", seeds=2)])
    names = [(seed, name) for seed in range(2) for name in ["surrogate", *(arm.name for arm in plan.arms)]]
    titles = [asked.agenda.title(job.key(asked, *each)) for each in names]
    first, second = job.scheduled([job.Run(plan, rows, tmp_path / name, "smoke") for name in "ab"])
    assert first.agenda is second.agenda and job.label(second, 0, "standard", "test") == "arm 1/5 point 2/2 test"
    assert titles[0] == "surrogate, seed 0 (1 of 2)"
    assert titles[-1] == "arm 5 of 5, seed 1 (2 of 2): standard_clean_data"
    assert job.label(asked, 1, "standard", "train") == "arm 1/5 seed 2/2 train"
    assert job.label(asked, 0, "standard/helper", "train") == "arm 1/5 seed 1/2 helper train"
