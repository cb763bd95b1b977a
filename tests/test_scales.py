"""The scales of every experiment: what the full one keeps of the published setting."""

import dataclasses

import pytest

from poisonjax.poisons import BACKDOOR
from poisonjax.runs import experiments
from poisonjax.scales import SCALES, rank


@pytest.mark.parametrize("name", experiments.names())
def test_full_scale_keeps_data_poison_and_attacks(name):
    full, paper = (experiments.build(name, scale) for scale in ("full", "paper"))
    assert (full.data, full.reported) == (paper.data, paper.reported)
    assert at_any_length(full.poison) == at_any_length(paper.poison)
    assert full.evaluation.attack == paper.evaluation.attack
    if len(full.arms) == len(paper.arms):  # the capacity experiments have networks of other sizes
        assert [arm.objective for arm in full.arms] == [arm.objective for arm in paper.arms]
    images = paper.evaluation.autoattack_images
    assert dataclasses.replace(full.evaluation, autoattack_images=images) == paper.evaluation


def at_any_length(poison):
    """A poison of another paper than the report is crafted in fewer steps at full scale."""
    if poison.aim == BACKDOOR or not poison.needs_surrogate:
        return poison
    return dataclasses.replace(poison, attack=dataclasses.replace(poison.attack, steps=1, restarts=1))


def test_scales_are_ordered_and_those_of_users_come_last():
    assert sorted([*SCALES, "mine"], key=rank) == ["paper", "full", "small", "smoke", "mine"]
