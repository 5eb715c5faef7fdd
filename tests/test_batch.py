"""The region map is written in one way on a CPU and in another on a GPU: both write the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.runs import PAIRS, build_plan, random_losses, random_sizes

from mixloader.batch import fill_region_map, region_map
from mixloader.plan import Plan
from mixloader.policies import Naive, Policy, Progressive, Run, Whole

POLICIES = [Whole(), Naive(), PAIRS, Progressive(until=1, packed=True), Naive("blend")]


def plan_of(policy: Policy, samples: int = 25) -> Plan:
    """Four batches, the last of which is short: some of its canvases are empty."""
    run = Run(samples, 8, 96, 16, 8)
    allocation = policy.allocate(run, 1, random_losses(0, samples), np.random.default_rng(0))
    return build_plan(allocation, run, random_sizes(0, samples), seed=2, epoch=1, budget=policy.budget(run, 1))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_both_ways_write_the_same_map(policy: Policy) -> None:
    plan, slots = plan_of(policy), set()
    for b in range(plan.batches):
        batch = plan.batch(b)
        images = torch.full((batch.canvases_per_batch, *[batch.canvas_size] * 2, 4), 7.0).permute(0, 3, 1, 2)
        fill_region_map(images[:, 3], batch)
        assert torch.equal(images[:, 3], region_map(batch, torch.device("cpu")))
        assert (images[:, :3] == 7).all()
        slots |= set(images[:, 3].unique().tolist())
    assert slots == {-1, *([0] if plan.opacity.min() < 1 else plan.slot.tolist())}
