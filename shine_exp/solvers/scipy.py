"""SciPy's minimisers: independent baselines, of which L-BFGS-B leaves an estimate for SHINE."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.inverse_hessian import InverseHessian
from shine_exp.solvers.objective import Objective, Point
from shine_exp.types import InverseEstimate, Outer, Solution, Status


@dataclass(frozen=True)
class ScipyMinimizer:
    """Minimise G by `scipy.optimize.minimize`, stopped where ‖∇G‖ ≤ tol; z is (d,), on the CPU.

    The method "L-BFGS-B" leaves an estimate of the pairs in SciPy's `hess_inv`, with H₀ = I. The
    method "CG", the non-linear conjugate gradient, leaves none. Both start without memory. Raises
    `UnsupportedSolver` on another device, and for another inner product than Σ_j a_j b_j.
    """

    method: Literal["L-BFGS-B", "CG"]
    memory: PositiveInt = 30
    max_steps: NonNegativeInt = 1000

    finds = "minimum"
    uses_estimate = False

    @property
    def leaves_estimate(self) -> bool:
        return self.method == "L-BFGS-B"

    def __call__(
        self,
        g: Objective,
        z0: Tensor,
        tol: float,
        *,
        outer: Outer | None = None,
        estimate: InverseEstimate | None = None,
    ) -> Solution:
        function = _Function(g)
        before = g.n_evals
        if not g.inner_product.is_plain:
            raise UnsupportedSolver(
                "SciPy's minimisers know the plain inner product only: take problem.euclidean"
            )
        if z0.device.type != "cpu":
            raise UnsupportedSolver(
                "SciPy's minimisers work on the CPU: take solver=lbfgs, or runtime.device=cpu"
            )
        result = self._minimise(function, z0.numpy(), tol)
        point = function.at(result.x)
        residual = torch.tensor(point.gradient_norm, dtype=z0.dtype)
        diverged = ~(residual + point.value).isfinite()
        converged = (residual <= tol) & ~diverged
        status = Status.MAX_STEPS
        if converged or diverged:
            status = Status.CONVERGED if converged else Status.DIVERGED
        return Solution(
            z=point.z,
            estimate=self._estimate(result),
            residual=residual,
            n_steps=result.nit,
            n_evals=g.n_evals - before,
            status=status,
            converged=converged,
            diverged=diverged,
            point=point,
        )

    def _minimise(self, function: "_Function", start: np.ndarray, tol: float) -> OptimizeResult:
        """SciPy's result, with no step where the start will do."""

        def solved(z: np.ndarray) -> bool:
            return bool(np.linalg.norm(function(z)[1]) <= tol)

        def stop(intermediate_result: OptimizeResult) -> None:
            if solved(intermediate_result.x):
                raise StopIteration

        if solved(start):
            return OptimizeResult(x=start, nit=0)
        # SciPy's own tests, on the largest entry of ∇G and on the decrease of G, are switched off:
        # the solvers here are compared at one and the same ‖∇G‖₂.
        options = {"maxiter": self.max_steps, "gtol": 0.0}
        if self.method == "L-BFGS-B":
            options |= {"maxcor": self.memory, "maxfun": 10**9, "ftol": 0.0}
        return minimize(
            function, start, jac=True, method=self.method, callback=stop, options=options
        )

    def load_estimate(self, saved: dict[str, Any]) -> InverseHessian:
        """The estimate whose `state_dict` was saved."""
        return InverseHessian.from_state_dict(saved)

    def _estimate(self, result: OptimizeResult) -> InverseHessian | None:
        """The estimate of the pairs in SciPy's `hess_inv`; None from CG."""
        if self.method == "CG":
            return None
        pairs = getattr(result, "hess_inv", None)
        if pairs is None:  # no step was made
            return InverseHessian(self.memory, "identity")
        s, y = torch.from_numpy(pairs.sk), torch.from_numpy(pairs.yk)
        return InverseHessian.from_pairs(s, y, self.memory, "identity")


class _Function:
    """G and ∇G for SciPy; the last point is kept, since SciPy's callback asks for it again."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._last: Point | None = None

    def at(self, z: np.ndarray) -> Point:
        if self._last is None or not np.array_equal(z, self._last.z.numpy()):
            self._last = self.objective(torch.from_numpy(z.copy()))
        return self._last

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        point = self.at(z)
        return point.value, point.gradient.numpy()
