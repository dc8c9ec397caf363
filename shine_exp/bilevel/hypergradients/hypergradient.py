"""What every way to a hypergradient is given, and what it answers."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from shine_exp.bilevel.inner_solution import InnerSolution
from shine_exp.bilevel.problem import BilevelProblem


@dataclass(frozen=True)
class Hypergradient:
    """∇h(α) or an approximation, `value`, in the shape of α, and what it cost.

    `n_products` counts the products with ∇²_θθG. `solved` says whether the adjoint system was
    solved to its tolerance, and is True where the method aims at none; it is never True of a value
    that is not finite. `adjoint` is u (d,) if the method has one.
    """

    alpha: Tensor
    value: Tensor
    n_products: int
    solved: bool
    adjoint: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """All of it, as numbers and tensors."""
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
        """∇h at `at.alpha`; `tol` is relative, `previous` the last answer in the same loop."""
        ...
