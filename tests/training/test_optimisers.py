"""The optimisers by their formulas, in float64, and what a training saves of them."""

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from small_training import small
from torch import Tensor, nn

from shine_exp.training.optimisers import SGD, Adam, Optimiser

START = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)


def gradient(w: Tensor) -> Tensor:
    """Of w₁²/2 + w₂² + 3 w₃²/2."""
    return w * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def moved(optimiser: Optimiser, n_steps: int) -> Tensor:
    w = nn.Parameter(START.clone())
    optimizer = optimiser([w])
    for _ in range(n_steps):
        w.grad = gradient(w.detach())
        optimizer.step()
    return w.detach()


def test_sgd_follows_its_formula() -> None:
    rate, momentum, decay = 0.05, 0.8, 0.01
    w, m = START.clone(), torch.zeros_like(START)
    for _ in range(7):
        m = momentum * m + gradient(w) + decay * w
        w = w - rate * m
    torch.testing.assert_close(moved(SGD(rate, momentum, decay), 7), w, rtol=1e-12, atol=0)


def test_adam_follows_its_formula() -> None:
    rate, beta1, beta2 = 0.05, 0.7, 0.9
    w, m, v = START.clone(), torch.zeros_like(START), torch.zeros_like(START)
    for t in range(1, 8):
        g = gradient(w)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w = w - rate * m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + 1e-8)
    torch.testing.assert_close(moved(Adam(rate, beta1, beta2), 7), w, rtol=1e-12, atol=0)


@pytest.mark.usefixtures("without_onednn")
@pytest.mark.parametrize("groups", ["outer/optimiser=sgd", "outer/schedule=one_cycle"])
def test_training_by_another_optimiser_or_schedule_resumes_to_the_same_numbers(
    groups: str, shine_run: Callable, folders: Callable, trace: Callable
) -> None:
    """Its minutes are over after every step."""
    command = small("method=jf", "outer.epochs=1", "outer.n_power_steps=0", groups)
    for code in (130, 130, 130, 0):
        assert shine_run(*command, "runtime.max_minutes=1e-9").code == code
    (folder,) = folders()
    assert shine_run(*command, "runtime.results=whole").code == 0
    undisturbed = trace(folder.parents[3] / "whole" / folder.relative_to(folder.parents[2]))
    clocks = ["time", "forward_ms", "backward_ms"]
    pd.testing.assert_frame_equal(
        trace(folder).drop(columns=clocks), undisturbed.drop(columns=clocks)
    )
