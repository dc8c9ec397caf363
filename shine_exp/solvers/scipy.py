"""SciPy's minimisers: independent baselines, and L-BFGS-B's inverse estimate also feeds SHINE."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.inverse_hessian import InverseHessian
from shine_exp.solvers.objective import Objective
from shine_exp.types import Awareness, LinearInverse, Solution, Status


@dataclass(frozen=True)
class ScipyMinimizer:
    """Minimise G by `scipy.optimize.minimize`, stopped where ‖∇G‖ ≤ tol. z is (d,), on the CPU.

    "L-BFGS-B" leaves SciPy's `hess_inv` (its pairs, H₀ = I); "CG", the non-linear conjugate
    gradient, leaves nothing. Both start without memory. Raises `UnsupportedSolver` for
    outer-problem awareness, and on another device.
    """

    method: Literal["L-BFGS-B", "CG"]
    memory: PositiveInt = 30
    max_steps: NonNegativeInt = 1000

    finds = "minimum"
    takes_awareness = False

    @property
    def leaves_inverse(self) -> bool:
        return self.method == "L-BFGS-B"

    def __call__(
        self,
        g: Objective,
        z0: Tensor,
        tol: float,
        *,
        awareness: Awareness | None = None,
        inverse: LinearInverse | None = None,
    ) -> Solution:
        if awareness is not None:
            raise UnsupportedSolver(
                "OPA needs a solver that takes extra secant pairs: solver=lbfgs or bfgs"
            )
        function = _Function(g)
        if z0.device.type != "cpu":
            raise UnsupportedSolver(
                "SciPy's minimisers work on the CPU: take solver=lbfgs, or runtime.device=cpu"
            )
        start = z0.numpy()
        if np.linalg.norm(function(start)[1]) <= tol:
            result = OptimizeResult(x=start, nit=0)
        else:
            options = {"maxiter": self.max_steps, "gtol": 0.0}
            if self.method == "L-BFGS-B":
                options |= {"maxcor": self.memory, "maxfun": 10**9, "ftol": 0.0}

            def stop(intermediate_result: OptimizeResult) -> None:
                if np.linalg.norm(function(intermediate_result.x)[1]) <= tol:
                    raise StopIteration

            result = minimize(
                function, start, jac=True, method=self.method, callback=stop, options=options
            )
        z, residual = (
            torch.from_numpy(result.x.copy()),
            torch.tensor(np.linalg.norm(function(result.x)[1])),
        )
        converged, diverged = residual <= tol, ~residual.isfinite()
        status = (
            Status.CONVERGED if converged else Status.DIVERGED if diverged else Status.MAX_STEPS
        )
        inverse, n_evals = self._estimate(result), function.n_evals
        return Solution(z, inverse, residual, result.nit, n_evals, status, converged, diverged)

    def estimate(self, s: Tensor, y: Tensor) -> InverseHessian | None:
        """SciPy's `hess_inv` for pairs in the rows of s and y (n, d)."""
        return (
            InverseHessian.from_pairs(s, y, self.memory, "identity")
            if self.leaves_inverse
            else None
        )

    def _estimate(self, result: OptimizeResult) -> InverseHessian | None:
        pairs = getattr(result, "hess_inv", None)
        return (
            None
            if pairs is None
            else self.estimate(torch.from_numpy(pairs.sk), torch.from_numpy(pairs.yk))
        )


class _Function:
    """G and ∇G for SciPy; asked twice for the same point it answers from memory."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.n_evals = 0
        self._last: tuple[np.ndarray, float, np.ndarray] | None = None

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        if self._last is None or not np.array_equal(z, self._last[0]):
            point = self.objective(torch.from_numpy(z.copy()))
            self._last = (z.copy(), point.value, point.gradient.numpy())
            self.n_evals += 1
        return self._last[1], self._last[2]
