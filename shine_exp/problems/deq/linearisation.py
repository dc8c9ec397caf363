"""A function recorded at a point, for products with its transposed Jacobian."""

from collections.abc import Callable

import torch
from torch import Tensor


class Linearisation:
    """f at z: `image` = f(z), with its graph, and (∂f/∂z)ᵀv for any number of v, (batch, d) each.

    `z` is a leaf of the graph; f is evaluated once.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], z: Tensor) -> None:
        with torch.enable_grad():
            self.z = z.detach().requires_grad_()
            self.image = f(self.z)

    def vjp(self, v: Tensor) -> Tensor:
        """(∂f/∂z)ᵀv."""
        (product,) = torch.autograd.grad(self.image, self.z, v, retain_graph=True)
        return product
