"""`compare_gradients` on cells that are not ours, against dense algebra in float64."""

import pytest
import torch
from deq_cells import TanhCell, normal
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from shine_exp import compare_gradients
from shine_exp.deq import DEQ
from shine_exp.deq.gradient_comparison import GradientComparison, GradientQuality
from shine_exp.errors import UserError
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.anderson import Anderson
from shine_exp.solvers.broyden import Broyden
from shine_exp.types import Adjoint, AdjointSystem


class Convolutional(nn.Module):
    """f(z, x) = tanh(conv(z) + x) on images (batch, 2, 4, 4)."""

    shape = (2, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, dtype=torch.float64)
        nn.init.normal_(self.conv.weight, std=0.25)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(z) + x)


class Attention(nn.Module):
    """f(z, x) = x + softmax(z W zᵀ) z V on five tokens of four numbers."""

    shape = (5, 4)

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(normal(4, 4, seed=1))
        self.v = nn.Parameter(0.6 * normal(4, 4, seed=2))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return x + torch.softmax(z @ self.w @ z.mT, dim=-1) @ z @ self.v


class Linear(nn.Module):
    """f(z, x) = W z + x: an eigenvalue −1.3 of W, all others between −0.7 and 0.7."""

    shape = (12,)

    def __init__(self) -> None:
        super().__init__()
        basis, _ = torch.linalg.qr(normal(12, 12, seed=3))
        eigenvalues = torch.linspace(-0.7, 0.7, 12, dtype=torch.float64)
        eigenvalues[0] = -1.3
        self.w = nn.Parameter(basis * eigenvalues @ basis.T)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return z @ self.w.T + x


class Several(nn.Module):
    """f(z, x) = tanh(2 W z) + x / 10, W orthogonal: of several equilibria z0 chooses one."""

    shape = (4,)

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linalg.qr(normal(4, 4, seed=5))[0])

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(2 * z @ self.w.T) + x / 10


CELLS = [Convolutional, Attention, Linear, Several]


def loss(z: Tensor) -> Tensor:
    flat = z.flatten(1)
    return (flat * torch.linspace(1, 2, flat.shape[1], dtype=flat.dtype) - flat**2).sum()


def compared(
    cell: nn.Module, solver=None, start: float = 0.0, **options
) -> tuple[GradientComparison, DEQ, list[Tensor]]:
    layer = DEQ(cell, solver or Broyden(100), JacobianFree(), tol=1e-12, adjoint_tol=1e-12)
    x = normal(4, *cell.shape, seed=9)
    inputs = [torch.full_like(x, start), x]
    return compare_gradients(layer, inputs, loss, **options), layer, inputs


@pytest.mark.parametrize("cell", CELLS)
def test_compared_gradients_are_those_of_dense_algebra(cell: type[nn.Module]) -> None:
    """u* from the Jacobian of each sample, and u from the same layer with the method."""
    comparison, layer, (z0, x) = compared(cell())
    assert (comparison.n_unsolved_forward, comparison.n_unsolved_backward) == (0, 0)
    z = layer(z0, x).detach()
    d = z[0].numel()
    jacobians = torch.stack(
        [
            torch.autograd.functional.jacobian(
                lambda v, i=i: layer.cell(v.view(1, *cell.shape), x[i : i + 1]).flatten(),
                z[i].flatten(),
            )
            for i in range(len(z))
        ]
    )
    leaf = z.clone().requires_grad_()
    (r,) = torch.autograd.grad(loss(leaf), leaf)
    r = r.flatten(1)
    truth = torch.linalg.solve(torch.eye(d, dtype=r.dtype) - jacobians.mT, r)
    powers = [r]
    for _ in range(5):
        powers.append(torch.einsum("bij,bi->bj", jacobians, powers[-1]))
    rows = {row.method: row for row in comparison.rows}
    for name, u in (("jf", r), ("neumann 5", sum(powers))):
        cosine = cosine_similarity(u, truth, dim=-1).quantile(0.5)
        error = ((u - truth).norm(dim=-1) / truth.norm(dim=-1)).quantile(0.5)
        assert rows[name].cosine == pytest.approx(float(cosine), abs=1e-9)
        assert rows[name].relative_error == pytest.approx(float(error), rel=1e-8)
    rho = torch.linalg.eigvals(jacobians).abs().amax(dim=-1).median()
    assert comparison.spectral_radius == pytest.approx(float(rho), rel=0.05)
    weights = list(layer.cell.parameters())
    exact = torch.autograd.grad(layer.cell(z, x).flatten(1), weights, truth)
    free = torch.autograd.grad(layer.cell(z, x).flatten(1), weights, r)
    flat = [torch.cat([part.flatten() for part in gradient]) for gradient in (free, exact)]
    cosine = cosine_similarity(*flat, dim=0)
    assert rows["jf"].parameter_cosine == pytest.approx(float(cosine), abs=1e-9)
    error = (flat[0] - flat[1]).norm() / flat[1].norm()
    assert rows["jf"].parameter_error == pytest.approx(float(error), rel=1e-8)


def dense_broyden(j: Tensor, r: Tensor, u: Tensor, h: Tensor, n_steps: int) -> Tensor:
    """The best iterate of "good" Broyden on jᵀu = r, j (d, d), from u (d,) and h ≈ j⁻ᵀ; r for 0."""
    best, g = u, j.T @ u - r
    least = g.norm()
    for _ in range(n_steps):
        step = -h @ g
        u = u + step
        before, g = g, j.T @ u - r
        change = h @ (g - before)
        h = h + torch.outer(step - change, step @ h) / (step @ change)
        if g.norm() < least:
            best, least = u, g.norm()
    return best if best.any() else r


@pytest.mark.parametrize("cell", CELLS)
def test_shine_and_refining_are_those_of_dense_matrices(cell: type[nn.Module]) -> None:
    """u = Hᵀr, H the forward solver's estimate as a matrix, and Broyden's steps from there."""
    systems: list[AdjointSystem] = []

    def watched(system: AdjointSystem) -> Adjoint:
        systems.append(system)
        return Adjoint.unchecked(system.r)

    watched.uses_estimate = True
    steps = Refine(Shine(), BroydenSteps(3))
    methods = {"watched": watched, "shine": Shine(), "refine 3": steps, "full 5": BroydenSteps(5)}
    comparison, *_ = compared(cell(), methods=methods)
    rows = {row.method: row for row in comparison.rows}
    system = systems[0]
    identity = torch.eye(system.r.shape[-1], dtype=torch.float64)
    j = torch.stack([system.operator(e.expand_as(system.r)) for e in identity], dim=1)
    h = torch.stack([system.estimate.matvec(e.expand_as(system.r)) for e in identity], dim=2)
    cosines: dict[str, list[Tensor]] = {"shine": [], "refine 3": [], "full 5": []}
    for j_i, h_i, r in zip(j, h, system.r, strict=True):
        shine = h_i.T @ r
        found = {
            "shine": shine,
            "refine 3": dense_broyden(j_i, r, shine, h_i.T, 3),
            "full 5": dense_broyden(j_i, r, torch.zeros_like(r), identity, 5),
        }
        truth = torch.linalg.solve(j_i.T, r)
        for name, u in found.items():
            cosines[name].append(cosine_similarity(u, truth, dim=0))
    for name, of_samples in cosines.items():
        median = torch.stack(of_samples).quantile(0.5)
        assert rows[name].cosine == pytest.approx(float(median), abs=1e-7)


@pytest.mark.parametrize("cell", CELLS)
def test_advised_method_is_the_cheapest_good_one(cell: type[nn.Module]) -> None:
    comparison, *_ = compared(cell())
    best = comparison.advised
    assert best.cosine >= 0.95
    assert all(row.cosine < 0.95 for row in comparison.rows if row.products < best.products)
    assert comparison.advice.startswith(f"Take {best.method}: cosine {best.cosine:.3f}")
    assert ("diverge" in comparison.advice) == (comparison.spectral_radius >= 1)


def test_methods_fail_where_the_cell_expands() -> None:
    """Neumann's series of an eigenvalue −2 turns the gradient round; refined SHINE has it."""
    comparison, *_ = compared(Several())
    rows = {row.method: row for row in comparison.rows}
    assert comparison.spectral_radius > 1.5
    assert rows["neumann 5"].cosine < 0
    assert rows["refine 3"].cosine > 0.999


def test_comparison_is_at_the_equilibrium_that_the_layer_finds() -> None:
    """Of several equilibria another start finds another one, whose cell has another ρ."""
    radii = [compared(Several(), start=start)[0].spectral_radius for start in (0.0, 0.9)]
    assert abs(radii[0] - radii[1]) > 0.1


def test_compare_gradients_costs_less_than_ten_solved_passes() -> None:
    """In passes through f, each product with Jᵀ being one."""
    for cell in (Convolutional(), Attention(), Linear()):
        n_passes = 0

        def count(*_: object) -> None:
            nonlocal n_passes
            n_passes += 1

        def watch(module: nn.Module, _: object, output: Tensor, count=count) -> None:
            if output.requires_grad:
                output.register_hook(count)

        cell.register_forward_hook(watch)
        comparison, *_ = compared(cell)
        assert 0 < n_passes <= 10 * (comparison.solved.products + 1)


def test_comparing_leaves_the_layer_as_it_was() -> None:
    cell = TanhCell()
    cell.shape = (8,)
    layer = DEQ(cell, Broyden(50), JacobianFree())
    layer.n_unrolled = 3
    x = normal(4, 3, seed=9)
    inverse, before = layer.inverse, {name: w.clone() for name, w in cell.named_parameters()}
    compare_gradients(layer, [torch.zeros(4, 8, dtype=torch.float64), x], loss)
    assert (layer.inverse, layer.n_unrolled, layer.last, layer.warn) == (inverse, 3, None, True)
    assert all(w.grad is None and torch.equal(w, before[n]) for n, w in cell.named_parameters())


def test_methods_can_be_chosen_and_named_inputs_given() -> None:
    layer = DEQ(TanhCell(), AdjointBroyden(50, opa=5), None)
    found = compare_gradients(
        layer,
        [torch.zeros(4, 8, dtype=torch.float64)],
        loss,
        named={"x": normal(4, 3, seed=9)},
        methods={"mine": Shine()},
    )
    assert [row.method for row in found.rows] == ["mine", "solved"]


def test_solver_without_estimate_lacks_shine() -> None:
    comparison, *_ = compared(Convolutional(), solver=Anderson(200))
    names = {row.method for row in comparison.rows}
    assert names == {"jf", "neumann 5", "refine_jf 3", "refine_jf 5", "full 5", "full 10", "solved"}


def test_cell_without_parameters_has_no_gradient_to_compare() -> None:
    cell = Linear().requires_grad_(False)
    with pytest.raises(UserError, match="the cell Linear has no parameter that takes a gradient"):
        compared(cell)


def test_unsolved_passes_are_counted_and_said() -> None:
    comparison, *_ = compared(Attention(), solver=Broyden(2))
    assert comparison.n_unsolved_forward == 4
    assert "4 of 4 samples are at no equilibrium" in comparison.advice
    comparison, *_ = compared(Attention(), exact_steps=2)
    assert comparison.n_unsolved_backward == 4
    assert comparison.advice.startswith("No sample's backward pass was solved in 2 products")


def row(method: str, cosine: float, products: int, parameter: float = 0.99) -> GradientQuality:
    return GradientQuality(method, cosine, 0.1, parameter, 0.1, products, 1.0, 1.0)


def test_without_a_good_method_the_advice_is_to_solve() -> None:
    rows = (row("jf", 0.9, 0), row("full 5", 0.94, 5), row("solved", 1.0, 30))
    comparison = GradientComparison(rows, 0.9, 4, 0, 0)
    assert comparison.advised.method == "solved"
    assert comparison.advice == (
        "Solve the backward pass, 30 products: no other gradient has a cosine of 0.95 with it, the "
        "nearest being full 5 with 0.940; ρ(∂f/∂z) = 0.90."
    )


def test_advice_says_where_few_samples_are_the_batch_s_gradient() -> None:
    rows = (row("jf", 0.97, 0, parameter=0.07), row("solved", 1.0, 30))
    advice = GradientComparison(rows, 0.9, 4, 0, 0).advice
    assert advice.startswith("Take jf: cosine 0.970 and error 0.1 for 0 products")
    assert "but 0.070 is its cosine in the batch's parameter gradient" in advice


def test_memory_is_that_of_the_vectors_that_are_kept() -> None:
    """SHINE's are the directions of the forward solver, one for each of its steps."""
    comparison, layer, inputs = compared(Linear())
    memory = {row.method: row.mebibytes * 2**20 for row in comparison.rows}
    assert memory["jf"] < memory["neumann 5"] < memory["full 5"] < memory["full 10"]
    with torch.no_grad():
        layer(*inputs)
    directions = layer.last.steps * inputs[0].nbytes
    assert memory["shine"] - memory["jf"] >= directions
    assert memory["refine 3"] - memory["refine_jf 3"] >= directions
