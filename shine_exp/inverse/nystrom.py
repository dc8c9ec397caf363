"""A low-rank sketch in place of the Hessian, inverted by Woodbury's identity."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from shine_exp.errors import UnsupportedSystem
from shine_exp.inverse.units import in_units_of_r
from shine_exp.randomness import generator
from shine_exp.types import Adjoint, AdjointSystem, Status


@dataclass(frozen=True)
class Nystrom:
    """u = (Ĵ + ρI)⁻¹ r, where Ĵ = Y (ΩᵀY)⁺ Yᵀ, Y = JΩ, is J on a sketch, J symmetric.

        Ĵ = U Λ Uᵀ,    u = U (Λ + ρ)⁻¹ Uᵀ r + (r − UUᵀ r) / ρ

    (Hataya & Yamada 2023, "Nyström method for accurate and scalable implicit differentiation".)
    Ω is (d, `rank`), orthonormal columns in random directions, drawn from `seed`: the paper takes
    columns of the identity. Y costs `rank` products. `damping` is ρ; None takes the smallest entry
    of Λ, so that J counts as that where the sketch has seen nothing of it.

    Directions in which ΩᵀJΩ has no positive curvature are left out; where it has none at all, the
    answer is r, STALLED. It solves one system, with r (d,). Raises `UnsupportedSystem` where J is
    not symmetric.
    """

    rank: PositiveInt = 10
    damping: PositiveFloat | None = None
    seed: NonNegativeInt = 0

    needs_symmetry = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if not system.operator.symmetric:
            raise UnsupportedSystem("a Nyström sketch needs a symmetric system")
        return in_units_of_r(self._solve, system)

    def _solve(self, system: AdjointSystem) -> Adjoint:
        sketch = self._sketch(system)
        vectors, values = _eigenpairs(sketch, system.operator(sketch))
        n_products = len(sketch)
        if not len(values):
            return Adjoint(system.r, n_products, Status.STALLED)
        damping = float(values.min()) if self.damping is None else self.damping
        seen = vectors @ system.r
        u = vectors.T @ (seen / (values + damping)) + (system.r - vectors.T @ seen) / damping
        status = Status.MAX_STEPS if torch.isfinite(u).all() else Status.DIVERGED
        return Adjoint(u, n_products, status)

    def _sketch(self, system: AdjointSystem) -> Tensor:
        """Ωᵀ, (rank, d), or (d, d) where d is smaller."""
        d = system.r.shape[-1]
        shape = d, min(self.rank, d)
        drawn = torch.randn(shape, dtype=torch.float64, generator=generator(self.seed))
        columns: Tensor = torch.linalg.qr(drawn.to(system.r)).Q
        return columns.T


def _eigenpairs(sketch: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Uᵀ (n, d) and the diagonal of Λ (n,) of Ĵ, from Ωᵀ and Yᵀ (rank, d)."""
    core = sketch @ images.T
    curvatures, axes = torch.linalg.eigh(0.5 * (core + core.T))
    rounding = len(core) * torch.finfo(core.dtype).eps * curvatures.abs().max()
    usable = curvatures > rounding
    # Ĵ = BᵀB with the rows of B = diag(curvature)^(−1/2) axesᵀ Yᵀ
    root = (axes[:, usable] / curvatures[usable].sqrt()).T @ images
    _, singular, vectors = torch.linalg.svd(root, full_matrices=False)
    return vectors, singular**2
