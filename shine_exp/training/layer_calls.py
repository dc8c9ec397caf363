"""The equilibrium layer of a network, and what its calls in an evaluation have met."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shine_exp.deq.contractivity import spectral_radius
from shine_exp.deq.flattening import Flattening
from shine_exp.deq.layer import DEQ
from shine_exp.deq.linearisation import Linearisation
from shine_exp.errors import UserError


def equilibrium_layer(network: nn.Module) -> DEQ:
    """The one equilibrium layer of a network. Raises `UserError` where it has none or several."""
    layers = [module for module in network.modules() if isinstance(module, DEQ)]
    if len(layers) != 1:
        raise UserError(
            f"the network {type(network).__name__} has {len(layers) or 'no'} equilibrium "
            f"layer{'s' if len(layers) > 1 else ''}, and is trained with exactly one: "
            "make it once, by the factory that Task.network is called with"
        )
    return layers[0]


@dataclass
class LayerCalls:
    """How many samples missed their tolerance in all calls, and the first call's arguments and z*.

    A call in which nothing was solved does not count.
    """

    n_solves: int = 0
    n_unsolved: int = 0
    first: tuple[tuple[Any, ...], dict[str, Any], Tensor | list[Tensor]] | None = None

    def __call__(
        self,
        layer: DEQ,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        output: Tensor | list[Tensor],
    ) -> None:
        if layer.last is None:
            return
        self.n_solves += 1
        self.n_unsolved += int((~layer.last.converged).sum())
        if self.first is None:
            named = {name: value for name, value in named.items() if name != "loss"}
            if "z0" in named:
                arguments = (named.pop("z0"), *arguments)
            self.first = arguments, named, output

    def spectral_radius(self, cell: nn.Module, n_steps: int, generator: torch.Generator) -> float:
        """Median of ρ(∂f/∂z) over the samples of the first call, at their equilibrium.

        By `n_steps` of the power method, which take the memory of a training step on that batch.
        """
        assert self.first is not None
        (z0, *inputs), named, output = self.first
        flattening = Flattening.of(z0)
        f = flattening.on_vectors(cell, *inputs, **named)
        at = Linearisation(f, flattening.flatten(output))
        return float(spectral_radius(at.vjp, at.z, n_steps, generator).median())


@contextmanager
def calls_of(layer: DEQ) -> Iterator[LayerCalls]:
    """What the calls of a layer within the block have met."""
    calls = LayerCalls()
    hook = layer.register_forward_hook(calls, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()
