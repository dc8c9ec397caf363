"""What all ways to a hypergradient give, and what they are asked with."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from shine_exp.bilevel.inner_solution import InnerSolution
from shine_exp.bilevel.problem import BilevelProblem


@dataclass(frozen=True)
class Hypergradient:
    """∇h(α), or an approximation: `value` in the shape of α, and the products with ∇²_θθG that it
    cost.

    `solved` says whether the adjoint system was solved to its tolerance; True where the method
    aims at none. `adjoint` is u (d,), of a method that has one.
    """

    alpha: Tensor
    value: Tensor
    n_products: int
    solved: bool
    adjoint: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class HypergradientMethod(Protocol):
    """A way to ∇h(α) from the inner solution at α."""

    def check(self, problem: BilevelProblem) -> None:
        """Raises `UserError` for a problem that lacks what the method needs."""
        ...

    def __call__(
        self,
        problem: BilevelProblem,
        at: InnerSolution,
        tol: float,
        previous: Hypergradient | None = None,
    ) -> Hypergradient:
        """`tol` is relative; `previous` is the last answer of the same loop, None at its first."""
        ...
