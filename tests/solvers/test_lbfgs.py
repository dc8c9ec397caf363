"""L-BFGS: its minimum, its secant equations, OPA, warm starts, and how it ends."""

import numpy as np
import pytest
import torch
from quadratics import D, secant_pairs, spd
from scipy.optimize import minimize

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.inverse_hessian import InverseHessian
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.objective import Smooth
from shine_exp.types import Outer, Status


def quartic(a: torch.Tensor):
    """z ↦ ½ zᵀAz + ¼ Σ z_i⁴ − Σ z_i, and its gradient."""

    def function(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 0.5 * z @ a @ z + (z**4).sum() / 4 - z.sum(), a @ z + z**3 - 1

    return function


@pytest.mark.parametrize(
    "settings_", [{}, {"memory": 2}, {"memory": None}, {"initial": "identity"}]
)
def test_lbfgs_minimum_equals_scipys(settings_: dict) -> None:
    function = quartic(spd(5))
    z0 = torch.full((D,), 10.0, dtype=torch.float64)
    solution = LBFGS(**settings_)(Smooth(function), z0, 1e-9)
    reference = minimize(
        lambda z: tuple(p.numpy() for p in function(torch.from_numpy(z))), z0.numpy(), jac=True
    )
    assert solution.status is Status.CONVERGED
    assert solution.residual <= 1e-9
    _, gradient = function(solution.z)
    assert float(gradient.norm()) == pytest.approx(float(solution.residual))
    np.testing.assert_allclose(solution.z, reference.x, atol=1e-5)


def test_lbfgs_secant_equation_holds_for_steps_and_opa_pairs() -> None:
    """H y = s for the newest pair, which is OPA's if there is one after every step."""
    a = spd(6)
    direction = torch.ones(D, dtype=torch.float64)
    for opa in (None, 1):
        solution = LBFGS(memory=4, max_steps=5, opa=opa)(
            Smooth(quartic(a)), 3 * direction, 0.0, outer=Outer(lambda z: direction)
        )
        s, y = solution.estimate.pairs()
        assert len(s) == 4
        torch.testing.assert_close(solution.estimate.matvec(y[-1]), s[-1], rtol=1e-10, atol=1e-12)
        if opa is not None:
            # The pairs alternate: step, outer, step, outer. All are true gradient differences.
            function = quartic(a)
            _, here = function(solution.z)
            _, there = function(solution.z + s[-1])
            torch.testing.assert_close(there - here, y[-1], rtol=1e-10, atol=1e-12)
            assert float(s[-1].norm()) == pytest.approx(float(s[-2].norm()))


def test_lbfgs_opa_sharpens_h_along_outer_gradient() -> None:
    a = spd(7, 40, 1e3)
    b, direction = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 40)))
    exact = torch.linalg.solve(a, direction)
    outer = Outer(lambda z: direction)

    def error(opa: int | None) -> float:
        function = Smooth(lambda z: (0.5 * z @ a @ z - b @ z, a @ z - b))
        solver = LBFGS(memory=None, opa=opa)
        solution = solver(function, torch.zeros_like(b), 1e-8, outer=outer)
        return float((solution.estimate.matvec(direction) - exact).norm() / exact.norm())

    assert error(opa=2) < 0.1 * error(opa=None)


def test_lbfgs_warm_start_saves_steps() -> None:
    a = spd(8, 60, 1e4)
    function = Smooth(lambda z: (0.5 * z @ a @ z - z.sum(), a @ z - 1))
    z0 = torch.zeros(60, dtype=torch.float64)
    cold = LBFGS(memory=None)(function, z0, 1e-8)
    warm = LBFGS(memory=None)(function, z0, 1e-8, estimate=cold.estimate.copy())
    assert warm.status is Status.CONVERGED
    assert warm.n_steps < 0.5 * cold.n_steps


def test_lbfgs_refuses_foreign_estimate() -> None:
    with pytest.raises(UnsupportedSolver, match="InverseHessian"):
        LBFGS()(
            Smooth(quartic(spd(0))), torch.zeros(D, dtype=torch.float64), 1.0, estimate=object()
        )


def test_lbfgs_diverges_on_values_that_are_not_finite() -> None:
    broken = Smooth(lambda z: (z.sum() * torch.nan, z * torch.nan))
    assert LBFGS()(broken, torch.ones(D, dtype=torch.float64), 1e-6).status is Status.DIVERGED


def test_lbfgs_reports_step_limit() -> None:
    solution = LBFGS(max_steps=2)(
        Smooth(quartic(spd(1))), torch.ones(D, dtype=torch.float64), 1e-12
    )
    assert (solution.status, solution.n_steps, solution.n_evals) == (Status.MAX_STEPS, 2, 3)


def test_lbfgs_memory_grows_until_badly_scaled_problem_is_solved() -> None:
    a = spd(3, 30, 1e6)

    def quadratic(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 0.5 * z @ a @ z - z.sum(), a @ z - 1

    solution = LBFGS(memory=5, max_steps=3000)(
        Smooth(quadratic), torch.zeros(30, dtype=torch.float64), 1e-6
    )
    assert solution.status is Status.CONVERGED
    assert len(solution.estimate) > 5


def test_lbfgs_warm_start_keeps_grown_memory() -> None:
    estimate = InverseHessian.from_pairs(*secant_pairs(0, 9), memory=9)
    function = Smooth(quartic(spd(0)))
    solution = LBFGS(memory=4)(
        function, torch.ones(D, dtype=torch.float64), 1e-8, estimate=estimate
    )
    assert solution.estimate.memory >= 9


@pytest.mark.parametrize("d", [1, 3])
def test_lbfgs_stalls_where_rounding_hides_progress(d: int) -> None:
    """A tolerance of 0 is met by luck only; the steps that look for it end soon."""
    x = torch.linspace(0.3, 1.7, 50 * d, dtype=torch.float64).reshape(50, d)

    def logistic(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        margins = x @ z
        return (
            torch.nn.functional.softplus(-margins).sum() + 0.5 * z @ z,
            -x.T @ torch.sigmoid(-margins) + z,
        )

    solution = LBFGS()(Smooth(logistic), torch.full((d,), 3.0, dtype=torch.float64), 0.0)
    assert solution.status is Status.STALLED or solution.residual == 0
    assert solution.n_steps < 200
    assert solution.residual < 1e-10
