"""The adjoint Broyden estimate: its secant equation, the dense recursion, and what OPA buys."""

import torch
from equilibrium_cells import Cell, Recorded, assert_estimate_is, dense, dense_transposed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.adjoint_broyden_estimate import AdjointBroydenEstimate
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.estimates import Identity, Transposed
from shine_exp.solvers.iterates import Iterates
from shine_exp.types import Outer, Status

GAINS = (0.2, 0.6, 0.95)
seeds = st.integers(0, 10_000)


def recursion(
    cell: Cell, z: Tensor, memory: int, direction: Tensor | None = None, every: int = 1
) -> Tensor:
    """H = B⁻¹ (d, d) at the last of the iterates z (n, d) of one sample, by the adjoint update.

        B ← B + σ(σᵀJ − σᵀB) / σᵀσ

    A full memory is dropped, except at the last iterate.
    """
    identity = torch.eye(z.shape[-1], dtype=z.dtype)
    B, n_updates = identity, 0
    for n, point in enumerate(z[1:], start=1):
        J = cell.jacobian(point[None])[0]
        for extra in (False, True):
            if extra and (direction is None or n % every != 0):
                continue
            sigma = torch.linalg.solve(B.T, direction) if extra else cell(point[None])[0]
            if n_updates == memory:
                if n == len(z) - 1:
                    break
                B, n_updates = identity, 0
            B = B + torch.outer(sigma, sigma @ J - sigma @ B) / (sigma @ sigma)
            n_updates += 1
    return torch.linalg.inv(B)


@settings(max_examples=15)
@given(seed=seeds, every=st.sampled_from((None, 1, 2)))
def test_adjoint_broyden_estimate_equals_dense_recursion(seed, every):
    g = Recorded(Cell.draw(GAINS, 10, seed))
    r = torch.randn(3, 10, generator=torch.Generator().manual_seed(seed)).double()
    solution = AdjointBroyden(opa=every)(g, g.g.start, 1e-4, outer=Outer(lambda z: r))
    stops = [int((residual <= 1e-4).nonzero()[0]) for residual in g.residuals().T]
    assert len(set(stops)) > 1, "the samples were to stop at different steps"
    assert solution.estimate.count.tolist() == [
        stop + (stop // every if every else 0) for stop in stops
    ]
    z = torch.stack(g.points, 1)
    expected = [
        recursion(g.g.sample(i), z[i, : stops[i] + 1], 100, r[i] if every else None, every or 1)
        for i in range(3)
    ]
    assert_estimate_is(solution.estimate, torch.stack(expected), tol=1e-10)


@settings(max_examples=15)
@given(seed=seeds, memory=st.integers(1, 5))
def test_adjoint_broyden_restart_spares_stopped_samples(seed, memory):
    """The update that finds the memory full opens a cycle, or is left out where a sample stops."""
    g = Recorded(Cell.draw((0.05, 0.9), 10, seed))
    r = torch.ones(2, 10, dtype=torch.float64)
    solver = AdjointBroyden(memory=memory, opa=2)
    solution = solver(g, g.g.start, 1e-5, outer=Outer(lambda z: r))
    assert solution.status is Status.CONVERGED
    stops = [int((residual <= 1e-5).nonzero()[0]) for residual in g.residuals().T]
    assert stops[1] > memory
    z = torch.stack(g.points, 1)
    expected = [
        recursion(g.g.sample(i), z[i, : stops[i] + 1], memory, r[i], every=2) for i in range(2)
    ]
    assert (solution.estimate.count <= memory).all()
    assert_estimate_is(solution.estimate, torch.stack(expected), tol=1e-8)


@settings(max_examples=15)
@given(seed=seeds, n_steps=st.integers(1, 8))
def test_adjoint_broyden_update_meets_adjoint_secant_equation(seed, n_steps):
    """σᵀJ H = σᵀ for σ = g(z), J at the same z, after every update."""
    cell = Cell.draw((0.5, 0.9), 10, seed)
    iterates = Iterates(cell, cell.start, 0.0, max_steps=20, record=True)
    estimate = AdjointBroydenEstimate(Identity(), iterates, memory=20)
    for _ in range(n_steps):
        iterates.step(-estimate.matvec(iterates.g))
        estimate.update(iterates.g, iterates)
    image = torch.einsum("bi,bij->bj", iterates.g, cell.jacobian(iterates.z))
    scale = float(iterates.g.norm())
    torch.testing.assert_close(iterates.vjp(iterates.g), image, rtol=1e-10, atol=1e-10 * scale)
    torch.testing.assert_close(estimate.rmatvec(image), iterates.g, rtol=1e-8, atol=1e-8 * scale)


def test_adjoint_broyden_opa_sharpens_the_adjoint():
    """With an extra update at each step u = Hᵀr has a cosine ≥ 0.999 with J⁻ᵀr in every sample."""
    cell = Cell.draw((0.9,) * 16, 30, seed=0)
    r = torch.randn(16, 30, generator=torch.Generator().manual_seed(1)).double()
    cosine, error = {}, {}
    for name, solver in (
        ("broyden", Broyden()),
        ("adjoint", AdjointBroyden()),
        ("opa", AdjointBroyden(opa=1)),
    ):
        solution = solver(cell, cell.start, 1e-6, outer=Outer(lambda z: r))
        assert solution.status is Status.CONVERGED
        exact = torch.linalg.solve(cell.jacobian(solution.z).mT, r)
        u = solution.estimate.rmatvec(r)
        cosine[name] = torch.cosine_similarity(u, exact)
        error[name] = (u - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert (cosine["opa"] >= 0.999).all()
    assert (error["opa"] < error["broyden"]).all()
    assert (error["opa"] < error["adjoint"]).all()


def test_adjoint_broyden_estimate_belongs_to_best_iterate():
    g = Recorded(Cell.draw((0.5, 8.0), 10, seed=1))
    solution = AdjointBroyden(max_steps=9)(g, g.g.start, 1e-4)
    best = g.best()
    assert 0 < best[1] < 9, "the best iterate was to lie in the middle"
    z = torch.stack(g.points, 1)
    expected = [recursion(g.g.sample(i), z[i, : best[i] + 1], 50) for i in range(2)]
    assert_estimate_is(solution.estimate, torch.stack(expected), tol=1e-7)


def test_adjoint_broyden_leaves_out_singular_update():
    """Where g is flat, σᵀJ = 0: H stays I, whether a step or OPA meets the flat direction."""
    flat = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    solution = AdjointBroyden(max_steps=4, opa=1)(
        lambda z: (1 - flat) * z - flat * target,
        torch.zeros(1, 2).double(),
        0.0,
        outer=Outer(lambda z: flat),
    )
    assert torch.equal(dense(solution.estimate, flat), torch.eye(2).double()[None])


def test_adjoint_broyden_counts_products_as_evaluations():
    cell = Cell.draw((0.9,), 10, seed=4)
    outer = Outer(torch.ones_like)
    solution = AdjointBroyden(max_steps=6, opa=2)(cell, cell.start, 0.0, outer=outer)
    assert (solution.n_steps, solution.n_evals) == (6, 7 + 6 + 3)
    assert solution.estimate.count.tolist() == [6 + 3], "a memory of None is to hold them all"


def test_adjoint_broyden_opa_gradient_sees_shape_of_start():
    cell = Cell.draw((0.5, 0.9), 10, seed=5)
    shapes = []
    head = torch.ones(10, dtype=torch.float64, requires_grad=True)

    def direction(z):
        shapes.append(z.shape)
        return head * torch.ones_like(z)

    solution = AdjointBroyden(opa=3)(
        lambda z: cell(z.reshape(2, 10)).reshape(2, 1, 10),
        cell.start.reshape(2, 1, 10),
        1e-6,
        outer=Outer(direction),
    )
    assert set(shapes) == {(2, 1, 10)}
    assert not solution.estimate.matvec(cell.bias).requires_grad, "the graph of the head ends here"


def test_adjoint_broyden_warm_start_is_used_and_left_alone():
    cell = Cell.draw((0.9, 0.9), 10, seed=6)
    cold = AdjointBroyden()(cell, cell.start, 1e-8)
    before = dense(cold.estimate, cell.start)
    moved = Cell(cell.weight, cell.bias + 1e-3)
    warm = AdjointBroyden()(moved, cold.z, 1e-8, estimate=cold.estimate)
    assert warm.n_steps < AdjointBroyden()(moved, cold.z, 1e-8).n_steps
    assert torch.equal(dense(cold.estimate, cell.start), before)
    assert torch.equal(
        dense(Transposed(cold.estimate), cell.start), dense_transposed(cold.estimate, cell.start)
    )
