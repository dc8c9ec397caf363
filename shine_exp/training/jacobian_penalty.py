"""Jacobian regularisation: a penalty on ∂f/∂z at the equilibrium, added to the loss of a step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shine_exp.deq.flattening import Flattening
from shine_exp.deq.layer import DEQ
from shine_exp.processes import processes
from shine_exp.randomness import generator

STREAM = 3  # of random numbers at a step


class JacobianPenalty:
    """Adds a penalty to every loss that is differentiated through an equilibrium layer,

        L + γ Σ_i ‖∂f/∂z(z*_i)‖²_F / (n d),    ‖∂f/∂z‖²_F = E ‖(∂f/∂z)ᵀε‖²,  ε ~ N(0, I)

    with γ = `weight`, over the n samples of a call, of length d, by one ε for each of them (Bai,
    Koltun and Kolter, "Stabilizing Equilibrium Models by Jacobian Regularization", ICML 2021,
    section 4.1). As there, z* is held: the penalty's gradient passes the parameters and inputs of
    f, and no adjoint system. The loss itself stays the number that it is, and must be
    differentiated with the gradient 1. A call in which nothing is solved, as in pre-training, or
    that needs no gradient, gets no penalty.

    ε follows from what `draw` is told before a call. It is drawn there, and keeps its place in
    memory: within a CUDA graph nothing new could be drawn.
    """

    def __init__(self, layer: DEQ, weight: float) -> None:
        self.weight = weight
        self._place = (0, 0)  # seed and step
        self._direction: Tensor | None = None
        layer.register_forward_hook(self._add, with_kwargs=True)

    def draw(self, seed: int, step: int) -> None:
        """Take the ε of a step from now on."""
        self._place = seed, step
        if self._direction is not None:
            self._fill(self._direction)

    def _fill(self, direction: Tensor) -> Tensor:
        drawn = generator(*self._place, STREAM, device=direction.device)
        together = processes()
        if together.n == 1:
            return direction.normal_(generator=drawn)
        whole = direction.new_empty(together.n * len(direction), *direction.shape[1:])
        return direction.copy_(whole.normal_(generator=drawn)[together.rows(len(whole))])

    def _direction_like(self, z: Tensor) -> Tensor:
        if self._direction is None or self._direction.shape != z.shape:
            self._direction = self._fill(torch.empty_like(z))
        return self._direction

    def _add(
        self,
        layer: DEQ,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        output: Tensor | list[Tensor],
    ) -> Tensor | list[Tensor]:
        """The output as it is, through which the penalty gets its gradient."""
        if layer.last is None or not torch.is_grad_enabled():
            return output
        named = {name: value for name, value in named.items() if name != "loss"}
        z0, *inputs = (named.pop("z0"), *arguments) if "z0" in named else arguments
        flattening = Flattening.of(z0)
        f = flattening.on_vectors(layer.cell, *inputs, **named)
        z = flattening.flatten(output).detach()
        squares = squared_jacobian_norm(f, z, self._direction_like(z))
        penalty = self.weight * squares.mean() / z.shape[-1]
        parts = (output,) if isinstance(output, Tensor) else output
        added = _AddToLoss.apply(penalty, *parts)  # type: ignore[no-untyped-call]
        return added[0] if isinstance(output, Tensor) else list(added)


def squared_jacobian_norm(f: Callable[[Tensor], Tensor], z: Tensor, direction: Tensor) -> Tensor:
    """‖(∂f/∂z)ᵀε‖² of each sample, (batch,): for ε ~ N(0, I) it is ‖∂f/∂z‖²_F in the mean.

    `f` maps vectors z (batch, d) to the like; `direction` is ε (batch, d). It has a graph of all
    that f depends on but z (Hutchinson 1990).
    """
    z = z.detach().requires_grad_()
    (product,) = torch.autograd.grad(f(z), z, direction, create_graph=True)
    return product.square().sum(dim=-1)


class _AddToLoss(torch.autograd.Function):
    """The parts of a state as they are; in the backward pass the penalty gets the gradient 1."""

    @staticmethod
    def forward(ctx: Any, penalty: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.clone() for part in parts)  # which a network may change in place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients[0].new_ones(()), *gradients
