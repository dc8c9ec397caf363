"""Learning rates of the steps of a training, as the formulas of the schedules give them."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shine_exp.training.schedules import Cosine, OneCycle, Schedule


def rates(schedule: Schedule, n_steps: int, largest: float = 0.1) -> list[float]:
    """η₀ to η_T."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=largest)
    made = schedule(optimizer, n_steps)
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(n_steps):
        optimizer.step()
        made.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@given(st.integers(1, 60))
def test_cosine_follows_its_formula(n_steps: int) -> None:
    expected = [
        0.001 + 0.099 * (1 + math.cos(math.pi * step / n_steps)) / 2 for step in range(n_steps + 1)
    ]
    assert rates(Cosine(0.001), n_steps) == pytest.approx(expected, rel=1e-9)


@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_one_cycle_rises_to_the_largest_rate_and_falls_to_the_last(
    n_steps: int, rise: float
) -> None:
    seen = rates(OneCycle(0.004, 0.001, rise), n_steps)
    top = math.ceil(rise * n_steps)
    assert (seen[0], seen[-1]) == (pytest.approx(0.004), pytest.approx(0.001))
    assert all(a < b for a, b in pairwise(seen[:top]))
    assert all(a > b for a, b in pairwise(seen[top:]))
    assert max(seen) <= 0.1 * (1 + 1e-12)


def test_one_cycle_is_half_a_cosine_up_and_half_a_cosine_down() -> None:
    seen = rates(OneCycle(0.02, 0.0, 0.25), 8)
    up = [0.02 + 0.08 * (1 - math.cos(math.pi * step / 2)) / 2 for step in range(2)]
    down = [0.1 * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(7)]
    assert seen == pytest.approx([*up, *down], rel=1e-9, abs=1e-12)
