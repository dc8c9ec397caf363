"""Broyden's estimate against the dense recursion that it replaces."""

from dataclasses import dataclass

import pytest
import torch
from equilibrium_cells import Cell, Recorded, assert_estimate_is, dense
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shine_exp.solvers import broyden_estimate
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.broyden_estimate import BroydenEstimate
from shine_exp.solvers.estimates import Identity, Transposed
from shine_exp.solvers.iterates import Iterates
from shine_exp.types import Status

GAINS = (0.2, 0.6, 0.95)
seeds = st.integers(0, 10_000)


def recursion(z: Tensor, g: Tensor, memory: int, initial: Tensor) -> list[Tensor]:
    """H (d, d) at each of the iterates z and g (n, d) of one sample, by Broyden's update.

    H ← H + (Δz − HΔg) ΔzᵀH / (ΔzᵀHΔg)
    """
    estimates, n_pairs = [initial], 0
    for dz, dg in zip(z.diff(dim=0), g.diff(dim=0), strict=True):
        H = estimates[-1]
        restart = n_pairs == memory
        n_pairs = 0 if restart else n_pairs + 1
        step = torch.outer(dz - H @ dg, dz @ H) / (dz @ H @ dg)
        estimates.append(initial if restart else H + step)
    return estimates


@settings(max_examples=15)
@given(seed=seeds)
def test_broyden_estimate_equals_dense_recursion(seed):
    g = Recorded(Cell.draw(GAINS, 10, seed))
    solution = Broyden()(g, g.g.start, 1e-4)
    z, values = torch.stack(g.points, 1), torch.stack(g.values, 1)
    stops = [int((residual <= 1e-4).nonzero()[0]) for residual in g.residuals().T]
    assert len(set(stops)) > 1, "the samples were to stop at different steps"
    assert solution.estimate.count.tolist() == stops
    expected = [recursion(z[i], values[i], 50, torch.eye(10).double())[stops[i]] for i in range(3)]
    assert_estimate_is(solution.estimate, torch.stack(expected))


@settings(max_examples=25)
@given(seed=seeds, lengths=st.lists(st.floats(0.1, 1.5), min_size=6, max_size=6))
def test_broyden_estimate_holds_for_any_step_length(seed, lengths):
    """The product form holds for the step t p with any t, another one for each sample."""
    g = Recorded(Cell.draw((0.5, 0.9), 10, seed))
    iterates = Iterates(g, g.g.start, 0.0, max_steps=10)
    estimate = BroydenEstimate(Identity(), iterates, memory=10)
    p = estimate.start(iterates)
    for length in lengths:
        t = torch.tensor([[length], [1.0]], dtype=torch.float64)
        iterates.step(t * p)
        p = estimate.update(iterates, t)
    z, values = torch.stack(g.points, 1), torch.stack(g.values, 1)
    expected = [recursion(z[i], values[i], 10, torch.eye(10).double())[-1] for i in range(2)]
    assert_estimate_is(estimate, torch.stack(expected), tol=1e-8)
    torch.testing.assert_close(p, -estimate.matvec(iterates.g), rtol=1e-9, atol=1e-11)
    dz, dg = z[:, -1] - z[:, -2], values[:, -1] - values[:, -2]
    torch.testing.assert_close(estimate.matvec(dg), dz, rtol=1e-8, atol=1e-10)


@settings(max_examples=15)
@given(seed=seeds, memory=st.integers(1, 5), gain=st.sampled_from((0.8, 0.9, 0.95)))
def test_broyden_restart_spares_stopped_samples(seed, memory, gain):
    """Each sample has the pairs of one cycle; one that stops at a full memory keeps them."""
    tol = 1e-5
    g = Recorded(Cell.draw((0.05, gain), 10, seed))
    solution = Broyden(max_steps=60, memory=memory)(g, g.g.start, tol)
    assert solution.status is Status.CONVERGED
    z, values = torch.stack(g.points, 1), torch.stack(g.values, 1)
    expected, counts = [], []
    for i, residual in enumerate(g.residuals().T):
        stop = int((residual <= tol).nonzero()[0])
        filled = stop % (memory + 1) == 0  # the last pair did not fit any more
        last = stop - 1 if filled and stop > 0 else stop
        expected.append(recursion(z[i], values[i], memory, torch.eye(10).double())[last])
        counts.append(last % (memory + 1))
    assert solution.n_steps > memory
    assert solution.estimate.count.tolist() == counts
    assert_estimate_is(solution.estimate, torch.stack(expected), tol=1e-9)


def test_broyden_estimate_grows_with_its_pairs(monkeypatch: pytest.MonkeyPatch):
    cell = Cell.draw(GAINS, 10, seed=3)
    allotted = Broyden(max_steps=40)(cell, cell.start, 1e-6)
    monkeypatch.setattr(broyden_estimate, "INITIAL_CAPACITY", 1)
    grown = Broyden(max_steps=40)(cell, cell.start, 1e-6)
    assert grown.n_steps == allotted.n_steps > 8
    torch.testing.assert_close(grown.z, allotted.z, rtol=1e-10, atol=1e-10)
    assert_estimate_is(grown.estimate, dense(allotted.estimate, cell.start), tol=1e-8)


def test_broyden_estimate_belongs_to_best_iterate():
    g = Recorded(Cell.draw((0.5, 6.0, 6.0), 10, seed=1))
    solution = Broyden(max_steps=13)(g, g.g.start, 1e-4)
    best = g.best()
    assert 0 < best[1] < 13, "the best iterate was to lie in the middle"
    z, values = torch.stack(g.points, 1), torch.stack(g.values, 1)
    expected = [recursion(z[i], values[i], 50, torch.eye(10).double())[best[i]] for i in range(3)]
    assert_estimate_is(solution.estimate, torch.stack(expected), tol=1e-8)


def test_broyden_estimate_is_initial_one_where_start_is_best():
    solution = Broyden(max_steps=1)(
        lambda z: 4 * z - 1, torch.zeros(1, 1, dtype=torch.float64), 0.0
    )
    assert float(solution.z) == 0
    assert solution.estimate.count.tolist() == [0]
    assert float(solution.estimate.matvec(torch.ones(1, 1, dtype=torch.float64))) == 1


def test_broyden_estimate_outlives_failure():
    """A sample that meets a NaN keeps the pairs up to its best iterate."""
    cell = Cell.draw((0.9, 0.9), 10, seed=2)
    evaluations = 0

    def failing(z):
        nonlocal evaluations
        evaluations += 1
        return torch.where(torch.tensor([[False], [evaluations > 4]]), torch.nan, cell(z))

    failed = Broyden()(failing, cell.start, 1e-6)
    short = Broyden(max_steps=3)(cell, cell.start, 1e-6)
    assert failed.status is Status.DIVERGED
    assert failed.diverged.tolist() == [False, True]
    assert failed.converged.tolist() == [True, False]
    assert short.estimate.count.tolist() == [3, 3]
    assert torch.equal(failed.z[1], short.z[1])
    torch.testing.assert_close(
        dense(failed.estimate, cell.start)[1], dense(short.estimate, cell.start)[1]
    )


def test_broyden_leaves_out_singular_update():
    """Where g is constant, sᵀHΔg = 0: H stays I, and the other sample is updated as if alone."""
    cell = Cell.draw((0.5,), 10, seed=3)
    constant = torch.ones(1, 10, dtype=torch.float64)
    g = Recorded(lambda z: torch.cat([constant, cell(z[1:])]))
    solution = Broyden(max_steps=8)(g, torch.zeros(2, 10).double(), 1e-6)
    assert torch.equal(g.points[-1][0], -8 * constant[0])
    alone = Broyden(max_steps=8)(cell, cell.start, 1e-6)
    estimate = dense(solution.estimate, torch.zeros(2, 10).double())
    assert torch.equal(estimate[0], torch.eye(10).double())
    torch.testing.assert_close(estimate[1:], dense(alone.estimate, cell.start))


@dataclass(frozen=True)
class Diagonal:
    entries: Tensor

    def matvec(self, v: Tensor) -> Tensor:
        return self.entries * v

    rmatvec = matvec


@pytest.mark.parametrize("second", [1e21, 1e40])
def test_broyden_leaves_out_overflowing_direction(second):
    """With H₀ = diag(1, second / 10¹²) the second direction, or its length, overflows float32."""

    def g(z):
        first = torch.tensor([[-1e13, 0.0]]).expand_as(z)
        return torch.where((z[:, :1] == 0), first, torch.tensor([[0.0, -1e12]])) + 0 * z

    initial = Diagonal(torch.tensor([1.0, second / 1e12]))
    solution = Broyden()(g, torch.zeros(1, 2), 1.0, estimate=initial)
    assert solution.residual.item() == pytest.approx(1e12)
    v = torch.tensor([[1.0, 1e-12]])
    torch.testing.assert_close(solution.estimate.matvec(v), initial.matvec(v))
    torch.testing.assert_close(solution.estimate.rmatvec(v), initial.rmatvec(v))


@pytest.mark.parametrize("n_steps", [0, 3])
def test_broyden_estimate_product_is_new_memory(n_steps):
    """The solver negates H g in place, which must not reach g, although H₀ = I returns g itself."""
    cell = Cell.draw(GAINS, 10, seed=4)
    inner = Broyden(n_steps)(cell, cell.start, 0.0).estimate
    for estimate in (inner, Broyden(n_steps)(cell, cell.start, 0.0, estimate=inner).estimate):
        v = cell.bias.clone()
        expected = -estimate.matvec(v)
        assert torch.equal(estimate.matvec(v).neg_(), expected)
        assert torch.equal(v, cell.bias)


def test_broyden_solved_start_leaves_initial_estimate():
    solution = Broyden()(lambda z: z, torch.zeros(2, 4), 0.0)
    assert (solution.status, solution.n_steps) == (Status.CONVERGED, 0)
    assert torch.equal(solution.estimate.matvec(torch.ones(2, 4)), torch.ones(2, 4))
    assert torch.equal(solution.estimate.rmatvec(torch.ones(2, 4)), torch.ones(2, 4))


@settings(max_examples=10)
@given(seed=seeds)
def test_broyden_adjoint_system_starts_from_transposed_estimate(seed):
    """The dense recursion over H₀ = Hᵀ holds, and the forward estimate does not change."""
    cell = Cell.draw(GAINS, 10, seed)
    forward = Broyden()(cell, cell.start, 1e-5)
    before = dense(forward.estimate, cell.start)
    J, r = cell.jacobian(forward.z), cell.bias

    g = Recorded(lambda u: torch.einsum("bij,bi->bj", J, u) - r)
    adjoint = Broyden(max_steps=4)(
        g, forward.estimate.rmatvec(r), 0.0, estimate=Transposed(forward.estimate)
    )
    best = g.best()
    u, values = torch.stack(g.points, 1), torch.stack(g.values, 1)
    expected = [recursion(u[i], values[i], 50, before[i].T)[best[i]] for i in range(3)]
    assert_estimate_is(adjoint.estimate, torch.stack(expected), tol=1e-7)
    assert torch.equal(dense(forward.estimate, cell.start), before)


def test_broyden_transposed_start_pays():
    """Four steps on Jᵀu = r from (Hᵀr, Hᵀ) end nearer than from (Hᵀr, I) and from (Hᵀr, H)."""
    ends = {"transposed": [], "untransposed": [], "identity": []}
    for seed in range(20):
        cell = Cell.draw((0.9,), 20, seed)
        forward = Broyden()(cell, cell.start, 1e-5)
        J = cell.jacobian(forward.z)
        r = torch.randn(1, 20, generator=torch.Generator().manual_seed(seed)).double()
        starts = {
            "transposed": Transposed(forward.estimate),
            "untransposed": forward.estimate,
            "identity": None,
        }
        for name, estimate in starts.items():
            system = lambda u: torch.einsum("bij,bi->bj", J, u) - r  # noqa: B023, E731
            start = forward.estimate.rmatvec(r)
            ends[name].append(Broyden(4)(system, start, 0.0, estimate=estimate).residual)
    median = {name: torch.cat(residuals).median() for name, residuals in ends.items()}
    assert median["transposed"] < median["identity"]
    assert median["transposed"] < median["untransposed"]


def test_broyden_halving_keeps_step_inside_domain():
    """g = 5 log z from z = 4: the unit step leaves the domain."""
    g = Recorded(lambda z: 5 * torch.log(z))
    z0 = torch.tensor([[4.0], [1.1]], dtype=torch.float64)
    assert Broyden()(g, z0, 1e-9).status is Status.DIVERGED
    halved = Broyden(max_halvings=5)(g, z0, 1e-9)
    assert halved.status is Status.CONVERGED
    assert halved.n_evals > halved.n_steps + 1
    torch.testing.assert_close(halved.z, torch.ones_like(z0))
    slope = 5 / halved.z  # H ≈ 1/5, from steps of unequal length
    torch.testing.assert_close(
        halved.estimate.matvec(slope), torch.ones_like(z0), rtol=1e-4, atol=0
    )
