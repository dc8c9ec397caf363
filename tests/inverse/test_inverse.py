"""Inverse methods against dense algebra."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shine_exp.errors import UnsupportedSolver, UnsupportedSystem
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.inverse.fallback import Fallback
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.lbfgs import LBFGSInverse
from shine_exp.inverse.neumann import Neumann
from shine_exp.inverse.nystrom import Nystrom
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.inverse_hessian import InverseHessian
from shine_exp.types import AdjointSystem, LinearOperator, Status

D = 12


def matrix(seed: int, condition: float = 50.0) -> torch.Tensor:
    """A symmetric matrix (D, D) with eigenvalues from 1 / condition to 1."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))
    return torch.from_numpy(q * np.geomspace(1.0, condition, D) / condition @ q.T)


def nonsymmetric(seed: int) -> torch.Tensor:
    """I − 0.9 Q / ‖Q‖, the Jacobian of id − f for a contractive f."""
    q = torch.from_numpy(np.random.default_rng(seed + 7).standard_normal((D, D)))
    return torch.eye(D, dtype=torch.float64) - 0.9 * q / torch.linalg.matrix_norm(q, 2)


def vector(seed: int, *batch: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed + 99).standard_normal((*batch, D)))


def system(
    a: torch.Tensor, r: torch.Tensor, tol: float = 1e-10, **changes: object
) -> AdjointSystem:
    """aᵀu = r for each row of r, symmetric unless said otherwise; `vjp` may stand in for aᵀ."""
    product = changes.pop("vjp", lambda v: v @ a)
    operator = LinearOperator(product, changes.pop("symmetric", True))
    return AdjointSystem(operator, r, tol, **changes)


@pytest.mark.parametrize("method", [ConjugateGradient(), LBFGSInverse(), Full()])
@given(seed=st.integers(0, 1000), warm=st.booleans(), exponent=st.integers(-10, -1))
@settings(max_examples=25)
def test_exact_methods_reach_tolerance_on_symmetric_systems(
    method, seed: int, warm: bool, exponent: int
) -> None:
    a, r = matrix(seed), vector(seed)
    tol = 10.0**exponent
    adjoint = method(system(a, r, tol, start=vector(seed + 1) if warm else None))
    assert adjoint.status is Status.CONVERGED
    assert (a @ adjoint.u - r).norm() <= tol * r.norm() * (1 + 1e-6)


@pytest.mark.parametrize(
    "method",
    [
        ConjugateGradient(),
        LBFGSInverse(),
        Nystrom(),
        Refine(JacobianFree(), ConjugateGradient()),
    ],
)
def test_symmetric_methods_refuse_other_systems(method) -> None:
    with pytest.raises(UnsupportedSystem, match="symmetric"):
        method(system(matrix(0), vector(0), symmetric=False))


@pytest.mark.parametrize("method", [Full(factor=1.0), Full(factor=1.0, memory=2), BroydenSteps()])
@given(seed=st.integers(0, 1000), warm=st.booleans(), exponent=st.integers(-8, -1))
@settings(max_examples=25)
def test_exact_methods_reach_tolerance_on_other_systems(
    method, seed: int, warm: bool, exponent: int
) -> None:
    """Each system of a batch reaches its own tolerance, with Jᵀ and not J."""
    a, r, tol = nonsymmetric(seed), vector(seed, 3), 10.0**exponent
    r[1] *= 1e4
    start = vector(seed + 1, 3) if warm else None
    adjoint = method(system(a, r, tol, start=start, symmetric=False, vjp=lambda v: v @ a))
    assert adjoint.status is Status.CONVERGED
    assert ((adjoint.u @ a - r).norm(dim=-1) <= tol * r.norm(dim=-1) * (1 + 1e-6)).all()


def test_full_factor_tightens_tolerance() -> None:
    a, r = nonsymmetric(1), vector(1)
    loose, tight = (
        Full(factor)(system(a, r, 1e-3, symmetric=False)).n_products for factor in (1.0, 1e-4)
    )
    assert loose < tight


@pytest.mark.parametrize("warm", [False, True])
def test_broyden_steps_count_products_and_spare_that_at_zero(warm: bool) -> None:
    a, r, points = nonsymmetric(2), vector(2), []

    def vjp(v: torch.Tensor) -> torch.Tensor:
        points.append(v.clone())
        return v @ a

    start = vector(3) if warm else None
    adjoint = BroydenSteps(4)(system(a, r, 0.0, vjp=vjp, start=start, symmetric=False))
    assert adjoint.status is Status.MAX_STEPS
    assert adjoint.n_products == len(points) == (5 if warm else 4)
    first = points[0] / points[0].norm()  # in other units
    torch.testing.assert_close(first, start / start.norm() if warm else r / r.norm())


@given(seed=st.integers(0, 1000), steps=st.integers(0, 5))
@settings(max_examples=25)
def test_broyden_steps_answer_is_never_worse_than_start(seed: int, steps: int) -> None:
    a, r, start = 20 * nonsymmetric(seed), vector(seed, 3), vector(seed + 1, 3)
    u = BroydenSteps(steps)(system(a, r, start=start, symmetric=False)).u
    assert ((u @ a - r).norm(dim=-1) <= (start @ a - r).norm(dim=-1) * (1 + 1e-12)).all()


@pytest.mark.parametrize(("memory", "same"), [(4, True), (3, False)])
def test_broyden_steps_restart_when_memory_is_full(memory: int, same: bool) -> None:
    """Five steps take in four pairs before the last step."""
    a, r = nonsymmetric(5), vector(5)
    unlimited, limited = (
        BroydenSteps(5, m)(system(a, r, 0.0, symmetric=False)).u for m in (None, memory)
    )
    difference = (limited - unlimited).norm() / unlimited.norm()
    assert difference < 1e-10 if same else difference > 1e-4


def test_broyden_steps_start_from_transposed_estimate() -> None:
    """With the exact inverse one step solves the system."""
    a, r = nonsymmetric(4), vector(4)

    class Inverse:
        def matvec(self, v: torch.Tensor) -> torch.Tensor:
            return v @ torch.linalg.inv(a).T

        def rmatvec(self, v: torch.Tensor) -> torch.Tensor:
            return v @ torch.linalg.inv(a)

    adjoint = BroydenSteps()(system(a, r, 1e-10, estimate=Inverse(), symmetric=False))
    assert (adjoint.status, adjoint.n_products) == (Status.CONVERGED, 1)
    torch.testing.assert_close(adjoint.u, torch.linalg.solve(a.T, r))


def test_cg_counts_products_and_respects_limit() -> None:
    calls = []
    a = matrix(1, 1e4)

    def counted(v: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return a @ v

    adjoint = ConjugateGradient(max_steps=5)(system(a, vector(1), vjp=counted))
    assert (adjoint.status, adjoint.n_products, len(calls)) == (Status.MAX_STEPS, 5, 5)


def test_cg_limit_grows_as_tolerance_falls() -> None:
    a, r = matrix(2, 1e6), vector(2)
    growing = ConjugateGradient(max_steps=5, limit_grows=True)
    assert growing(system(a, r, 1e-5)).n_products == 5
    assert growing(system(a, r, 1e-6)).n_products == 10  # ⌊1 / (100 · 1e-3)⌋


def test_cg_solves_each_system_of_a_batch_at_its_own_pace() -> None:
    a, r = matrix(3), vector(3, 4)
    r[2] = a @ (10 * a[0] / a[0].norm())
    r[1] = 0.0
    adjoint = ConjugateGradient()(system(a, r))
    torch.testing.assert_close(adjoint.u, torch.linalg.solve(a, r.T).T, rtol=1e-7, atol=1e-7)


def test_cg_stalls_in_direction_of_negative_curvature() -> None:
    adjoint = ConjugateGradient()(system(-matrix(4), vector(4)))
    assert adjoint.status is Status.STALLED
    assert torch.equal(adjoint.u, torch.zeros(D, dtype=torch.float64))


def test_jacobian_free_is_identity() -> None:
    r = vector(5, 3)
    assert torch.equal(JacobianFree()(system(matrix(5), r)).u, r)


def test_shine_applies_transposed_estimate() -> None:
    class Skew:
        def matvec(self, v: torch.Tensor) -> torch.Tensor:
            raise AssertionError("H where Hᵀ is meant")

        def rmatvec(self, v: torch.Tensor) -> torch.Tensor:
            return v.flip(-1)

    r = vector(6)
    assert torch.equal(Shine()(system(matrix(6), r, estimate=Skew())).u, r.flip(-1))


@pytest.mark.parametrize("method", [Shine(), Fallback()])
def test_shine_refuses_system_without_estimate(method) -> None:
    with pytest.raises(UnsupportedSolver, match="lbfgs"):
        method(system(matrix(7), vector(7)))


def test_neumann_is_truncated_series_and_converges() -> None:
    a, r = matrix(8), vector(8)
    eye = torch.eye(D, dtype=torch.float64)
    series = 0.5 * sum(torch.linalg.matrix_power(eye - 0.5 * a, j) @ r for j in range(4))
    torch.testing.assert_close(Neumann(n_terms=3, scale=0.5)(system(a, r)).u, series)
    exact = torch.linalg.solve(a, r)
    errors = [float((Neumann(n_terms=n)(system(a, r)).u - exact).norm()) for n in (10, 100, 1000)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5 * exact.norm()


def test_neumann_reports_divergence() -> None:
    adjoint = Neumann(n_terms=2000, scale=10.0)(system(matrix(9), vector(9)))
    assert adjoint.status is Status.DIVERGED


@given(seed=st.integers(0, 500), steps=st.integers(1, 6))
@settings(max_examples=30)
def test_refine_lowers_energy_error_of_shine(seed: int, steps: int) -> None:
    """CG lowers ‖u − u*‖_A at every step, so the refined answer is nearer than its start."""
    a, r = matrix(seed), vector(seed)
    s = vector(seed + 2, 4)
    estimate = InverseHessian.from_pairs(s, s @ a, None)
    exact = torch.linalg.solve(a, r)

    def error(u: torch.Tensor) -> float:
        return float((u - exact) @ a @ (u - exact))

    problem = system(a, r, estimate=estimate)
    refined = Refine(Shine(), ConjugateGradient(max_steps=steps + 1))(problem)
    assert error(refined.u) < error(Shine()(problem).u)
    assert refined.n_products <= steps + 1


class Scaled:
    """An estimate that makes the first system 1.2 times as long, and the second 1.4 times."""

    def rmatvec(self, v: torch.Tensor) -> torch.Tensor:
        return v * torch.tensor([[1.2], [1.4]])


def test_fallback_decides_per_system() -> None:
    r = vector(11, 2)
    adjoint = Fallback(ratio=1.3)(system(matrix(11), r, estimate=Scaled()))
    torch.testing.assert_close(adjoint.u[0], 1.2 * r[0], rtol=1e-6, atol=0)
    assert torch.equal(adjoint.u[1], r[1])
    assert adjoint.fell_back.tolist() == [False, True]
    assert Shine()(system(matrix(11), r, estimate=Scaled())).fell_back is None


def test_fallback_does_not_hand_on_nan() -> None:
    class Broken:
        def rmatvec(self, v: torch.Tensor) -> torch.Tensor:
            return v * math.nan

    r = vector(13, 2)
    adjoint = Fallback()(system(matrix(13), r, estimate=Broken()))
    assert torch.equal(adjoint.u, r)
    assert adjoint.fell_back.tolist() == [True, True]


def test_refine_says_which_systems_fell_back() -> None:
    steps = ConjugateGradient(max_steps=3)
    adjoint = Refine(Fallback(ratio=1.3), steps)(
        system(matrix(11), vector(11, 2), estimate=Scaled())
    )
    assert adjoint.fell_back.tolist() == [False, True]


def test_neumann_of_zero_is_zero() -> None:
    """A saturated sample, whose loss has no gradient, must not spoil the others of its batch."""
    r = torch.stack([vector(14), torch.zeros(D, dtype=torch.float64)])
    u = Neumann(n_terms=3)(system(matrix(14), r)).u
    assert u[0].isfinite().all()
    assert torch.equal(u[1], r[1])


def test_cg_stalls_in_direction_of_no_curvature() -> None:
    a = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    r = torch.tensor([0.0, 1.0], dtype=torch.float64)
    adjoint = ConjugateGradient()(system(a, r))
    assert adjoint.status is Status.STALLED
    assert adjoint.u.isfinite().all()


def test_refine_of_jacobian_free_does_not_see_estimate() -> None:
    class Untouchable:
        def __getattr__(self, name: str) -> None:
            raise AssertionError("the forward estimate was used")

    steps = BroydenSteps(3)
    problem = system(nonsymmetric(12), vector(12), symmetric=False, estimate=Untouchable())
    assert Refine(JacobianFree(), steps)(problem).n_products == 4
    with pytest.raises(AssertionError, match="was used"):
        Refine(Shine(), steps)(problem)


ITERATIVE = [ConjugateGradient, LBFGSInverse, BroydenSteps]


@pytest.mark.parametrize("method", ITERATIVE)
def test_iterative_methods_without_steps_make_no_product(method) -> None:
    def vjp(v: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a product")

    r, start = vector(0), vector(1)
    adjoint = method(max_steps=0)(system(matrix(0), r, vjp=vjp, start=start))
    assert torch.equal(adjoint.u, start)
    assert (adjoint.n_products, adjoint.status) == (0, Status.MAX_STEPS)
    assert not adjoint.converged.any()


@pytest.mark.parametrize("method", ITERATIVE)
@given(seed=st.integers(0, 1000), steps=st.integers(1, 30), exponent=st.integers(-8, -1))
@settings(max_examples=25)
def test_converged_marks_systems_that_reached_tolerance(
    method, seed: int, steps: int, exponent: int
) -> None:
    a, tol = matrix(seed), 10.0**exponent
    r = vector(seed) if method is LBFGSInverse else vector(seed, 3)
    adjoint = method(max_steps=steps)(system(a, r, tol))
    reached = (adjoint.u @ a - r).norm(dim=-1) / r.norm(dim=-1)
    assert adjoint.converged.shape == r.shape[:-1]
    assert (reached[adjoint.converged] <= tol * (1 + 1e-6)).all()
    assert (reached[~adjoint.converged] > tol * (1 - 1e-6)).all()
    assert (adjoint.status is Status.CONVERGED) == bool(adjoint.converged.all())


@pytest.mark.parametrize(
    "method",
    [JacobianFree(), Shine(), Fallback(), Neumann(2), ConjugateGradient(5, limit_grows=True)],
)
def test_converged_is_none_where_method_aims_at_no_tolerance(method) -> None:
    estimate = InverseHessian(None)
    assert method(system(matrix(1), vector(1), estimate=estimate)).converged is None


@pytest.mark.parametrize("method", [ConjugateGradient(), LBFGSInverse()])
@given(seed=st.integers(0, 1000), length=st.sampled_from([1e3, 1e9]))
@settings(max_examples=25)
def test_start_that_is_worse_than_none_is_dropped(method, seed: int, length: float) -> None:
    a, r = matrix(seed), vector(seed)
    cold = method(system(a, r, 1e-6))
    warm = method(system(a, r, 1e-6, start=length * vector(seed + 1)))
    torch.testing.assert_close(warm.u, cold.u)
    assert warm.n_products == cold.n_products + 1


def indefinite(seed: int, d: int = 60) -> torch.Tensor:
    """Symmetric, one eigenvalue −0.02, the others from 0.01 to 10."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    eigenvalues = np.geomspace(0.01, 10.0, d)
    eigenvalues[0] = -0.02
    return torch.from_numpy(q * eigenvalues @ q.T)


@pytest.mark.parametrize("method", [ConjugateGradient(), LBFGSInverse()])
@pytest.mark.parametrize("seed", range(3))
def test_warm_starts_stay_bounded_on_indefinite_systems(method, seed: int) -> None:
    """J changes a little from call to call, and each starts from the last u, as outer steps do."""
    generator = np.random.default_rng(seed)
    r = torch.from_numpy(generator.standard_normal(60))
    u, lengths = None, []
    for _ in range(12):
        change = generator.standard_normal((60, 60))
        a = indefinite(seed) + torch.from_numpy(1e-3 * (change + change.T))
        u = method(system(a, r, 1e-6, start=u)).u
        assert (a @ u - r).norm() <= r.norm() * (1 + 1e-12)
        lengths.append(float(u.norm()))
    assert max(lengths) < 10 * float(r.norm()) / 0.01


@pytest.mark.parametrize("method", [ConjugateGradient(), LBFGSInverse()])
@given(seed=st.integers(0, 1000), rank=st.integers(2, D - 1))
@settings(max_examples=25)
def test_answer_to_singular_inconsistent_system_is_bounded(method, seed: int, rank: int) -> None:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))
    eigenvalues = np.append(np.linspace(1.0, 5.0, rank), np.zeros(D - rank))
    a, r = torch.from_numpy(q * eigenvalues @ q.T), vector(seed)
    adjoint = method(system(a, r, 1e-10))
    assert not adjoint.converged.any()
    assert (a @ adjoint.u - r).norm() <= r.norm() * (1 + 1e-12)
    assert adjoint.u.norm() <= 1e3 * r.norm()


def test_cg_solves_definite_systems_beside_indefinite_one() -> None:
    good, bad = matrix(3), matrix(4) - 0.5 * torch.eye(D, dtype=torch.float64)
    r = vector(3, 2)
    adjoint = ConjugateGradient()(
        system(good, r, 1e-10, vjp=lambda v: torch.stack([v[0] @ good, v[1] @ bad]))
    )
    assert adjoint.status is Status.STALLED
    assert adjoint.converged.tolist() == [True, False]
    torch.testing.assert_close(adjoint.u[0], torch.linalg.solve(good, r[0]), rtol=1e-7, atol=1e-7)
    assert (adjoint.u[1] @ bad - r[1]).norm() <= r[1].norm()


@given(seed=st.integers(0, 1000), steps=st.integers(1, 5))
@settings(max_examples=25)
def test_broyden_steps_without_start_never_answer_zero(seed: int, steps: int) -> None:
    """Where no step gets below ‖r‖, the answer is u = r, and `fell_back` says so."""
    a, r = 20 * nonsymmetric(seed), vector(seed, 3)
    adjoint = BroydenSteps(steps)(system(a, r, symmetric=False))
    assert (adjoint.u.norm(dim=-1) > 0).all()
    assert torch.equal(adjoint.u[adjoint.fell_back], r[adjoint.fell_back])
    improved = (adjoint.u @ a - r).norm(dim=-1) < r.norm(dim=-1)
    assert improved[~adjoint.fell_back].all()


def test_broyden_steps_fall_back_where_first_step_overshoots() -> None:
    a, r = 20 * nonsymmetric(0), vector(0, 3)
    assert BroydenSteps(1)(system(a, r, symmetric=False)).fell_back.all()


def test_broyden_steps_answer_zero_to_zero() -> None:
    adjoint = BroydenSteps(3)(
        system(nonsymmetric(0), torch.zeros(2, D, dtype=torch.float64), symmetric=False)
    )
    assert adjoint.converged.all()
    assert not adjoint.fell_back.any()
    assert not adjoint.u.any()


@pytest.mark.parametrize("exponent", [-37, -24, 0, 24, 36])
@pytest.mark.parametrize(
    "method", [BroydenSteps(40), Full(max_steps=40), Neumann(8), Neumann(8, scale=1.0), Fallback()]
)
def test_answers_are_linear_in_r_of_any_size(method, exponent: int) -> None:
    """float32 squares of 1e-24 are 0."""
    a, r = nonsymmetric(3).float(), vector(3, 2).float()
    estimate = InverseHessian(None)
    estimate.gamma = 2.0  # longer than `Fallback` finds plausible
    whole = system(a, r, 1e-5, symmetric=False, estimate=estimate)
    tiny = replace(whole, r=r * 10.0**exponent)
    expected, found = method(whole), method(tiny)
    torch.testing.assert_close(found.u / 10.0**exponent, expected.u, rtol=1e-3, atol=1e-3)
    assert found.status is expected.status


def test_cg_is_linear_in_r_of_any_size() -> None:
    a, r = matrix(3).float(), vector(3).float()
    whole, tiny = (ConjugateGradient()(system(a, r * size, 1e-4)) for size in (1.0, 1e-24))
    torch.testing.assert_close(tiny.u * 1e24, whole.u, rtol=1e-3, atol=1e-3)
    assert tiny.converged.all()


def test_full_refuses_option_that_nothing_reads() -> None:
    Full(limit_grows=True).check_system(symmetric=True)
    Full(memory=5).check_system(symmetric=False)
    for method in (Full(memory=5), Refine(Shine(), Full(memory=5))):
        with pytest.raises(UnsupportedSystem, match="memory=5"):
            method.check_system(symmetric=True)
    with pytest.raises(UnsupportedSystem, match="limit_grows=true"):
        Full(limit_grows=True).check_system(symmetric=False)
    Refine(Shine(), BroydenSteps()).check_system(symmetric=True)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_nystrom_of_full_rank_is_the_damped_inverse(seed: int) -> None:
    a, r, damping = matrix(seed), vector(seed), 0.03
    adjoint = Nystrom(rank=D, damping=damping)(system(a, r))
    expected = torch.linalg.solve(a + damping * torch.eye(D, dtype=torch.float64), r)
    torch.testing.assert_close(adjoint.u, expected)
    assert (adjoint.n_products, adjoint.converged) == (D, None)


@given(seed=st.integers(0, 1000), rank=st.integers(1, D - 1))
@settings(max_examples=25)
def test_nystrom_is_woodburys_inverse_of_the_sketched_matrix(seed: int, rank: int) -> None:
    a, r, method = matrix(seed), vector(seed), Nystrom(rank, damping=0.5)
    sketch = method._sketch(system(a, r)).T
    y = a @ sketch
    nystrom = y @ torch.linalg.pinv(sketch.T @ y) @ y.T
    expected = torch.linalg.solve(nystrom + 0.5 * torch.eye(D, dtype=torch.float64), r)
    found = method(system(a, r))
    torch.testing.assert_close(found.u, expected, rtol=1e-6, atol=1e-8)
    assert found.n_products == rank


def test_nystrom_sees_a_matrix_of_low_rank_and_damps_the_rest_as_its_least_curvature() -> None:
    q, _ = torch.linalg.qr(matrix(5))
    values = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    a = (q[:, :3] * values) @ q[:, :3].T
    r = vector(5)
    seen = q[:, :3].T @ r
    expected = q[:, :3] @ (seen / (values + 1)) + (r - q[:, :3] @ seen)
    torch.testing.assert_close(Nystrom(rank=5)(system(a, r)).u, expected)


def test_nystrom_leaves_out_negative_curvature_and_answers_r_where_there_is_no_other() -> None:
    a = indefinite(3)
    r = torch.ones(len(a), dtype=torch.float64)
    adjoint = Nystrom(rank=30, damping=1.0)(system(a, r))
    assert float(adjoint.u.norm()) <= float(r.norm()) * (1 + 1e-9), "1 / (λ + 1) of λ ≥ 0"
    for none in (torch.zeros_like(a), -torch.eye(len(a), dtype=torch.float64)):
        stalled = Nystrom()(system(none, r))
        assert torch.equal(stalled.u, r)
        assert stalled.status is Status.STALLED


def test_nystrom_is_linear_in_r_of_any_size() -> None:
    a, r = matrix(3).float(), vector(3).float()
    whole, tiny = (Nystrom(4)(system(a, r * size)) for size in (1.0, 1e-24))
    torch.testing.assert_close(tiny.u * 1e24, whole.u, rtol=1e-3, atol=1e-3)
