"""The same numbers on a GPU as on the CPU, in float64; skipped where there is no GPU."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from shine_exp import DEQ, AutodiffProblem, hypergradient, run
from shine_exp.bilevel.hypergradients import Implicit
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.sets.synthetic import gaussian
from shine_exp.data.splits import split
from shine_exp.deq import Captured, Uncapturable
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.inverse.full import Full
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.lbfgs import LBFGS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="has no GPU")
SPLITS = split(gaussian(500, 30, seed=0, scaling="none"), 0)
DEVICES = ("cpu", "cuda")


def linear(device: str) -> LinearModel:
    return LinearModel(LogisticLoss(), SPLITS, 3, device)


def autodiff(device: str) -> AutodiffProblem:
    rows = (*SPLITS.train, *SPLITS.outer)
    x, y, x_outer, y_outer = (torch.as_tensor(part, device=device) for part in rows)
    groups = torch.arange(30, device=device) * 3 // 30

    def inner(alpha: Tensor, theta: Tensor) -> Tensor:
        return softplus(-y * (x @ theta)).sum() + 0.5 * (alpha.exp()[groups] * theta) @ theta

    def outer(alpha: Tensor, theta: Tensor) -> Tensor:
        return softplus(-y_outer * (x_outer @ theta)).sum()

    start = {"dtype": torch.float64, "device": device}
    return AutodiffProblem(
        inner,
        outer,
        torch.zeros(3, **start),
        torch.zeros(30, **start),
        pairs=lambda alpha: alpha.exp()[groups],
    )


@pytest.mark.parametrize("problem", [linear, autodiff])
def test_cuda_hypergradient_equals_that_of_the_cpu(problem) -> None:
    values = [
        hypergradient(problem(device), inverse=Full(factor=1.0), tol=1e-12)[0].value.cpu()
        for device in DEVICES
    ]
    torch.testing.assert_close(values[1], values[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("inverse", [Shine(), ConjugateGradient()])
@pytest.mark.parametrize("problem", [linear, autodiff])
def test_cuda_descent_ends_where_that_of_the_cpu_does(problem, inverse) -> None:
    def end(problem: BilevelProblem) -> float:
        descent = Descent(LBFGS(), Implicit(inverse), Schedule("exponential", 1e-3, 0.78))
        state = descent.init(problem, 0)
        for _ in range(descent.n_steps):
            state = descent.step(problem, state)
        assert state.alpha.device == state.theta.device == problem.start()[0].device
        return state.outer_value

    assert end(problem("cuda")) == pytest.approx(end(problem("cpu")), rel=5e-3)


# SHINE's H depends on the solver's path, which rounding changes from one device to another.
@pytest.mark.parametrize(("inverse", "tol"), [(Full(factor=1.0), 1e-8), (Shine(), 0.05)])
def test_cuda_layer_has_the_gradient_of_the_cpu(inverse, tol: float) -> None:
    class Cell(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(20, 20, dtype=torch.float64)

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.tanh(0.5 * self.linear(z) + x)

    cell, x = Cell(), torch.randn(4, 20, dtype=torch.float64)
    gradients = []
    for device in DEVICES:
        layer = DEQ(cell.to(device), Broyden(40), inverse, tol=1e-12, adjoint_tol=1e-12, warn=False)
        layer.zero_grad()
        there = x.to(device)
        layer(torch.zeros_like(there), there).square().sum().backward()
        gradients.append(cell.linear.weight.grad.cpu().clone())
    error = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert float(error) < tol


@pytest.mark.parametrize(
    "overrides",
    [
        ("problem=logreg", "data=gaussian", "method=opa", "outer.n_steps=5"),
        ("problem=mdeq", "method=shine", "outer.epochs=1", "outer.pretrain_steps=10"),
    ],
    ids=["regression", "network"],
)
def test_cuda_run_ends_and_keeps_its_solution(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*overrides, "runtime.device=cuda")
    assert done.status == "done"
    assert done.info["unsolved"]["backward"] == 0
    assert done.trace["test_loss"].iloc[-1] < 2.0
    assert done.solution


@pytest.mark.parametrize("more", [(), ("runtime.compile=on",)], ids=["graph", "compiled"])
def test_cuda_graph_trains_as_single_kernels_do(more, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ("problem=mdeq", "method=shine", "outer.epochs=1", "outer.pretrain_steps=5")
    losses = []
    for graph in ("off", "on"):
        options = (f"runtime.graph={graph}", f"runtime.results={graph}", *more)
        done = run(*overrides, "runtime.device=cuda", *options)
        assert done.status == "done"
        losses.append(done.trace["train_loss"].iloc[-1])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_cuda_captured_step_that_waits_is_refused() -> None:
    with pytest.raises(Uncapturable, match="read back"):
        Captured(lambda x: x if x.sum() > 0 else -x)(torch.ones(2, device="cuda"))


def test_cuda_captured_step_is_replayed() -> None:
    captured = Captured(lambda x: torch.cumsum(x, 0))
    for value in range(6):
        x = torch.full((3,), float(value), device="cuda")
        assert captured(x).tolist() == [value, 2 * value, 3 * value]
