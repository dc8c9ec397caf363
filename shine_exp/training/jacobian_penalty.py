"""Jacobian regularisation: a penalty on ∂f/∂z at the equilibrium, added to the loss of a step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from shine_exp.deq.flattening import Flattening
from shine_exp.deq.layer import DEQ


@contextmanager
def jacobian_penalty(layer: DEQ, weight: float, generator: torch.Generator) -> Iterator[None]:
    """Within the block the layer adds a penalty to the loss that is differentiated through it,

        L + γ Σ_i ‖∂f/∂z(z*_i)‖²_F / (n d),    ‖∂f/∂z‖²_F = E ‖(∂f/∂z)ᵀε‖²,  ε ~ N(0, I)

    with γ = `weight`, over the n samples of a call, of length d, by one ε for each of them that the
    `generator` draws on its device (Bai, Koltun and Kolter, "Stabilizing Equilibrium Models by
    Jacobian Regularization", ICML 2021, section 4.1). As there, z* is held: the penalty's gradient
    passes the parameters and inputs of f, and no adjoint system. The loss itself stays the number
    that it is, and must be differentiated with the gradient 1. A call in which nothing is solved,
    as in pre-training, or that needs no gradient, gets no penalty.
    """

    def add(
        layer: DEQ,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        output: Tensor | list[Tensor],
    ) -> Tensor | list[Tensor]:
        if layer.last is None or not torch.is_grad_enabled():
            return output
        named = {name: value for name, value in named.items() if name != "loss"}
        z0, *inputs = (named.pop("z0"), *arguments) if "z0" in named else arguments
        flattening = Flattening.of(z0)
        f = flattening.on_vectors(layer.cell, *inputs, **named)
        z = flattening.flatten(output)
        penalty = weight * squared_jacobian_norm(f, z, generator).mean() / z.shape[-1]
        parts = (output,) if isinstance(output, Tensor) else output
        added = _AddToLoss.apply(penalty, *parts)  # type: ignore[no-untyped-call]
        return added[0] if isinstance(output, Tensor) else list(added)

    hook = layer.register_forward_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def squared_jacobian_norm(
    f: Callable[[Tensor], Tensor], z: Tensor, generator: torch.Generator
) -> Tensor:
    """‖∂f/∂z‖²_F of each sample, (batch,), estimated without bias by ‖(∂f/∂z)ᵀε‖², ε ~ N(0, I).

    `f` maps vectors z (batch, d) to the like. The estimate has a graph of all that f depends on but
    z (Hutchinson 1990).
    """
    z = z.detach().requires_grad_()
    drawn = torch.randn(z.shape, dtype=z.dtype, device=generator.device, generator=generator)
    (product,) = torch.autograd.grad(f(z), z, drawn.to(z.device), create_graph=True)
    return product.square().sum(dim=-1)


class _AddToLoss(torch.autograd.Function):
    """The parts of a state as they are; in the backward pass the penalty gets the gradient 1."""

    @staticmethod
    def forward(ctx: Any, penalty: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(part.clone() for part in parts)  # which a network may change in place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        of_penalty = next(g for g in gradients if g is not None).new_ones(())
        return of_penalty, *gradients
