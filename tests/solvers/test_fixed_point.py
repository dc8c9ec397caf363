"""Fixed-point iteration."""

import torch
from equilibrium_cells import Cell

from shine_exp.solvers.fixed_point import FixedPoint
from shine_exp.types import Status


def test_fixed_point_iterate_is_f_applied_n_times():
    cell = Cell.draw((0.9, 0.5), 8, seed=0)
    z = cell.start
    for _ in range(5):
        z = z - cell(z)
    torch.testing.assert_close(FixedPoint(5)(cell, cell.start, 0.0).z, z, rtol=0, atol=1e-12)


def test_fixed_point_damping_tames_oscillation():
    """f(z) = −2z + 3 has slope −2: Picard iteration diverges, β = ½ contracts by ½ a step."""
    z0 = torch.tensor([[3.0], [-1.0]], dtype=torch.float64)
    g = lambda z: 3 * z - 3  # noqa: E731
    assert FixedPoint(60)(g, z0, 1e-9).status is Status.MAX_STEPS
    damped = FixedPoint(60, mixing=0.5)(g, z0, 1e-9)
    assert damped.status is Status.CONVERGED
    torch.testing.assert_close(damped.z, torch.ones_like(z0))
    after = FixedPoint(1, mixing=0.5)(g, z0, 0.0)
    torch.testing.assert_close(after.residual, 0.5 * g(z0).norm(dim=-1))
