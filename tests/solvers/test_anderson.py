"""Anderson acceleration."""

import torch
from equilibrium_cells import Cell, Recorded
from hypothesis import given, settings
from hypothesis import strategies as st

from shine_exp.solvers.anderson import Anderson
from shine_exp.solvers.fixed_point import FixedPoint
from shine_exp.types import Status


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), mixing=st.sampled_from((0.5, 1.0)))
def test_anderson_solves_linear_problem_in_d_plus_one_steps(seed, mixing):
    """With a memory of d it is GMRES, however little f contracts (Walker & Ni 2011, thm 2.2)."""
    cell = Cell.draw((0.5, 0.99), 5, seed)
    g = lambda z: z - torch.einsum("bij,bj->bi", cell.weight, z) - cell.bias  # noqa: E731
    solution = Anderson(memory=5, mixing=mixing, regularization=1e-14)(g, cell.start, 1e-6)
    assert solution.status is Status.CONVERGED
    assert solution.n_steps <= 7
    exact = torch.linalg.solve(torch.eye(5).double() - cell.weight, cell.bias)
    torch.testing.assert_close(solution.z, exact, rtol=0, atol=1e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), mixing=st.sampled_from((0.6, 1.0)), memory=st.integers(1, 3))
def test_anderson_step_solves_regularized_least_squares(seed, mixing, memory):
    """A dense least-squares solve with Tikhonov rows, in Walker & Ni's terms (residual −g)."""
    weight = 1e-2
    g = Recorded(Cell.draw((0.8,), 6, seed))
    Anderson(max_steps=6, memory=memory, mixing=mixing, regularization=weight)(g, g.g.start, 0.0)
    z, residuals = torch.cat(g.points), -torch.cat(g.values)
    dz, dr = z[:-1].diff(dim=0)[-memory:], residuals[:-1].diff(dim=0)[-memory:]
    design = torch.cat([dr.T, weight**0.5 * torch.diag(dr.norm(dim=-1))])
    target = torch.cat([residuals[-2], torch.zeros(memory).double()])
    gamma = torch.linalg.lstsq(design, target[:, None]).solution[:, 0]
    expected = z[-2] + mixing * residuals[-2] - (dz + mixing * dr).T @ gamma
    torch.testing.assert_close(z[-1], expected, rtol=1e-8, atol=1e-10)


def test_anderson_needs_fewer_steps_than_fixed_point_iteration():
    drawn = Cell.draw((1.0,) * 4, 20, seed=0)
    # Symmetric with a largest eigenvalue of 0.98, which stays slow to the end.
    cell = Cell(0.98 * drawn.weight @ drawn.weight.mT, 0.1 * drawn.bias)
    plain, fast = FixedPoint(1000)(cell, cell.start, 1e-4), Anderson(1000)(cell, cell.start, 1e-4)
    assert plain.status is fast.status is Status.CONVERGED
    assert 2 * fast.n_steps < plain.n_steps


def test_anderson_follows_constant_function():
    """Where g does not change there is nothing to accelerate."""
    g = lambda z: torch.where(z[:, :1] < 4, -1.0, 0.0) + 0 * z  # noqa: E731
    solution = Anderson(4, mixing=0.5)(g, torch.zeros(1, 3), 0.0)
    assert solution.status is Status.MAX_STEPS
    longer = Anderson(9, mixing=0.5)(g, torch.zeros(1, 3), 0.0)
    assert longer.status is Status.CONVERGED
    assert torch.equal(longer.z, torch.full((1, 3), 4.0))


def test_anderson_does_not_depend_on_scale():
    """The regularisation is relative: scaled by 1e-6, the same iterates."""
    cell = Cell.draw((0.9,), 8, seed=1)
    small = Anderson(8)(lambda z: 1e-6 * cell(1e6 * z), cell.start, 0.0)
    torch.testing.assert_close(
        1e6 * small.z, Anderson(8)(cell, cell.start, 0.0).z, rtol=1e-9, atol=1e-12
    )
