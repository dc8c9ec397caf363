"""L-BFGS against the dense BFGS recursion, and its secant equations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from shine_exp.errors import UnsupportedSolver
from shine_exp.solvers.inverse_hessian import InverseHessian
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.objective import Smooth
from shine_exp.types import Outer, Status

D = 8


def spd(seed: int, d: int = D, condition: float = 30.0) -> torch.Tensor:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    return torch.from_numpy(q * np.geomspace(1.0, condition, d) @ q.T)


def dense_bfgs(s: torch.Tensor, y: torch.Tensor, gamma: float) -> torch.Tensor:
    """H ← (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ, from γI."""
    h = gamma * torch.eye(s.shape[1], dtype=torch.float64)
    for a, b in zip(s, y, strict=True):
        rho = 1 / (a @ b)
        v = torch.eye(len(a), dtype=torch.float64) - rho * torch.outer(a, b)
        h = v @ h @ v.T + rho * torch.outer(a, a)
    return h


def pairs(seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    s = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, D)))
    return s, s @ spd(seed + 1)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), memory=st.sampled_from([1, 3, 5, None]))
@settings(max_examples=60)
def test_the_operator_is_the_dense_recursion_over_the_kept_pairs(
    seed: int, n: int, memory: int | None
) -> None:
    s, y = pairs(seed, n)
    inverse = InverseHessian.from_pairs(s, y, memory)
    kept = n if memory is None else min(n, memory)
    h = dense_bfgs(s[-kept:], y[-kept:], inverse.gamma)
    v = torch.from_numpy(np.random.default_rng(seed + 2).standard_normal((3, 2, D)))
    scale = h.norm()
    assert (inverse.matvec(v) - v @ h).norm() <= 1e-10 * scale * v.norm()
    assert torch.equal(inverse.rmatvec(v), inverse.matvec(v))
    assert (inverse.matvec(y[-1]) - s[-1]).norm() <= 1e-10 * scale * y[-1].norm()
    kept_s, kept_y = inverse.pairs()
    assert torch.equal(kept_s, s[-kept:])
    assert torch.equal(kept_y, y[-kept:])


def test_initial_scaling() -> None:
    s, y = pairs(0, 4)
    assert InverseHessian.from_pairs(s, y, None).gamma == pytest.approx(
        float(s[-1] @ y[-1] / (y[-1] @ y[-1]))
    )
    assert InverseHessian.from_pairs(s, y, None, "identity").gamma == 1.0


def test_a_pair_of_negative_curvature_is_left_out() -> None:
    s, y = pairs(3, 4)
    inverse = InverseHessian.from_pairs(s, y, None)
    before = inverse.matvec(y[0])
    assert not inverse.append(s[0], -y[0])
    assert torch.equal(inverse.matvec(y[0]), before)


def quartic(a: torch.Tensor):
    def function(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 0.5 * z @ a @ z + (z**4).sum() / 4 - z.sum(), a @ z + z**3 - 1

    return function


@pytest.mark.parametrize(
    "settings_", [{}, {"memory": 2}, {"memory": None}, {"initial": "identity"}]
)
def test_the_minimum_is_that_of_scipy(settings_: dict) -> None:
    function = quartic(spd(5))
    z0 = torch.full((D,), 10.0, dtype=torch.float64)
    solution = LBFGS(**settings_)(Smooth(function), z0, 1e-9)
    reference = minimize(
        lambda z: tuple(p.numpy() for p in function(torch.from_numpy(z))), z0.numpy(), jac=True
    )
    assert solution.status is Status.CONVERGED
    assert solution.residual <= 1e-9
    assert float(function(solution.z)[1].norm()) == pytest.approx(float(solution.residual))
    np.testing.assert_allclose(solution.z, reference.x, atol=1e-5)


def test_lbfgs_secant_equations_hold_for_steps_and_for_opa_pairs() -> None:
    """H y = s for the newest pair, whichever kind it is: that of OPA after every step, else the
    step.
    """
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
            z = solution.z
            gradient = quartic(a)
            torch.testing.assert_close(
                gradient(z + s[-1])[1] - gradient(z)[1], y[-1], rtol=1e-10, atol=1e-12
            )
            assert float(s[-1].norm()) == pytest.approx(float(s[-2].norm()))


def test_lbfgs_opa_aligns_h_with_the_outer_gradient() -> None:
    a = spd(7, 40, 1e3)
    b, direction = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 40)))
    exact = torch.linalg.solve(a, direction)
    errors = []
    outer = Outer(lambda z: direction)
    for opa in (None, 2):
        function = Smooth(lambda z: (0.5 * z @ a @ z - b @ z, a @ z - b))
        solver = LBFGS(memory=None, opa=opa)
        solution = solver(function, torch.zeros_like(b), 1e-8, outer=outer)
        errors.append(float((solution.estimate.matvec(direction) - exact).norm() / exact.norm()))
    assert errors[1] < 0.1 * errors[0]


def test_a_warm_start_with_the_estimate_saves_steps() -> None:
    a = spd(8, 60, 1e4)
    function = Smooth(lambda z: (0.5 * z @ a @ z - z.sum(), a @ z - 1))
    z0 = torch.zeros(60, dtype=torch.float64)
    cold = LBFGS(memory=None)(function, z0, 1e-8)
    warm = LBFGS(memory=None)(function, z0, 1e-8, estimate=cold.estimate.copy())
    assert warm.status is Status.CONVERGED
    assert warm.n_steps < 0.5 * cold.n_steps


def test_a_foreign_estimate_is_refused() -> None:
    with pytest.raises(UnsupportedSolver, match="InverseHessian"):
        LBFGS()(
            Smooth(quartic(spd(0))), torch.zeros(D, dtype=torch.float64), 1.0, estimate=object()
        )


def test_non_finite_values_are_reported_as_divergence() -> None:
    broken = Smooth(lambda z: (z.sum() * torch.nan, z * torch.nan))
    assert LBFGS()(broken, torch.ones(D, dtype=torch.float64), 1e-6).status is Status.DIVERGED


def test_the_step_limit_is_reported() -> None:
    solution = LBFGS(max_steps=2)(
        Smooth(quartic(spd(1))), torch.ones(D, dtype=torch.float64), 1e-12
    )
    assert (solution.status, solution.n_steps, solution.n_evals) == (Status.MAX_STEPS, 2, 3)


def test_memory_grows_until_a_badly_scaled_problem_is_solved() -> None:
    a = spd(3, 30, 1e6)

    def quadratic(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 0.5 * z @ a @ z - z.sum(), a @ z - 1

    solution = LBFGS(memory=5, max_steps=3000)(
        Smooth(quadratic), torch.zeros(30, dtype=torch.float64), 1e-6
    )
    assert solution.status is Status.CONVERGED
    assert len(solution.estimate) > 5


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), memory=st.integers(1, 6))
@settings(max_examples=40)
def test_growing_keeps_the_operator_and_makes_room(seed: int, n: int, memory: int) -> None:
    s, y = pairs(seed, n)
    inverse = InverseHessian.from_pairs(s, y, memory)
    v = torch.from_numpy(np.random.default_rng(seed).standard_normal(D))
    before, kept = inverse.matvec(v), len(inverse)
    inverse.grow(at_most=8)
    torch.testing.assert_close(inverse.matvec(v), before)
    assert len(inverse) == kept
    for row_s, row_y in zip(*pairs(seed + 7, 20), strict=True):
        inverse.append(row_s, row_y)
    assert len(inverse) == min(2 * memory, 8)


def test_lbfgs_warm_start_keeps_the_memory_that_a_solve_grew_to() -> None:
    estimate = InverseHessian.from_pairs(*pairs(0, 9), memory=9)
    function = Smooth(quartic(spd(0)))
    solution = LBFGS(memory=4)(
        function, torch.ones(D, dtype=torch.float64), 1e-8, estimate=estimate
    )
    assert solution.estimate.memory >= 9


@pytest.mark.parametrize("d", [1, 3])
def test_rounding_ends_a_solve_as_stalled(d: int) -> None:
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
