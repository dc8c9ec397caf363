"""SciPy's minimisers behind the project's interface."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from shine_exp.solvers.objective import Smooth
from shine_exp.solvers.scipy import ScipyMinimizer
from shine_exp.types import Status


def function(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scales = torch.arange(1.0, 11.0, dtype=torch.float64)
    return (scales * z**2).sum() / 2 + (z**4).sum() - z.sum(), scales * z + 4 * z**3 - 1


@pytest.mark.parametrize("method", ["L-BFGS-B", "CG"])
def test_scipy_stops_at_tolerance_and_counts_evaluations(method: str) -> None:
    calls = []

    def counted(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        return function(z)

    solution = ScipyMinimizer(method)(Smooth(counted), torch.ones(10, dtype=torch.float64), 1e-6)
    assert solution.status is Status.CONVERGED
    _, gradient = function(solution.z)
    assert float(gradient.norm()) == pytest.approx(float(solution.residual))
    assert solution.residual <= 1e-6
    assert solution.n_evals == len(calls)


def test_scipy_estimate_equals_hess_inv() -> None:
    z0 = np.ones(10)
    solver = ScipyMinimizer("L-BFGS-B", memory=5, max_steps=7)
    solution = solver(Smooth(function), torch.from_numpy(z0), 0.0)
    options = {"maxcor": 5, "maxiter": 7, "ftol": 0.0, "gtol": 0.0}
    reference = minimize(
        lambda z: tuple(p.numpy() for p in function(torch.from_numpy(z))),
        z0,
        jac=True,
        method="L-BFGS-B",
        options=options,
    ).hess_inv
    v = np.random.default_rng(0).standard_normal(10)
    np.testing.assert_allclose(
        solution.estimate.matvec(torch.from_numpy(v)), reference.matvec(v), rtol=1e-9
    )


def test_scipy_cg_leaves_no_estimate() -> None:
    solver = ScipyMinimizer("CG")
    assert solver(Smooth(function), torch.ones(10, dtype=torch.float64), 1e-3).estimate is None
    assert not solver.leaves_estimate
