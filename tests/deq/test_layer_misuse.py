"""The layer used wrongly: refused where it is called, in the words of its user, or made right."""

import re
from itertools import product

import pytest
import torch
import torch.utils.checkpoint
from deq_cells import Spy, TanhCell, normal, pair_problem
from torch import Tensor, nn
from torch.autograd import forward_ad

from shine_exp.deq import DEQ
from shine_exp.errors import UserError
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.inverse.fallback import Fallback
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.neumann import Neumann
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.anderson import Anderson
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.fixed_point import FixedPoint
from shine_exp.solvers.lbfgs import LBFGS

FULL = Full(factor=1.0, max_steps=200)
DOUBLE = torch.float64
Z0 = torch.zeros(3, 8, dtype=DOUBLE)


class Cell(nn.Module):
    """f(z, *inputs, **named) with one parameter, w."""

    def __init__(self, f) -> None:
        super().__init__()
        self.f, self.w = f, nn.Parameter(torch.tensor(0.5, dtype=DOUBLE))

    def forward(self, z, *inputs, **named):
        return self.f(self.w, z, *inputs, **named)


def problem(**tolerances: float) -> tuple[DEQ, Tensor]:
    return DEQ(TanhCell(), Broyden(50), FULL, **tolerances), normal(3, 3, seed=7)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ((TanhCell(), "broyden", Shine()), r"solver='broyden': take an object such as Broyden\(\)"),
        ((TanhCell(), Broyden, Shine()), r"solver=the class Broyden: take an object"),
        (
            (TanhCell(), Broyden(), Shine),
            r"inverse=the class Shine: take an object such as Shine\(\)",
        ),
        ((TanhCell(), Broyden(), "shine"), r"inverse='shine': take an object"),
        ((TanhCell, Broyden(), Shine()), r"cell=the class TanhCell: take a torch.nn.Module"),
        ((lambda z: z, Broyden(), Shine()), r"cell=<function .*: take a torch.nn.Module"),
        ((TanhCell(), LBFGS(), FULL), "LBFGS finds a minimum"),
        (
            (TanhCell(), Broyden(), ConjugateGradient()),
            "ConjugateGradient needs a symmetric system",
        ),
    ],
)
def test_layer_refuses_parts_that_are_none(parts, says: str) -> None:
    with pytest.raises(UserError, match=says):
        DEQ(*parts)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tol": -1.0}, "tol=-1.0: take a number, 0 or more"),
        ({"tol": float("nan")}, "tol=nan"),
        ({"tol": "1e-5"}, "tol='1e-5'"),
        ({"adjoint_tol": float("inf")}, "adjoint_tol=inf"),
    ],
)
def test_layer_refuses_numbers_that_make_no_sense(options, says: str) -> None:
    with pytest.raises(UserError, match=says):
        DEQ(TanhCell(), AdjointBroyden(), FULL, **options)


@pytest.mark.parametrize("opa", [0, 2.5, True])
def test_layer_refuses_a_solver_whose_opa_is_no_number_of_steps(opa) -> None:
    with pytest.raises(UserError, match=f"AdjointBroyden.opa={opa}: take a number of steps"):
        DEQ(TanhCell(), AdjointBroyden(opa=opa), FULL)


@pytest.mark.parametrize(
    ("z0", "says"),
    [
        (torch.zeros(16), r"z0 is float32 \(16,\) and lacks a batch axis"),
        (torch.zeros(()), r"lacks a batch axis"),
        (
            torch.zeros(3, 8, dtype=torch.int64),
            r"z0 is int64 \(3, 8\): iterates are floating-point numbers",
        ),
        (torch.zeros(3, 8, dtype=torch.bool), "z0 is bool"),
        (torch.zeros(3, 8, dtype=torch.complex64), "z0 is complex64"),
        (
            [torch.zeros(3, 8), torch.zeros(3, 2, dtype=torch.int32)],
            "iterates are floating-point numbers",
        ),
        ([torch.zeros(3, 8), torch.zeros(4, 8)], "its tensors need one batch"),
        ([], r"z0 is \[\]: take a tensor or a list of tensors"),
        ([0.0, 1.0], "take a tensor or a list of tensors"),
        ({"z": torch.zeros(3, 8)}, "z0 is a dict: take a tensor"),
        (None, "z0 is a NoneType: take a tensor"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_layer_refuses_a_start_that_is_no_state(z0, says: str, training: bool) -> None:
    layer, x = problem()
    with torch.set_grad_enabled(training), pytest.raises(UserError, match=says):
        layer(z0, x)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_layer_names_the_input_of_another_batch(batch: int) -> None:
    layer, x = problem()
    with pytest.raises(UserError, match=f"z0 has a batch of {batch}, input 0 of 3"):
        layer(torch.zeros(batch, 8, dtype=DOUBLE), x)
    with pytest.raises(UserError, match=f"z0 has a batch of {batch}, input x of 3"):
        layer(torch.zeros(batch, 8, dtype=DOUBLE), x=x)


def test_layer_one_input_may_be_shared_by_all_samples() -> None:
    layer, x = problem()
    assert layer(Z0, x[:1]).shape == (3, 8)


def test_layer_names_parameters_of_another_type() -> None:
    layer, x = problem()
    with pytest.raises(UserError, match="z0 is float32, the cell's parameters are float64"):
        layer(Z0.float(), x)


def test_layer_names_parameters_on_another_device() -> None:
    layer = DEQ(TanhCell().to("meta"), Broyden(), FULL)
    with pytest.raises(UserError, match="z0 is on cpu, the cell's parameters are on meta"):
        layer(Z0, normal(3, 3, seed=7))


def test_errors_of_the_cell_itself_are_left_as_they_are() -> None:
    def fails(w: Tensor, z: Tensor, x: Tensor) -> Tensor:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        DEQ(Cell(fails), Broyden(), FULL)(Z0, Z0)


@pytest.mark.parametrize(
    ("f", "z0", "found", "expected"),
    [
        (lambda w, z: w * z[:, :4], Z0, "float64 (3, 4)", "float64 (3, 8)"),
        (lambda w, z: w * z.T, Z0, "float64 (8, 3)", "float64 (3, 8)"),
        (lambda w, z: w * z.unflatten(1, (2, 4)), Z0, "float64 (3, 2, 4)", "float64 (3, 8)"),
        (lambda w, z: [w * z], Z0, "[float64 (3, 8)]", "float64 (3, 8)"),
        (lambda w, z: w * z[0], [Z0], "float64 (3, 8)", "[float64 (3, 8)]"),
        (
            lambda w, z: z[::-1],
            [Z0, Z0[:, :5]],
            "[float64 (3, 5), float64 (3, 8)]",
            "[float64 (3, 8), float64 (3, 5)]",
        ),
        (lambda w, z: z[:1], [Z0, Z0], "[float64 (3, 8)]", "[float64 (3, 8), float64 (3, 8)]"),
        (lambda w, z: None, Z0, "a NoneType", "float64 (3, 8)"),
        (lambda w, z: z > 0, Z0, "bool (3, 8)", "float64 (3, 8)"),
        (lambda w, z: z.to(torch.complex128), Z0, "complex128 (3, 8)", "float64 (3, 8)"),
        (lambda w, z: z.double(), Z0.float(), "float64 (3, 8)", "float32 (3, 8)"),
        (
            lambda w, z: [t.double() for t in z],
            [Z0, Z0.float()],
            "[float64 (3, 8), float64 (3, 8)]",
            "float32 (3, 8)]",
        ),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_layer_refuses_a_cell_that_returns_another_state(
    f, z0, found: str, expected: str, training: bool
) -> None:
    with torch.set_grad_enabled(training), pytest.raises(UserError) as raised:
        DEQ(Cell(f), Broyden(), FULL)(z0)
    returned, _, own = str(raised.value).partition(" where its state z is ")
    assert returned == f"the cell Cell returns {found}"
    assert expected in own


@pytest.mark.parametrize("solver", [Broyden(5), FixedPoint(5)])
def test_layer_refuses_a_cell_that_changes_z_in_place(solver) -> None:
    layer = DEQ(Cell(lambda w, z, x: z.mul_(0.5) + w * x), solver, FULL)
    with torch.no_grad(), pytest.raises(UserError, match="changes its state z in place"):
        layer(Z0.clone(), Z0 + 1)


@pytest.mark.parametrize("inverse", [Shine(), JacobianFree(), FULL])
@pytest.mark.parametrize(
    "f", [lambda w, z, x: w * x, lambda w, z, x: w * z.detach() + x, lambda w, z, x: x]
)
def test_layer_refuses_a_cell_that_does_not_use_z(f, inverse) -> None:
    with pytest.raises(UserError, match="does not use its state z, or detaches it"):
        DEQ(Cell(f), Broyden(), inverse)(Z0, Z0 + 1)


def test_layer_states_of_several_types_are_solved_in_the_longest_and_keep_their_own() -> None:
    """To 1e-12, which float32 vectors could not reach; and back in the types of z0."""
    cell, z0, inputs = pair_problem(seed=3)
    reference = DEQ(cell, Broyden(100), FULL, tol=1e-13)([t.double() for t in z0], *inputs)

    class Mixed(nn.Module):
        def forward(self, z: list[Tensor], *inputs: Tensor) -> list[Tensor]:
            return [
                t.to(own.dtype)
                for t, own in zip(cell([t.double() for t in z], *inputs), z, strict=True)
            ]

    layer = DEQ(Mixed(), Broyden(100), FULL, tol=1e-5)
    for order in ((torch.float32, torch.float64), (torch.float64, torch.float32)):
        spy = layer.inverse = Spy(FULL)
        found = layer([t.to(dtype) for t, dtype in zip(z0, order, strict=True)], *inputs)
        assert [t.dtype for t in found] == list(order)
        sum(t.double().sum() for t in found).backward()
        assert spy.system.r.dtype is DOUBLE
        for a, b in zip(found, reference, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_layer_keyword_inputs_get_the_same_gradients_as_positional_ones() -> None:
    cell, z0, (x, scale) = pair_problem(seed=5)
    layer, found = DEQ(cell, Broyden(100), FULL, tol=1e-13, adjoint_tol=1e-12), []
    for arguments, named in (
        ((x, scale), {}),
        ((x,), {"scale": scale}),
        ((), {"scale": scale, "x": x}),
    ):
        loss = sum((t**2).sum() for t in layer(z0, *arguments, **named))
        found.append(torch.autograd.grad(loss, [x, scale, *cell.parameters()]))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


def losses(layer: DEQ, x: Tensor):
    """Linear in z, where r is constant and once_differentiable sees nothing, and not."""
    yield lambda: layer(Z0, x).sum()
    yield lambda: (layer(Z0, x) ** 2).sum()


@pytest.mark.filterwarnings("ignore:Using backward.* with create_graph=True")
@pytest.mark.parametrize("inverse", [FULL, Shine(), JacobianFree()])
@pytest.mark.parametrize("which", ["parameters", "input"])
@pytest.mark.parametrize("loss", [0, 1])
def test_layer_second_derivatives_are_refused(inverse, which: str, loss: int) -> None:
    layer, x = problem()
    layer.inverse = inverse
    x.requires_grad_()
    wanted = list(layer.parameters()) if which == "parameters" else [x]
    value = list(losses(layer, x))[loss]()
    with pytest.raises(UserError, match="no second derivatives"):
        torch.autograd.grad(value, wanted, create_graph=True)
    with pytest.raises(UserError, match="no second derivatives"):
        value.backward(create_graph=True)


def test_layer_every_door_to_second_derivatives_is_shut() -> None:
    layer, x = problem()

    def loss(x: Tensor) -> Tensor:
        return (layer(Z0, x) ** 2).sum()

    for door in (
        lambda: torch.autograd.functional.hessian(loss, x),
        lambda: torch.autograd.functional.hvp(loss, x, x),
        lambda: torch.autograd.functional.jvp(loss, x, x),
        lambda: torch.autograd.gradgradcheck(loss, x.clone().requires_grad_()),
    ):
        with pytest.raises(UserError, match="no second derivatives"):
            door()


def test_second_derivatives_of_what_follows_the_layer_are_there() -> None:
    """A penalty on the gradient of a head takes the layer's first derivative alone."""
    layer, x = problem(tol=1e-13, adjoint_tol=1e-12)
    head = normal(8, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad((layer(Z0, x) @ head).pow(2).sum(), head, create_graph=True)
    (found,) = torch.autograd.grad(gradient.pow(2).sum(), layer.cell.bias)

    def penalty(bias: Tensor) -> float:
        z = torch.func.functional_call(layer, {"cell.bias": bias}, (Z0, x)).detach()
        return float((2 * z.T @ (z @ head.detach())).pow(2).sum())

    h, bias = 1e-5, layer.cell.bias.detach()
    for i, unit in enumerate(torch.eye(8, dtype=DOUBLE)):
        difference = (penalty(bias + h * unit) - penalty(bias - h * unit)) / (2 * h)
        assert float(found[i]) == pytest.approx(difference, rel=1e-5, abs=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # which torch.func.jvp calls
def test_layer_transforms_and_forward_mode_are_refused() -> None:
    layer, x = problem()

    def f(x: Tensor) -> Tensor:
        return layer(torch.zeros(len(x), 8, dtype=DOUBLE), x)

    def dual() -> Tensor:
        with forward_ad.dual_level(), torch.no_grad():
            return f(forward_ad.make_dual(x, x))

    for transformed in (
        lambda: torch.func.vmap(lambda row: f(row[None]))(x),
        lambda: torch.func.grad(lambda x: f(x).sum())(x),
        lambda: torch.func.jvp(f, (x,), (x,)),
        lambda: torch.func.jacrev(f)(x),
        dual,
    ):
        with pytest.raises(UserError, match="does not work under torch"):
            transformed()


@pytest.mark.parametrize("inverse", [FULL, Shine()])
def test_layer_batched_gradients_are_refused(inverse) -> None:
    layer, x = problem()
    layer.inverse = inverse
    with pytest.raises(UserError, match="no batched gradients"):
        torch.autograd.functional.jacobian(lambda x: layer(Z0, x), x, vectorize=True)
    assert torch.autograd.functional.jacobian(lambda x: layer(Z0, x), x).shape == (3, 8, 3, 3)


SOLVERS = [Broyden(9), AdjointBroyden(9), Anderson(9), FixedPoint(9)]
METHODS = [FULL, JacobianFree(), Neumann(3), BroydenSteps(4)]
USING_THE_ESTIMATE = [Shine(), Fallback(), Refine(Shine(), BroydenSteps(3))]
PAIRS = [*product(SOLVERS, METHODS), *product(SOLVERS[:2], USING_THE_ESTIMATE)]


@pytest.mark.parametrize(("solver", "inverse"), PAIRS, ids=lambda part: type(part).__name__)
def test_layer_empty_batch_is_solved_at_no_cost(solver, inverse) -> None:
    cell, x = TanhCell(), torch.zeros(0, 3, dtype=DOUBLE, requires_grad=True)
    layer = DEQ(cell, solver, inverse)
    output = layer(Z0[:0], x)
    output.sum().backward()
    assert output.shape == (0, 8)
    assert x.grad.shape == (0, 3)
    assert all(p.grad.count_nonzero() == 0 for p in cell.parameters())
    assert (
        layer.last.converged.shape
        == layer.last.forward_residual.shape
        == layer.last.backward_residual.shape
        == (0,)
    )
    assert (layer.last.steps, layer.last.products, layer.last.status) == (0, 0, "converged")
    with torch.no_grad():
        assert layer(Z0[:0], x).shape == (0, 8)


def test_layer_inference_mode_serves_every_solver_but_one_that_differentiates() -> None:
    layer, x = problem()
    expected = layer(Z0, x).detach()
    for solver in (Broyden(50), Anderson(50), FixedPoint(200)):
        layer.solver = solver
        with torch.inference_mode():
            torch.testing.assert_close(layer(Z0, x), expected, rtol=1e-4, atol=1e-4)
    layer.solver = AdjointBroyden(50)
    with (
        torch.inference_mode(),
        pytest.raises(UserError, match=r"torch\.inference_mode\(\) forbids: take torch.no_grad"),
    ):
        layer(Z0, x)


@pytest.mark.parametrize("inverse", [FULL, Shine(), JacobianFree()])
def test_layer_output_may_be_changed_in_place(inverse) -> None:
    """Although tanh has saved it for its own gradient."""
    found = []
    for relu in (torch.relu, torch.relu_, nn.ReLU(inplace=True)):
        layer, x = problem()
        layer.inverse = inverse
        relu(layer(Z0, x)).pow(2).sum().backward()
        found.append(layer.cell.weight.grad)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_layer_each_tensor_of_the_output_may_be_changed_in_place() -> None:
    cell, z0, inputs = pair_problem(seed=6)
    layer, found = DEQ(cell, Broyden(100), FULL), []
    for relu in (torch.relu, torch.relu_):
        images, vectors = layer(z0, *inputs)
        loss = (relu(images) ** 2).sum() + (relu(vectors) ** 2).sum()
        found.append(torch.autograd.grad(loss, cell.inner.weight)[0])
    assert torch.equal(*found)


def test_frozen_cell_makes_no_backward_solve() -> None:
    layer, x = problem()
    spy = layer.inverse = Spy(FULL)
    layer.requires_grad_(False)
    output = layer(Z0, x)
    assert not output.requires_grad
    head = nn.Linear(8, 1).double()
    head(output).sum().backward()
    assert spy.n_products == layer.last.products == 0
    with torch.no_grad():
        assert torch.equal(output, layer(Z0, x))


def test_frozen_cell_passes_gradients_to_its_inputs() -> None:
    layer, x = problem(tol=1e-13, adjoint_tol=1e-12)
    layer.requires_grad_(False)
    assert torch.autograd.gradcheck(lambda x: layer(Z0, x), x.requires_grad_(), atol=1e-6)


def test_tensor_that_is_no_parameter_of_the_cell_gets_its_gradient() -> None:
    outside = torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)
    cell = Cell(lambda w, z, x: torch.tanh(outside * z + x))
    cell.requires_grad_(False)
    DEQ(cell, Broyden(50), FULL)(Z0, Z0 + 1).sum().backward()
    assert outside.grad.abs() > 0


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_layer_parameters_behind_a_checkpoint_get_their_gradient(reentrant: bool) -> None:
    """Which hides them from the graph."""
    inner, x = TanhCell(), normal(3, 3, seed=7)

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.utils.checkpoint.checkpoint(self.inner, z, x, use_reentrant=reentrant)

    DEQ(Checkpointed(), Broyden(50), JacobianFree())(Z0, x).sum().backward()
    found = inner.weight.grad.clone()
    inner.zero_grad()
    DEQ(inner, Broyden(50), JacobianFree())(Z0, x).sum().backward()
    torch.testing.assert_close(found, inner.weight.grad)


@pytest.mark.parametrize(
    "loss",
    [lambda z: z, lambda z: 0.0, lambda z: z.detach().sum()],
    ids=["vector", "number", "detached"],
)
def test_opa_refuses_a_loss_that_is_no_scalar_of_z(loss) -> None:
    layer = DEQ(TanhCell(), AdjointBroyden(5, opa=1), Shine())
    with pytest.raises(UserError, match=r"loss\(z\) must be one number that depends on z"):
        layer(Z0, normal(3, 3, seed=7), loss=loss)


@pytest.mark.parametrize("n_unrolled", [None, 2], ids=["solved", "unrolled"])
def test_layer_inputs_that_the_cell_does_not_take_are_named(n_unrolled: int | None) -> None:
    layer = DEQ(TanhCell(), Broyden(5), JacobianFree())
    layer.n_unrolled = n_unrolled
    z0, x = torch.zeros(3, 8, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    says = "the cell TanhCell is called with (z, float64 (3, 3), float64 (3, 3))"
    with pytest.raises(UserError, match=re.escape(says)):
        layer(z0, x, x)
    says = "called with (z, y=float64 (3, 3)), and its forward takes (z, x) beside self: "
    with pytest.raises(UserError, match=re.escape(says)):
        layer(z0, y=x)


def test_layer_cell_that_fails_by_itself_keeps_its_error() -> None:
    class Faulty(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return len(3) + z

    with pytest.raises(TypeError, match=r"object of type 'int' has no len"):
        DEQ(Faulty(), Broyden(5), JacobianFree())(torch.zeros(3, 8))
