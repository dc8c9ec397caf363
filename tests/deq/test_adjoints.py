"""Every inverse method inside a layer, against dense algebra and unrolled differentiation."""

import pytest
import torch
from deq_cells import Spy, TanhCell, Watched, normal, pair_problem
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from shine_exp.deq import DEQ, unroll
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.fallback import Fallback
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.neumann import Neumann
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.broyden import Broyden
from shine_exp.types import InverseMethod, Status

pytestmark = pytest.mark.filterwarnings("ignore::shine_exp.deq.ConvergenceWarning")
seeds = st.integers(0, 10_000)
EXACT = {"tol": 1e-12, "adjoint_tol": 1e-12}


def loss(z: Tensor | list[Tensor]) -> Tensor:
    """A scalar whose gradient depends on z, and of which no two entries weigh the same."""
    tensors = [z] if isinstance(z, Tensor) else z
    flat = torch.cat([t.flatten(1) for t in tensors], dim=1)
    return (flat * torch.linspace(1, 2, flat.shape[1], dtype=flat.dtype) - 0.5 * flat**3).sum()


def solved(
    inverse: InverseMethod,
    seed: int,
    *,
    solver=None,
    gain: float = 0.8,
    d: int = 8,
    tol: float = 1e-6,
) -> tuple[Spy, Watched, DEQ, Tensor]:
    """A layer after its backward pass, and what was seen of it."""
    spy, watched = Spy(inverse), Watched(Broyden(100) if solver is None else solver)
    layer = DEQ(TanhCell(d, gain, seed), watched, spy, tol=tol, adjoint_tol=1e-12)
    x = normal(3, 3, seed=seed + 7)
    loss(layer(torch.zeros(3, d, dtype=torch.float64), x, loss=loss)).backward()
    return spy, watched, layer, x


def gradients(layer: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    return [*(p.grad for p in layer.parameters()), *(x.grad for x in inputs)]


def assert_same_gradients(cell: nn.Module, z0, inputs: list[Tensor]) -> None:
    layer = DEQ(cell, Broyden(100), Full(factor=1.0, max_steps=200), **EXACT)
    loss(layer(z0, *inputs)).backward()
    implicit = [g.clone() for g in gradients(cell, inputs)]
    cell.zero_grad()
    for x in inputs:
        x.grad = None
    loss(unroll(cell, z0, *inputs, n_steps=400)).backward()
    for found, expected in zip(implicit, gradients(cell, inputs), strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_full_gradient_is_that_of_the_unrolled_iteration(seed: int) -> None:
    x = normal(3, 3, seed=seed + 7).requires_grad_()
    assert_same_gradients(TanhCell(seed=seed), torch.zeros(3, 8, dtype=torch.float64), [x])


@pytest.mark.parametrize("seed", range(3))
def test_full_gradient_of_a_state_of_two_tensors(seed: int) -> None:
    assert_same_gradients(*pair_problem(seed))


def test_adjoint_products_are_with_the_jacobian_of_id_minus_f() -> None:
    spy, watched, layer, x = solved(JacobianFree(), seed=1)
    z, cell = watched.solution.z, layer.cell
    slope = 1 - torch.tanh(z @ cell.weight.T + x @ cell.inject.T + cell.bias) ** 2
    torch.testing.assert_close(
        spy.J, torch.eye(8).double() - slope[..., None] * cell.weight, rtol=1e-12, atol=1e-12
    )


@settings(max_examples=10)
@given(seed=seeds, n_steps=st.integers(1, 4))
def test_shine_is_the_transposed_sherman_morrison_recursion(seed: int, n_steps: int) -> None:
    """To the best iterate of each sample: H ← H + (Δz − HΔg) ΔzᵀH / (ΔzᵀHΔg).

    Few steps: near the solution, differences of iterates are rounding.
    """
    spy, watched, *_ = solved(Shine(), seed, solver=Broyden(n_steps), gain=0.95, d=20, tol=0.0)
    z, g = torch.stack(watched.points), torch.stack(watched.values)
    for i, best in enumerate(g.norm(dim=-1).argmin(dim=0).tolist()):
        H = torch.eye(20, dtype=torch.float64)
        for dz, dg in zip(z[: best + 1, i].diff(dim=0), g[: best + 1, i].diff(dim=0), strict=True):
            H = H + torch.outer(dz - H @ dg, dz @ H) / (dz @ H @ dg)
        torch.testing.assert_close(spy.adjoint.u[i], H.T @ spy.system.r[i], rtol=1e-10, atol=1e-10)


def test_jacobian_free_differentiates_one_application_of_the_cell() -> None:
    spy, watched, layer, x = solved(JacobianFree(), seed=2)
    z = watched.solution.z.detach()
    expected = torch.autograd.grad(layer.cell(z, x), list(layer.cell.parameters()), spy.system.r)
    for parameter, gradient in zip(layer.cell.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-11, atol=1e-11)


@settings(max_examples=10)
@given(seed=seeds, n_steps=st.integers(1, 6))
def test_adjoint_broyden_leaves_its_secant_equation_to_the_backward_pass(
    seed: int, n_steps: int
) -> None:
    """σᵀJ H = σᵀ for the residual σ at the layer's z."""
    spy, watched, layer, x = solved(
        Shine(), seed, solver=AdjointBroyden(n_steps), gain=0.6, tol=0.0
    )
    z = watched.solution.z.detach()
    sigma = (z - layer.cell(z, x)).detach()
    image = torch.einsum("bi,bij->bj", sigma, spy.J)
    scale = float(sigma.norm())
    torch.testing.assert_close(
        spy.system.estimate.rmatvec(image), sigma, rtol=1e-7, atol=1e-8 * scale
    )


@pytest.mark.parametrize("every", [1, 5])
def test_opa_sharpens_the_gradient_that_the_loss_prescribes(every: int) -> None:
    """Medians over seeds: u is within cosine 0.999 of J⁻ᵀr, and nearer to it than plain SHINE's."""
    cosine, error = [], {"aware": [], "shine": []}
    for seed in range(12):
        for name, solver in (
            ("aware", AdjointBroyden(100, opa=every)),
            ("shine", Broyden(100)),
        ):
            spy, *_ = solved(Shine(), seed, solver=solver, gain=0.9, d=20)
            error[name].append((spy.adjoint.u - spy.exact).norm(dim=-1) / spy.exact.norm(dim=-1))
            if name == "aware":
                cosine.append(cosine_similarity(spy.adjoint.u, spy.exact))
    assert torch.cat(cosine).median() >= 0.999
    assert torch.cat(error["aware"]).median() < 0.5 * torch.cat(error["shine"]).median()


@settings(max_examples=25)
@given(seed=seeds, k=st.integers(1, 7))
def test_refined_shine_is_nearer_than_shine_in_every_sample(seed: int, k: int) -> None:
    refined, *_ = solved(Refine(Shine(), BroydenSteps(k)), seed, gain=0.9, d=20)
    plain, *_ = solved(Shine(), seed, gain=0.9, d=20)
    assert torch.equal(refined.system.r, plain.system.r)
    assert (refined.residual < plain.residual).all()


@pytest.mark.parametrize("k", range(1, 8))
def test_refined_shine_is_nearer_than_refined_jacobian_free(k: int) -> None:
    def median(start: InverseMethod) -> Tensor:
        runs = [
            solved(Refine(start, BroydenSteps(k)), seed, gain=0.9, d=20)[0].residual
            for seed in range(20)
        ]
        return torch.cat(runs).median()

    assert median(Shine()) < median(JacobianFree())


def test_refining_leaves_the_forward_estimate_as_it_was() -> None:
    spy, *_ = solved(Refine(Shine(), BroydenSteps(4)), seed=3)
    assert not torch.equal(spy.before, spy.system.r), (
        "an estimate that has learnt nothing shows nothing"
    )
    assert torch.equal(spy.system.estimate.matvec(spy.system.r), spy.before)


def test_refined_jacobian_free_is_not_given_the_forward_estimate() -> None:
    """The layer does not keep the memory of an estimate that its method will not use."""
    spy, *_ = solved(Refine(JacobianFree(), BroydenSteps(3)), seed=4)
    assert spy.system.estimate is None
    assert solved(Refine(Shine(), BroydenSteps(3)), seed=4)[0].system.estimate is not None


def test_full_converges_to_the_dense_solution_of_a_nonsymmetric_system() -> None:
    errors = []
    for k in (2, 6, 60):
        spy, *_ = solved(Full(factor=1.0, max_steps=k), seed=5)
        assert (spy.J - spy.J.mT).abs().max() > 0.1
        errors.append(float((spy.adjoint.u - spy.exact).norm()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-10
    assert spy.adjoint.status is Status.CONVERGED


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Shine(), 0),
        (JacobianFree(), 0),
        (Fallback(), 0),
        (Full(max_steps=5), 5),  # g(0) = −r needs none
        (Refine(Shine(), BroydenSteps(5)), 6),  # the first one is where it starts
        (Refine(JacobianFree(), BroydenSteps(5)), 6),
        (Neumann(n_terms=5, scale=1.0), 5),
        (Neumann(n_terms=5, n_power_steps=4), 9),
    ],
)
def test_adjoint_products_are_counted_one_by_one(method: InverseMethod, expected: int) -> None:
    spy, _, layer, _ = solved(method, seed=6, gain=0.9, d=20)
    assert (layer.last.products, spy.n_products) == (expected, expected)


def test_adjoint_neumann_of_scale_one_sums_the_powers_of_the_cell_s_jacobian() -> None:
    spy, *_ = solved(Neumann(n_terms=5, scale=1.0), seed=7)
    F = torch.eye(8, dtype=torch.float64) - spy.J.mT  # (∂f/∂z)ᵀ
    terms = [torch.linalg.matrix_power(F, j) @ spy.system.r[..., None] for j in range(6)]
    torch.testing.assert_close(spy.adjoint.u, sum(terms)[..., 0], rtol=1e-12, atol=1e-12)


def test_adjoint_batch_is_a_number_of_independent_systems() -> None:
    """The gradient of one sample's inputs does not depend on the others."""
    cell, z0, inputs = pair_problem(8)
    layer = DEQ(cell, Broyden(100), Refine(Shine(), BroydenSteps(3)), tol=1e-6)
    together = torch.autograd.grad(loss(layer(z0, *inputs)), inputs)
    alone = torch.autograd.grad(
        loss(layer([t[1:2] for t in z0], *(x[1:2] for x in inputs))), inputs
    )
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found[1], expected[1], rtol=1e-8, atol=1e-10)


def test_opa_is_along_the_gradient_of_the_loss() -> None:
    """Of a classifier after the equilibrium, at the solver's own iterate, in the state's
    structure.
    """
    cell, z0, inputs = pair_problem(9)
    head, labels = normal(17, 4, seed=10).requires_grad_(), torch.tensor([0, 3, 1])
    states = []

    def criterion(z: list[Tensor]) -> Tensor:
        states.append(z)
        return cross_entropy(torch.cat([z[0].flatten(1), z[1]], dim=1) @ head, labels)

    spy = Spy(Shine())
    layer = DEQ(cell, AdjointBroyden(60, opa=2), spy, tol=1e-8)
    criterion(layer(z0, *inputs, loss=criterion)).backward()
    assert len(states) == layer.last.steps // 2 + 1
    assert [t.shape for t in states[0]] == [t.shape for t in z0]
    assert cosine_similarity(spy.adjoint.u, spy.exact).min() > 0.999
