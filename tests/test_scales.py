"""The scales of every experiment: what the full one keeps of the published setting."""

import dataclasses

import pytest

from poisonjax.runs import experiments
from poisonjax.scales import SCALES, rank


@pytest.mark.parametrize("name", experiments.names())
def test_full_scale_keeps_data_poison_and_attacks(name):
    full, paper = (experiments.build(name, scale) for scale in ("full", "paper"))
    assert (full.data, full.poison, full.reported) == (paper.data, paper.poison, paper.reported)
    assert full.evaluation.attack == paper.evaluation.attack
    if len(full.arms) == len(paper.arms):  # the capacity experiments have networks of other sizes
        assert [arm.objective for arm in full.arms] == [arm.objective for arm in paper.arms]
    assert dataclasses.replace(full.evaluation, autoattack_images=1000) == paper.evaluation


def test_scales_are_ordered_and_those_of_users_come_last():
    assert sorted([*SCALES, "mine"], key=rank) == ["paper", "full", "small", "smoke", "mine"]
