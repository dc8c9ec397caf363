"""scripts/bench/deq.py without TorchDEQ: it runs, and finds what the layer reports."""

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from hydra.utils import instantiate

from shine_exp.deq import DEQ


@pytest.mark.parametrize(("spec", "vjps"), [("shine", "0+1"), ("refine", "0+7")])
def test_the_audit_agrees_with_the_report_of_the_layer(
    script: Callable[[str], ModuleType], spec: str, vjps: str
) -> None:
    contenders, measures = script("bench/deq_contenders"), script("bench/deq_measures")
    at, steps = contenders.setting("micro", 2, 0, "cpu"), "solver.max_steps=6"
    exact = torch.ones(sum(leaf.nelement() for leaf in at.leaves()))
    checked = measures.check(contenders.ours(at, "micro", spec, steps), at, exact)
    assert (checked.evals, checked.vjps) == ("8+0", vjps)

    config = contenders.configuration("micro", spec, steps)
    layer = DEQ(
        at.cell,
        instantiate(config.solver),
        instantiate(config.method),
        tol=0.0,
        adjoint_tol=0.0,
    )
    torch.autograd.backward(layer(at.start, at.injection), at.r)
    torch.testing.assert_close(checked.forward, layer.last.forward_residual, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(checked.backward, layer.last.backward_residual, rtol=1e-3, atol=1e-5)


class Contraction(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(0.5 * torch.eye(6) + 0.05 * torch.ones(6, 6))

    def forward(self, z: list[torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.tanh(z[0] @ self.weight + x)]


class Shift(Contraction):
    """Has no fixed point."""

    def forward(self, z: list[torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
        return [z[0] + x.abs() + self.weight.abs().sum()]


def test_the_exact_gradient_is_that_of_the_unrolled_iteration_or_nan(
    script: Callable[[str], ModuleType],
) -> None:
    contenders, measures = script("bench/deq_contenders"), script("bench/deq_measures")
    cell, start = Contraction(), [torch.zeros(3, 6)]
    at = contenders.Setting(cell, start, torch.randn(3, 6).requires_grad_(), [torch.randn(3, 6)])
    exact = measures.exact_gradient(at)
    z = start
    for _ in range(100):
        z = cell(z, at.injection)
    torch.autograd.backward(z, at.r)
    unrolled = torch.cat([leaf.grad.flatten() for leaf in at.leaves()])
    torch.testing.assert_close(exact, unrolled, rtol=1e-3, atol=1e-4)
    contend = contenders.ours(at, "micro", "full:60", "solver.max_steps=60")
    assert measures.check(contend, at, exact).error < 1e-3
    assert measures.check(contenders.ours(at, "micro", "jf"), at, exact).error > 1e-2
    without = contenders.Setting(Shift(), start, at.injection, at.r)
    assert measures.exact_gradient(without).isnan().all()


@pytest.mark.slow  # most of it is the exact gradient, in float64
def test_the_script_prints_its_table_without_a_peer(
    script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "--model",
        "micro",
        "--batch",
        "2",
        "--methods",
        "full,jf",
        "--repeats",
        "1",
        "--pretrain",
        "0",
    ]
    monkeypatch.setattr(sys, "argv", ["bench_deq.py", *arguments, "--no-peer"])
    script("bench/deq").main()
    printed = capsys.readouterr().out
    assert (
        sum(row.startswith(("full ", "jf ", "one vjp")) for row in printed.split("\n")) == 6
    )  # 2 on memory
    assert "torchdeq" not in printed
