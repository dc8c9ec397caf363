"""scripts/bench_deq.py without TorchDEQ: it runs, and counts and residuals that it finds are those of the layer."""

import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from hydra.utils import instantiate

from shine_exp.problems.deq import DEQ


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the script takes by default."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("spec", "vjps"), [("shine", "0+1"), ("refine", "0+7")])
def test_the_audit_agrees_with_the_report_of_the_layer(
    script: Callable[[str], ModuleType], spec: str, vjps: str
) -> None:
    contenders, measures = script("deq_contenders"), script("deq_measures")
    at, steps = contenders.setting("micro", 2, 1, "cpu"), "problem.model.forward_steps=6"
    checked = measures.check(contenders.ours(at, "micro", spec, steps), at)
    assert (checked.evals, checked.vjps) == ("8+0", vjps)

    config = contenders.configuration("micro", spec, steps)
    layer = DEQ(at.cell, instantiate(config.solver), instantiate(config.method.inverse), tol=0.0, adjoint_tol=0.0)
    torch.autograd.backward(layer(at.start, at.injection), at.r)
    torch.testing.assert_close(checked.forward, layer.last.forward_residual, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(checked.backward, layer.last.backward_residual, rtol=1e-3, atol=1e-5)


def test_the_script_prints_its_table_without_a_peer(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", "micro", "--batch", "2", "--methods", "full,jf", "--repeats", "1", "--pretrain", "0"]
    monkeypatch.setattr(sys, "argv", ["bench_deq.py", *arguments, "--no-peer"])
    script("bench_deq").main()
    printed = capsys.readouterr().out
    assert sum(row.startswith(("full ", "jf ", "one vjp")) for row in printed.split("\n")) == 6  # 2 on memory
    assert "torchdeq" not in printed
