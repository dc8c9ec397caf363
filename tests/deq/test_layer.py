"""The equilibrium layer as a module: its output, report, cost, and place in autograd."""

import gc
import math
import weakref

import pytest
import torch
from deq_cells import PairCell, Spy, TanhCell, Watched, normal, pair_problem
from torch import Tensor, nn

from shine_exp.deq import DEQ, unroll
from shine_exp.errors import UserError
from shine_exp.inverse.fallback import Fallback
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.anderson import Anderson
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.fixed_point import FixedPoint
from shine_exp.types import Status

pytestmark = pytest.mark.filterwarnings("ignore::shine_exp.deq.ConvergenceWarning")
FULL = Full(factor=1.0, max_steps=200)


def problem(seed: int = 0) -> tuple[TanhCell, Tensor, Tensor]:
    return TanhCell(seed=seed), torch.zeros(3, 8, dtype=torch.float64), normal(3, 3, seed=seed + 7)


class Counting(nn.Module):
    """A cell, and how often it was evaluated with and without a graph."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.recorded, self.unrecorded = cell, 0, 0

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.recorded += 1
        else:
            self.unrecorded += 1
        return self.cell(z, x)


@pytest.mark.parametrize("solver", [Broyden(5), AdjointBroyden(5), FixedPoint(5)])
def test_output_is_the_cell_at_the_solver_s_point_in_both_modes(solver) -> None:
    cell, z0, x = problem()
    watched = Watched(solver)
    layer = DEQ(cell, watched, JacobianFree())
    output = layer(z0, x)
    assert torch.equal(output, cell(watched.solution.z, x))
    assert output.requires_grad
    with torch.no_grad():
        evaluated = layer(z0, x)
    assert torch.equal(evaluated, output)
    assert (evaluated.requires_grad, evaluated.grad_fn) == (False, None)


def test_layer_evaluation_needs_no_inverse_method() -> None:
    cell, z0, x = problem()
    layer = DEQ(cell, FixedPoint(20), None)
    with torch.no_grad():
        assert layer(z0, x).shape == z0.shape
    with pytest.raises(UserError, match="no_grad"):
        layer(z0, x)


@pytest.mark.parametrize(
    ("solver", "inverse", "says"),
    [
        (
            Anderson(),
            Shine(),
            "Shine uses the solver's inverse estimate and Anderson leaves none: take Broyden",
        ),
        (
            FixedPoint(),
            Refine(Shine(), Full()),
            "Refine uses the solver's inverse estimate and FixedPoint",
        ),
        (AdjointBroyden(opa=0), Shine(), r"AdjointBroyden\.opa=0: take a number of steps"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_layer_is_made(
    solver, inverse, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        DEQ(TanhCell(), solver, inverse)


def test_opa_needs_the_loss() -> None:
    cell, z0, x = problem()
    layer = DEQ(cell, AdjointBroyden(5, opa=2), Shine())
    with pytest.raises(UserError, match=r"opa=2 and needs the loss as a function of z: .*loss="):
        layer(z0, x)
    with torch.no_grad():
        layer(z0, x)


def test_layer_state_keeps_its_structure_shapes_and_memory_format() -> None:
    cell, z0, inputs = pair_problem(seed=0)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            images, vectors = DEQ(cell, Broyden(50), FULL)(z0, *inputs)
        assert (images.shape, vectors.shape) == ((3, 2, 3, 2), (3, 5))
        assert images.stride()[1:] == z0[0].stride()[1:] == (1, 4, 2)
        assert vectors.stride(1) == 1
    cell, z0, x = problem()
    assert isinstance(DEQ(cell, Broyden(50), FULL)(z0, x), Tensor)


def test_layer_memory_format_changes_no_number() -> None:
    cell, z0, inputs = pair_problem(seed=1)
    layer = DEQ(cell, Broyden(100), FULL, tol=1e-13)
    last = layer(z0, *inputs)
    first = layer([t.contiguous() for t in z0], *inputs)
    for a, b in zip(last, first, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_gradcheck_of_the_whole_layer() -> None:
    """With respect to two inputs and all parameters; the start has no influence."""
    cell, z0, inputs = pair_problem(seed=2, batch=2)
    layer = DEQ(cell, Broyden(100), FULL, tol=1e-13, adjoint_tol=1e-12)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def function(x: Tensor, scale: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (z0, x, scale))
        )

    assert torch.autograd.gradcheck(function, (*inputs, *parameters), atol=1e-6, fast_mode=True)


def test_layer_start_gets_no_gradient() -> None:
    cell, z0, x = problem()
    z0.requires_grad_()
    DEQ(cell, Broyden(50), FULL)(z0, x).sum().backward()
    assert z0.grad is None


@pytest.mark.parametrize("max_steps", [2, 50])
def test_report_of_a_solve(max_steps: int) -> None:
    cell, z0, x = problem(seed=1)
    watched, spy = Watched(Broyden(max_steps)), Spy(Full(factor=1.0, max_steps=3))
    layer = DEQ(cell, watched, spy, tol=1e-9)
    output = layer(z0, x)
    z = watched.solution.z.detach()
    torch.testing.assert_close(
        layer.last.forward_residual, ((z - output).norm(dim=-1) / z.norm(dim=-1)).detach()
    )
    assert layer.last.steps == watched.solution.n_steps
    assert layer.last.evals == len(watched.points) == layer.last.steps + 1
    assert layer.last.status is (Status.MAX_STEPS if max_steps == 2 else Status.CONVERGED)
    assert layer.last.backward_residual is None
    (output**2).sum().backward()
    torch.testing.assert_close(layer.last.backward_residual, spy.residual, rtol=1e-9, atol=1e-12)
    assert spy.residual.max() > 1e-4, "a residual of zero shows nothing"
    assert layer.last.products == spy.n_products == 3


def test_layer_tolerance_is_a_root_mean_square_of_each_sample() -> None:
    """The tolerance of the solver is tol √d, whatever the batch."""
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), FULL, tol=1e-4)
    seen = []
    layer.solver = lambda g, z0, tol, **options: (
        seen.append(tol),
        Broyden(50)(g, z0, tol, **options),
    )[1]
    layer(z0, x)
    assert seen == [pytest.approx(1e-4 * math.sqrt(8))]


def test_report_says_which_samples_fell_back() -> None:
    cell, z0, x = problem(seed=3)
    layer = DEQ(cell, Broyden(50), Fallback(ratio=0.0))
    layer(z0, x).sum().backward()
    assert layer.last.fell_back.tolist() == [True] * 3


def test_without_a_backward_pass_the_report_has_no_backward_residual() -> None:
    """`torch.autograd.grad` accumulates nothing, and so measures nothing."""
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), FULL)
    torch.autograd.grad(layer(z0, x).sum(), list(cell.parameters()))
    assert layer.last.backward_residual is None
    assert layer.last.products > 0


def test_layer_backward_twice_doubles_the_gradient() -> None:
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), FULL)
    loss = (layer(z0, x) ** 2).sum()
    loss.backward(retain_graph=True)
    first, residual = cell.weight.grad.clone(), layer.last.backward_residual
    loss.backward()
    torch.testing.assert_close(cell.weight.grad, 2 * first, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.last.backward_residual, residual)


def test_layer_backward_after_a_gradient_that_was_not_accumulated() -> None:
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), Full(factor=1.0, max_steps=3))
    z = layer(z0, x)
    torch.autograd.grad((z**3).sum(), cell.weight, retain_graph=True)
    z.sum().backward()
    found = layer.last.backward_residual
    layer(z0, x).sum().backward()
    torch.testing.assert_close(found, layer.last.backward_residual)


def test_layer_two_losses_on_one_solve_add_up() -> None:
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), FULL, tol=1e-12, adjoint_tol=1e-12)
    z = layer(z0, x)
    z.sum().backward(retain_graph=True)
    (z**2).sum().backward()
    apart = cell.weight.grad.clone()
    cell.zero_grad()
    z = layer(z0, x)
    (z.sum() + (z**2).sum()).backward()
    torch.testing.assert_close(apart, cell.weight.grad, rtol=1e-9, atol=1e-9)


def test_layer_may_be_called_twice_before_the_backward_pass() -> None:
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), FULL, tol=1e-12, adjoint_tol=1e-12)
    (layer(z0, x).sum() + layer(z0, 2 * x).sum()).backward()
    together = cell.weight.grad.clone()
    cell.zero_grad()
    layer(z0, x).sum().backward()
    layer(z0, 2 * x).sum().backward()
    torch.testing.assert_close(together, cell.weight.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("max_steps", [1, 5, 10])
def test_one_evaluation_of_the_cell_has_a_graph(max_steps: int) -> None:
    """Whatever the number of steps: memory does not grow with it."""
    cell, z0, x = problem()
    counting = Counting(cell)
    layer = DEQ(counting, Broyden(max_steps), FULL, tol=0.0)
    layer(z0, x).sum().backward()
    assert (counting.recorded, counting.unrecorded) == (1, layer.last.evals)
    assert layer.last.steps == max_steps


def test_backward_steps_evaluate_no_cell() -> None:
    cell, z0, x = problem()
    counts = []
    for steps in (1, 8):
        counting = Counting(cell)
        layer = DEQ(counting, Broyden(10), Full(factor=1.0, max_steps=steps), adjoint_tol=0.0)
        output = layer(z0, x)
        before = (counting.recorded, counting.unrecorded)
        output.sum().backward()
        counts.append((counting.recorded, counting.unrecorded))
        assert counts[-1] == before
        assert layer.last.products == steps
    assert counts[0] == counts[1]


def test_layer_leaves_no_cycle_behind() -> None:
    """The solver's memory and the graph go when the last reference does, without the garbage
    collector.
    """
    cell, z0, x = problem()
    watched = Watched(Broyden(50))
    layer = DEQ(cell, watched, Shine())
    gc.disable()
    try:
        layer(z0, x).sum().backward()
        left = [weakref.ref(watched.solution.estimate), weakref.ref(watched.solution.z)]
        watched.solution = None
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


def test_unrolled_layer_is_the_cell_applied_so_often() -> None:
    """In both modes, with the gradient of that, and without a report: nothing was solved."""
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), None)
    with torch.no_grad():
        layer(z0, x)
    layer.n_unrolled = 4
    output = layer(z0, x, loss=torch.sum)
    assert layer.last is None
    assert torch.equal(output, unroll(cell, z0, x, n_steps=4))
    assert torch.equal(output, cell(cell(cell(cell(z0, x), x), x), x))
    with torch.no_grad():
        assert torch.equal(layer(z0, x), output)
    (found,) = torch.autograd.grad(output.square().sum(), cell.weight)
    unrolled = unroll(cell, z0, x, n_steps=4)
    assert torch.equal(found, *torch.autograd.grad(unrolled.square().sum(), cell.weight))


def test_unrolled_layer_solves_again_once_it_is_not_unrolled() -> None:
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), FULL)
    solved = layer(z0, x)
    layer.n_unrolled = 1
    layer(z0, x)
    layer.n_unrolled = None
    assert torch.equal(layer(z0, x), solved)
    assert layer.last.status is Status.CONVERGED


@pytest.mark.parametrize("n_steps", [0, -1, 2.0, True, "3"])
def test_unrolled_layer_refuses_what_is_no_number_of_steps(n_steps) -> None:
    cell, z0, x = problem()
    layer = DEQ(cell, Broyden(50), FULL)
    layer.n_unrolled = n_steps
    with pytest.raises(UserError, match=r"n_unrolled=.*: take a number of steps, 1 or more"):
        layer(z0, x)


def test_state_dict_is_that_of_the_cell() -> None:
    assert set(DEQ(PairCell(), Broyden(5), FULL).state_dict()) == {
        f"cell.inner.{n}" for n in TanhCell().state_dict()
    }
