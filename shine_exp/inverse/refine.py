"""A cheap first answer, improved by a few steps of an iterative method."""

from dataclasses import dataclass, replace

from shine_exp.types import (
    Adjoint,
    AdjointSystem,
    InverseMethod,
    take_any_inner_product,
    unread_status,
)


@dataclass(frozen=True)
class Refine:
    """Hand the answer of the method `start` to the iterative method `steps` as its first iterate.

    (Ramzi et al. 2022, "refine".) `steps` sees the forward solver's estimate only
    where `start` uses it too: refined Jacobian-Free must not profit from H.
    """

    start: InverseMethod
    steps: InverseMethod

    @property
    def uses_estimate(self) -> bool:
        return getattr(self.start, "uses_estimate", False)

    @property
    def needs_symmetry(self) -> bool:
        return getattr(self.steps, "needs_symmetry", False)

    @property
    def any_inner_product(self) -> bool:
        return take_any_inner_product(self.start, self.steps)

    def check_system(self, symmetric: bool) -> None:
        """Raises `UnsupportedSystem` for an option of `steps` that nothing would read."""
        if hasattr(self.steps, "check_system"):
            self.steps.check_system(symmetric)

    def __call__(self, system: AdjointSystem) -> Adjoint:
        first = self.start(system)
        estimate = system.estimate if self.uses_estimate else None
        refined = self.steps(replace(system, start=first.u, estimate=estimate))
        n_products, status = first.n_products + refined.n_products, unread_status(refined)
        return Adjoint(refined.u, n_products, status, refined.converged, first.fell_back)
