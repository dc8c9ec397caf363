"""Solvers that make all their steps and look at nothing give what solvers that stop early give."""

import pytest
import torch
from deq_cells import TanhCell, normal
from torch import Tensor

from shine_exp.deq import DEQ
from shine_exp.inverse.fallback import Fallback
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.neumann import Neumann
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers import looks
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.anderson import Anderson
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.fixed_point import FixedPoint
from shine_exp.solvers.looks import fixed_steps
from shine_exp.types import Status

PAIRS = {
    "shine": (Broyden(12), Shine()),
    "short_memory": (Broyden(12, memory=3), Shine()),
    "halvings": (Broyden(12, max_halvings=2), Shine()),
    "jf": (Anderson(12), JacobianFree()),
    "full": (Broyden(12), Full(max_steps=12)),
    "full_short_memory": (FixedPoint(12), Full(max_steps=12, memory=4)),
    "refine": (Broyden(12), Refine(Shine(), Full(max_steps=5))),
    "neumann": (Broyden(12), Neumann(5, scale=1.0)),
    "fallback": (Broyden(12), Fallback(1.0)),
    "opa": (AdjointBroyden(12, opa=3), Shine()),
}


def solved(name: str, tol: float) -> tuple[DEQ, list[Tensor]]:
    """A layer after a forward and a backward pass, and their numbers."""
    solver, inverse = PAIRS[name]
    cell, x = TanhCell(gain=0.9), normal(5, 3, seed=1) * torch.logspace(-3, 1, 5)[:, None].double()
    layer = DEQ(cell, solver, inverse, tol=tol, adjoint_tol=tol, warn=False)
    z = layer(normal(5, 8, seed=2), x, loss=lambda z: z.square().sum())
    z.square().sum().backward()
    report = layer.last
    numbers = [z.detach(), report.inner_residual, report.backward_residual]
    return layer, [*numbers, *(p.grad for p in cell.parameters())]


@pytest.mark.parametrize("name", PAIRS)
def test_fixed_steps_give_the_same_numbers_where_no_sample_stops_early(name: str) -> None:
    _, expected = solved(name, tol=0.0)
    with fixed_steps():
        _, found = solved(name, tol=0.0)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", PAIRS)
def test_fixed_steps_leave_samples_that_are_done_as_they_are(name: str) -> None:
    for tol in (1e-1, 1e-3):
        ordinary, expected = solved(name, tol)
        with fixed_steps():
            layer, found = solved(name, tol)
        assert layer.last.steps == 12
        assert torch.equal(layer.last.converged, ordinary.last.converged)
        assert layer.last.status is ordinary.last.status
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert ordinary.last.converged.any(), "some sample was to stop early"


@pytest.mark.parametrize("every", [2, 5])
def test_looks_between_steps_change_only_the_counts(every: int, monkeypatch) -> None:
    ordinary, expected = solved("shine", 1e-1)
    assert ordinary.last.status is Status.CONVERGED
    assert ordinary.last.steps % every, "it was to stop between two looks"
    monkeypatch.setattr("shine_exp.solvers.iterates.steps_between_looks", lambda device: every)
    layer, found = solved("shine", 1e-1)
    assert layer.last.steps == ordinary.last.steps + (-ordinary.last.steps) % every
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_gpus_are_looked_at_every_few_steps() -> None:
    assert looks.steps_between_looks(torch.device("cpu")) == 1
    assert looks.steps_between_looks(torch.device("cuda")) == looks.STEPS_BETWEEN_LOOKS
    with fixed_steps():
        assert looks.steps_between_looks(torch.device("cuda")) is None
