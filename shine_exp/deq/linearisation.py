"""A function recorded at a point, for products with its transposed Jacobian."""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from shine_exp.types import LinearOperator


class Linearisation:
    """f at z: `image` = f(z), with its graph, and (∂f/∂z)ᵀv for any number of v, (batch, d) each.

    `z` is a leaf of the graph; f is evaluated once.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], z: Tensor) -> None:
        with torch.enable_grad():
            self.z = z.detach().requires_grad_()
            self.image = f(self.z)
        self._roots = [get_gradient_edge(self.image)] if self.image.requires_grad else []

    def give_image(self) -> Tensor:
        """f(z), which is not kept here any longer: products need its graph alone."""
        image = self.image
        del self.image
        return image

    def vjp(self, v: Tensor) -> Tensor:
        """(∂f/∂z)ᵀv."""
        (product,) = torch.autograd.grad(self._roots, self.z, [v], retain_graph=True)
        return product

    def transposed_jacobian(self) -> LinearOperator:
        """Jᵀ of J = I − ∂f/∂z, the Jacobian of z − f(z)."""
        return LinearOperator(lambda v: v - self.vjp(v))

    def depends(self) -> tuple[bool, bool]:
        """Whether the graph of f(z) leads to z, and whether it leads to anything else.

        Breadth first, until both are found: z and the nearest parameter are a few nodes away,
        while the graph behind an input may be a network of its own.
        """
        on_z = on_more = False
        nodes = deque(root.node for root in self._roots)
        seen: set[Node] = set()
        while nodes and not (on_z and on_more):
            node = nodes.popleft()
            if node in seen:
                continue
            seen.add(node)
            following = [next_node for next_node, _ in node.next_functions if next_node is not None]
            nodes.extend(following)
            if not following:  # a leaf, or a function that hides what it depends on
                is_z = getattr(node, "variable", None) is self.z
                on_z, on_more = on_z or is_z, on_more or not is_z
        return on_z, on_more
