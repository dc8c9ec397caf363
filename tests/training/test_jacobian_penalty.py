"""Jacobian regularisation: its estimate, its gradient, and what it does to a training."""

import math
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from small_training import small
from torch import Tensor, nn

from shine_exp.deq import DEQ
from shine_exp.inverse.full import Full
from shine_exp.randomness import generator
from shine_exp.solvers.broyden import Broyden
from shine_exp.training import jacobian_penalty as module
from shine_exp.training.jacobian_penalty import STREAM, JacobianPenalty, squared_jacobian_norm

D = 5


class TanhCell(nn.Module):
    """f(z, x) = tanh(W z + x), whose parts are two vectors, in float64."""

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.randn(D, D, dtype=torch.float64, generator=generator(1))
        self.weight = nn.Parameter(0.3 * drawn)

    def forward(self, z: list[Tensor], x: Tensor) -> list[Tensor]:
        return list(torch.tanh(torch.cat(z, dim=1) @ self.weight.T + x).split([2, D - 2], dim=1))


def on_vectors(cell: TanhCell, x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda z: torch.cat(cell(list(z.split([2, D - 2], dim=1)), x), dim=1)


def exact_squared_norms(cell: TanhCell, z: Tensor, x: Tensor) -> Tensor:
    """‖∂f/∂z‖²_F of each sample: f' = (1 − f²) W."""
    slopes = 1 - on_vectors(cell, x)(z).detach() ** 2
    return (slopes[:, :, None] * cell.weight).square().sum(dim=(1, 2))


def inputs(n: int) -> Tensor:
    return torch.randn(n, D, dtype=torch.float64, generator=generator(2))


def layer_of(cell: TanhCell) -> DEQ:
    return DEQ(cell, Broyden(60), Full(1.0, max_steps=60), tol=1e-12, adjoint_tol=1e-12)


def start(n: int) -> list[Tensor]:
    return [torch.zeros(n, size, dtype=torch.float64) for size in (2, D - 2)]


def test_estimate_of_the_squared_jacobian_norm_is_unbiased() -> None:
    """A mean over 20 000 draws for one z, within four of its standard errors."""
    n, cell = 20_000, TanhCell()
    z, x = inputs(1), inputs(2)[1:]
    f = on_vectors(cell, x.expand(n, -1))
    draws = torch.randn(n, D, dtype=torch.float64, generator=generator(0))
    estimates = squared_jacobian_norm(f, z.expand(n, -1), draws).detach()
    (exact,) = exact_squared_norms(cell, z, x).detach()
    error = estimates.std() / math.sqrt(n)
    assert abs(estimates.mean() - exact) < 4 * error
    assert error < 0.01 * exact


def test_estimate_over_unit_vectors_is_the_squared_jacobian_norm() -> None:
    """Σ_i ‖(∂f/∂z)ᵀe_i‖², with a sample for each e_i."""
    cell, z, x = TanhCell(), inputs(1), inputs(2)[1:]
    f = on_vectors(cell, x.expand(D, -1))
    total = squared_jacobian_norm(f, z.expand(D, -1), torch.eye(D).double()).sum()
    torch.testing.assert_close(total[None], exact_squared_norms(cell, z, x), rtol=1e-12, atol=0)


def test_penalty_adds_its_gradient_to_that_of_the_loss() -> None:
    """Against central differences of the estimate, with z* held, in every weight and input."""
    n, weight, cell = 3, 0.7, TanhCell()
    x, layer = inputs(n).requires_grad_(), layer_of(cell)

    def loss() -> Tensor:
        z = layer(start(n), x)
        return torch.cat(z, dim=1).square().sum()

    alone = torch.autograd.grad(loss(), (cell.weight, x))
    without_penalty = loss().detach()
    added = JacobianPenalty(layer, weight)
    added.draw(5, 8)
    value = loss()
    both = torch.autograd.grad(value, (cell.weight, x))
    assert torch.equal(value, without_penalty)
    direction = torch.empty(n, D, dtype=torch.float64).normal_(generator=generator(5, 8, STREAM))
    z = torch.cat(layer(start(n), x), dim=1).detach()

    def penalty() -> float:
        estimates = squared_jacobian_norm(on_vectors(cell, x), z, direction)
        return weight * float(estimates.mean().detach()) / D

    for parameter, with_it, without in zip((cell.weight, x), both, alone, strict=True):
        torch.testing.assert_close(
            with_it - without, differences(penalty, parameter), rtol=1e-6, atol=1e-9
        )


def differences(function: Callable[[], float], tensor: Tensor, h: float = 1e-5) -> Tensor:
    """The central differences of a function by each entry of a tensor that it reads."""
    entries, gradient = tensor.detach().view(-1), torch.zeros_like(tensor).view(-1)
    for i, entry in enumerate(entries.tolist()):
        entries[i] = entry + h
        above = function()
        entries[i] = entry - h
        gradient[i] = (above - function()) / (2 * h)
        entries[i] = entry
    return gradient.view_as(tensor)


def test_no_penalty_is_added_to_unrolled_steps_or_without_a_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell, x = TanhCell(), inputs(2)
    layer = layer_of(cell)
    JacobianPenalty(layer, 1.0)
    monkeypatch.setattr(module, "squared_jacobian_norm", None)
    with torch.no_grad():
        layer(start(2), x)
    layer.n_unrolled = 3
    layer(start(2), x)


def test_direction_of_the_penalty_follows_from_seed_and_step_and_keeps_its_place() -> None:
    """Whatever was drawn before, and for whatever batch."""
    layer = layer_of(TanhCell())
    penalty = JacobianPenalty(layer, 1.0)
    penalty.draw(0, 4)
    layer(start(3), inputs(3))
    first = penalty._direction
    kept = first.clone()
    penalty.draw(0, 5)
    layer(start(3), inputs(3))
    assert penalty._direction is first
    assert not torch.equal(first, kept)
    layer(start(2), inputs(2))
    penalty.draw(0, 4)
    layer(start(3), inputs(3))
    assert torch.equal(penalty._direction, kept)


@pytest.mark.usefixtures("without_onednn")
def test_training_with_a_jacobian_penalty_is_more_contractive_and_resumes(
    shine_run: Callable, folders: Callable, trace: Callable
) -> None:
    """ρ(∂f/∂z) after eight steps; and the same numbers when interrupted after each step."""
    command = small("method=jf", "outer.optimiser.learning_rate=0.01")
    shine_run(*command)
    (plain,) = folders()
    regularised = (*command, "outer.jacobian_weight=5.0")
    while shine_run(*regularised, "runtime.max_minutes=1e-9").code == 130:
        pass
    (folder,) = set(folders()) - {plain}
    radii = [float(trace(each).spectral_radius.iloc[-1]) for each in (folder, plain)]
    assert radii[0] < 0.9 * radii[1]
    shine_run(*regularised, "runtime.results=whole")
    undisturbed = trace(folder.parents[3] / "whole" / folder.relative_to(folder.parents[2]))
    clocks = ["time", "forward_ms", "backward_ms"]
    pd.testing.assert_frame_equal(
        trace(folder).drop(columns=clocks), undisturbed.drop(columns=clocks)
    )
