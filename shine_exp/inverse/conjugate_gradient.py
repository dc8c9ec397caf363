"""The conjugate gradient method for symmetric adjoint systems."""

from dataclasses import dataclass, replace

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from shine_exp.errors import UnsupportedSystem
from shine_exp.inverse.units import in_units_of_r
from shine_exp.types import Adjoint, AdjointSystem, Status

# Rounding may change dᵀJd by this many units in the last place of ‖J‖ ‖d‖².
ROUNDING = 10.0


@dataclass(frozen=True)
class ConjugateGradient:
    """Solve J u = r, J symmetric positive definite, to ‖J u − r‖ ≤ tol ‖r‖.

    This is the backward pass of HOAG (Pedregosa 2016, algorithm 1). It makes at most `max_steps`
    products, which with a low limit is "limited backward" (Ramzi et al. 2022, appendix E). With
    `limit_grows` the limit rises to ⌊1 / (100 √tol)⌋ as the tolerance falls; the limit, not the
    tolerance, is then what the method aims at, and `Adjoint.converged` is None.

    This differs from SciPy's `cg`:

    1. It solves a batch of systems (..., d), each of which stops on its own.
    2. A start that leaves a larger residual than u = 0 is dropped: the adjoint of an earlier outer
       step can be worse than none.
    3. J may turn out to be indefinite or singular, as a Hessian of non-linear least squares can
       be. Along a direction of no positive curvature, beyond rounding, a system ends as STALLED,
       with the lowest residual on the lines that it went along before.
    4. It counts its products, and has no preconditioner.

    Raises `UnsupportedSystem` where J is not symmetric.
    """

    max_steps: NonNegativeInt = 1000
    limit_grows: bool = False

    needs_symmetry = True
    any_inner_product = True

    def __call__(self, system: AdjointSystem) -> Adjoint:
        if not system.operator.symmetric:
            raise UnsupportedSystem("CG needs a symmetric system, as a bi-level problem has")
        limit = self.max_steps
        if self.limit_grows and system.tol > 0:
            limit = max(limit, int(1 / (100 * system.tol**0.5)))
        if limit == 0:
            return Adjoint.unchecked(system.first_iterate)
        adjoint = in_units_of_r(lambda scaled: _Run(scaled).to(system.tol, limit), system)
        return replace(adjoint, converged=None) if self.limit_grows else adjoint


class _Run:
    """The iterates u (..., d) of a batch of systems; squared norms and dᵀJd are (..., 1)."""

    def __init__(self, system: AdjointSystem) -> None:
        self.system = system
        self.dot = system.operator.inner_product
        self.n_products = 0

    def to(self, tol: float, limit: int) -> Adjoint:
        threshold = tol**2 * self._dot(self.system.r, self.system.r)
        self._begin()
        stalled = torch.zeros_like(threshold, dtype=torch.bool)
        while (active := (self.square > threshold) & ~stalled).any() and self.n_products < limit:
            stalled = stalled | ~self._step(active)
        converged = self.square <= threshold
        # While all curvature is positive, the last iterate has the lowest ½uᵀJu − rᵀu so far, and
        # with it the lowest error in the norm of J, although an earlier residual may have been
        # lower. Otherwise that quadratic has no minimum, and only the residual says how good u is.
        u = torch.where(stalled & ~converged, self.best_u, self.u)
        status = Status.CONVERGED
        if not converged.all():
            status = Status.STALLED if stalled.any() else Status.MAX_STEPS
        return Adjoint(u, self.n_products, status, converged[..., 0])

    def _begin(self) -> None:
        r, start = self.system.r, self.system.start
        self.u = torch.zeros_like(r)
        self.residual = r
        self.square = self._dot(r, r)
        if start is not None:
            residual = r - self._product(start)
            square = self._dot(residual, residual)
            better = square < self.square
            self.u = torch.where(better, start, self.u)
            self.residual = torch.where(better, residual, r)
            self.square = torch.where(better, square, self.square)
        self.direction = self.residual
        self.best_u, self.best_square = self.u, self.square
        # The largest ‖Jd‖² / ‖d‖² so far, which is a lower bound of ‖J‖².
        self.stiffness = torch.zeros_like(self.square)

    def _step(self, active: Tensor) -> Tensor:
        """Make one step of the active systems, along their direction d.

        The answer is (..., 1), bool: False for a system whose d has no positive curvature.
        """
        image = self._product(self.direction)
        length, image_square = self._dot(self.direction, self.direction), self._dot(image, image)
        self.stiffness = torch.maximum(self.stiffness, image_square / length)
        curvature = self._dot(self.direction, image)
        # Along a direction in which J is singular, all that is left of dᵀJd is rounding, and a step
        # divided by it would be arbitrarily long.
        rounding = ROUNDING * torch.finfo(length.dtype).eps * self.stiffness.sqrt() * length
        positive = (curvature > rounding) & curvature.isfinite()
        self._remember_lowest(image, image_square, active & positive)
        step = torch.where(active & positive, self.square / curvature, 0.0)
        self.u = torch.addcmul(self.u, step, self.direction)
        # Updated and not computed from u, which would take a second product.
        self.residual = torch.addcmul(self.residual, step, image, value=-1.0)
        last, self.square = self.square, self._dot(self.residual, self.residual)
        ratio = torch.where(last > 0, self.square / last, 0.0)
        self.direction = torch.addcmul(self.residual, ratio, self.direction)
        return ~active | positive

    def _remember_lowest(self, image: Tensor, image_square: Tensor, usable: Tensor) -> None:
        """Keep the point of the line u + t d with the lowest residual, if no other line beats it.

        ‖r − J(u + t d)‖² is a parabola in t, of which every coefficient is known already.
        """
        along = self._dot(image, self.residual)
        t = along / image_square
        square = self.square - t * along
        improved = usable & (square < self.best_square)
        self.best_u = torch.where(improved, torch.addcmul(self.u, t, self.direction), self.best_u)
        self.best_square = torch.where(improved, square, self.best_square)

    def _product(self, v: Tensor) -> Tensor:
        self.n_products += 1
        return self.system.operator(v)

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """⟨a, b⟩ of each system, (..., 1)."""
        return self.dot(a, b)[..., None]
