"""What every solver of a batch of root problems promises, whatever its method."""

from dataclasses import fields, replace

import pytest
import torch
from equilibrium_cells import Cell, Recorded
from hypothesis import given, settings
from hypothesis import strategies as st

from shine_exp.errors import UnsupportedSolver, UserError
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.anderson import Anderson
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.estimates import Identity, Transposed
from shine_exp.solvers.fixed_point import FixedPoint
from shine_exp.types import Status

GAINS = (0.1, 0.5, 0.9)
SOLVERS = [
    Broyden(200),
    Broyden(200, memory=4),
    AdjointBroyden(200),
    AdjointBroyden(200, memory=4),
    Anderson(300),
    FixedPoint(600),
    FixedPoint(600, mixing=0.7),
    Broyden(200, max_halvings=3),
]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)


@every_solver
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_root_solver_converges_to_tolerance(solver, seed):
    cell = Cell.draw(GAINS, 12, seed)
    solution = solver(cell, cell.start, 1e-9)
    assert solution.status is Status.CONVERGED
    assert (solution.residual <= 1e-9).all()
    torch.testing.assert_close(
        cell(solution.z).norm(dim=-1), solution.residual, rtol=1e-6, atol=1e-15
    )
    assert solution.residual.shape == (3,)


@every_solver
@settings(max_examples=5)
@given(seed=st.integers(0, 10_000))
def test_root_solver_solves_batch_as_its_samples(solver, seed):
    cell = Cell.draw(GAINS, 12, seed)
    together = solver(cell, cell.start, 1e-6)
    alone = [solver(cell.sample(i), cell.start[i : i + 1], 1e-6) for i in range(3)]
    assert len({solution.n_steps for solution in alone}) > 1, (
        "the samples were to stop at different steps"
    )
    torch.testing.assert_close(
        together.z, torch.cat([solution.z for solution in alone]), rtol=0, atol=1e-11
    )
    assert together.n_steps == max(solution.n_steps for solution in alone)
    if together.estimate is not None:
        r = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for product in ("matvec", "rmatvec"):
            expected = torch.cat(
                [getattr(s.estimate, product)(r[i : i + 1]) for i, s in enumerate(alone)]
            )
            torch.testing.assert_close(
                getattr(together.estimate, product)(r), expected, rtol=1e-6, atol=1e-8
            )


@every_solver
def test_root_solver_leaves_converged_sample_alone(solver):
    g = Recorded(Cell.draw(GAINS, 12, seed=3))
    solution = solver(g, g.g.start, 1e-7)
    stopped = int((g.residuals()[:, 0] <= 1e-7).nonzero()[0])
    assert stopped < len(g.points) - 3
    for z in g.points[stopped:]:
        assert torch.equal(z[0], solution.z[0])


@every_solver
def test_root_solver_gives_each_sample_its_best_iterate(solver):
    g = Recorded(Cell.draw((0.5, 3.0, 6.0), 12, seed=4))
    solution = replace(solver, max_steps=25)(
        g, g.g.start, torch.tensor([1e-8, 0.0, 0.0], dtype=torch.float64)
    )
    assert solution.status is Status.MAX_STEPS
    best = g.best()
    assert min(best) < len(g.points) - 1, "the last iterate was not to be everybody's best"
    torch.testing.assert_close(
        solution.residual, g.residuals().min(dim=0).values, rtol=1e-12, atol=0
    )
    for i in range(3):
        assert torch.equal(solution.z[i], g.points[best[i]][i])


@every_solver
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_root_solver_failure_does_not_disturb_other_samples(solver, poison):
    cell = Cell.draw(GAINS, 12, seed=5)
    n_evals = 0

    @Recorded
    def failing(z):
        nonlocal n_evals
        n_evals += 1
        broken = torch.tensor([False, n_evals > 2, False])
        return torch.where(broken[:, None], poison, cell(z))

    solution, sound = solver(failing, cell.start, 1e-7), solver(cell, cell.start, 1e-7)
    assert solution.status is Status.DIVERGED
    others = torch.tensor([0, 2])
    torch.testing.assert_close(solution.z[others], sound.z[others], rtol=0, atol=1e-12)
    assert solution.z.isfinite().all()
    assert torch.equal(failing.points[-1][1], solution.z[1]), (
        "g is still evaluated there, on behalf of the others"
    )
    torch.testing.assert_close(
        solution.residual, cell(solution.z).norm(dim=-1), rtol=1e-6, atol=1e-15
    )
    if solution.estimate is not None:
        r = torch.ones_like(cell.start)
        for product in ("matvec", "rmatvec"):
            actual = getattr(solution.estimate, product)(r)
            expected = getattr(sound.estimate, product)(r)
            assert actual.isfinite().all()
            torch.testing.assert_close(actual[others], expected[others], rtol=1e-7, atol=1e-9)


@every_solver
def test_root_solver_diverges_where_function_is_never_finite(solver):
    z0 = torch.ones(2, 3, dtype=torch.float64)
    solution = solver(lambda z: z * torch.nan, z0, 1e-8)
    assert solution.status is Status.DIVERGED
    assert torch.equal(solution.z, z0)
    assert solution.residual.isinf().all()
    assert (solution.n_steps, solution.n_evals) == (0, 1)


@every_solver
def test_root_solver_exact_solution_leaves_finite_estimate(solver):
    """f = 1: one undamped step ends in g = 0, where nothing has a direction."""
    solution = solver(lambda z: z - 1, torch.zeros(2, 3, dtype=torch.float64), 1e-12)
    assert solution.status is Status.CONVERGED
    if solution.estimate is not None:
        v = torch.arange(6, dtype=torch.float64).reshape(2, 3)
        torch.testing.assert_close(solution.estimate.matvec(v), v)
        torch.testing.assert_close(solution.estimate.rmatvec(v), v)


@every_solver
def test_root_solver_works_in_single_precision(solver):
    cell = Cell.draw(GAINS, 12, seed=6, dtype=torch.float32)
    solution = solver(cell, cell.start, 1e-5)
    assert solution.status is Status.CONVERGED
    assert solution.z.dtype == solution.residual.dtype == torch.float32
    if solution.estimate is not None:
        assert solution.estimate.rmatvec(cell.bias).dtype == torch.float32


@every_solver
def test_root_solver_leading_axes_are_a_batch(solver):
    cell = Cell.draw((0.1, 0.3, 0.5, 0.7, 0.8, 0.9), 5, seed=7)
    flat = solver(cell, cell.start, 1e-8)
    folded = solver(
        lambda z: cell(z.reshape(6, 5)).reshape(2, 3, 5), cell.start.reshape(2, 3, 5), 1e-8
    )
    assert torch.equal(folded.z, flat.z.reshape(2, 3, 5))
    assert torch.equal(folded.residual, flat.residual.reshape(2, 3))
    single = solver(lambda z: cell.sample(0)(z[None])[0], cell.start[0], 1e-8)
    assert single.residual.shape == ()
    torch.testing.assert_close(single.z, flat.z[0], rtol=0, atol=1e-12)
    if flat.estimate is not None:
        v = cell.bias.reshape(2, 3, 5)
        assert torch.equal(
            folded.estimate.matvec(v), flat.estimate.matvec(cell.bias).reshape(2, 3, 5)
        )
        assert torch.equal(
            folded.estimate.rmatvec(v), flat.estimate.rmatvec(cell.bias).reshape(2, 3, 5)
        )
        assert single.estimate.matvec(cell.bias[0]).shape == (5,)


@every_solver
def test_root_solver_counts_and_bounds_evaluations(solver):
    g = Recorded(Cell.draw((0.9, 0.95), 12, seed=8))
    short = type(solver)(max_steps=4)
    solution = short(g, g.g.start, 0.0)
    assert solution.status is Status.MAX_STEPS
    assert solution.n_steps == 4
    assert len(g.points) == 5
    products = 4 if isinstance(solver, AdjointBroyden) else 0
    assert solution.n_evals == 5 + products


@every_solver
def test_root_solver_without_steps_returns_start(solver):
    cell = Cell.draw(GAINS, 4, seed=0)
    solution = type(solver)(max_steps=0)(cell, cell.bias, 1e-8)
    assert torch.equal(solution.z, cell.bias)
    assert (solution.status, solution.n_steps, solution.n_evals) == (Status.MAX_STEPS, 0, 1)
    assert solution.estimate is None or torch.equal(solution.estimate.matvec(cell.bias), cell.bias)


@every_solver
def test_root_solver_records_nothing_for_autograd(solver):
    cell = Cell.draw(GAINS, 12, seed=9)
    weight = cell.weight.clone().requires_grad_()
    solution = solver(Cell(weight, cell.bias), cell.start, 1e-6)
    assert not solution.z.requires_grad
    assert not solution.residual.requires_grad
    assert solution.estimate is None or not solution.estimate.rmatvec(cell.bias).requires_grad


@every_solver
def test_root_solver_changes_no_tensor_of_function_or_caller(solver):
    """H₀ = I hands g(z) through: every z and g(z) is afterwards what it was, and so is z₀."""
    cell = Cell.draw(GAINS, 12, seed=10)
    seen, copies = [cell.bias], [cell.bias.clone()]

    def g(z):
        value = cell(z)
        seen.extend((z, value))
        copies.extend((z.detach().clone(), value.detach().clone()))
        return value

    assert solver(g, cell.bias, 1e-6).status is Status.CONVERGED
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(seen, copies, strict=True))


@every_solver
def test_root_solver_copes_with_function_that_returns_its_argument(solver):
    """With g = id, z and g(z) share memory; the answer is that of a g that copies."""
    cell = Cell.draw(GAINS, 12, seed=11)
    # From H₀ = I the first step would end at the solution.
    warm = Broyden(4)(cell, cell.start, 0.0).estimate if solver.leaves_estimate else None
    shared, copied = (
        solver(g, cell.bias, 1e-9, estimate=warm) for g in (lambda z: z, lambda z: z.clone())
    )
    assert shared.status is Status.CONVERGED
    assert warm is None or shared.n_steps > 3
    assert torch.equal(shared.z, copied.z)
    assert torch.equal(shared.residual, copied.residual)
    if warm is not None:
        assert torch.equal(shared.estimate.matvec(cell.bias), copied.estimate.matvec(cell.bias))
        assert torch.equal(shared.estimate.rmatvec(cell.bias), copied.estimate.rmatvec(cell.bias))


@pytest.mark.parametrize("initial", [None, Identity(), Transposed(Identity())], ids=repr)
@pytest.mark.parametrize("n_steps", [0, 6])
@pytest.mark.parametrize("solver", [Broyden, AdjointBroyden])
def test_root_estimate_product_changes_nothing(solver, n_steps, initial):
    """It holds for a fresh and for an updated estimate, although H₀ = I returns its argument."""
    cell = Cell.draw(GAINS, 12, seed=12)
    estimate = solver(max_steps=n_steps)(cell, cell.start, 0.0, estimate=initial).estimate
    v = cell.bias.clone()
    first = [estimate.matvec(v), estimate.rmatvec(v)]
    assert torch.equal(v, cell.bias)
    kept = [product.clone() for product in first]
    second = [estimate.matvec(v), estimate.rmatvec(v)]
    assert torch.equal(v, cell.bias)
    assert all(torch.equal(a, b) for a, b in zip(first + second, kept + kept, strict=True))
    assert (n_steps == 0) == torch.equal(kept[0], v) == torch.equal(kept[1], v)


@every_solver
def test_root_solver_flags_hold(solver):
    cell = Cell.draw(GAINS, 4, seed=0)
    assert {"leaves_estimate", "uses_estimate"}.isdisjoint(field.name for field in fields(solver))
    assert solver.leaves_estimate is (solver(cell, cell.start, 1e-6).estimate is not None)
    if solver.uses_estimate:
        warm = solver(cell, cell.start, 1e-6, estimate=Identity())
        assert warm.status is Status.CONVERGED
    else:
        with pytest.raises(UnsupportedSolver, match="adjoint_broyden"):
            solver(cell, cell.start, 1e-6, estimate=Identity())


@pytest.mark.parametrize("solver", [FixedPoint(), Anderson()], ids=repr)
def test_root_solver_without_estimate_refuses_one(solver):
    cell = Cell.draw(GAINS, 4, seed=0)
    with pytest.raises(UnsupportedSolver, match="adjoint_broyden"):
        solver(cell, cell.start, 1e-6, estimate=Identity())
    assert solver(cell, cell.start, 1e-6).estimate is None


@pytest.mark.parametrize("solver", [Broyden(memory=0), AdjointBroyden(memory=0)], ids=repr)
def test_root_solver_refuses_memory_of_nothing(solver):
    cell = Cell.draw(GAINS, 4, seed=0)
    with pytest.raises(UserError, match="at least one update"):
        solver(cell, cell.start, 1e-6)
