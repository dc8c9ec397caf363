"""Inversion quality in a DEQ: Hᵀd against the exact J⁻ᵀd (Ramzi et al. 2022, figure E2)."""

import math
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from shine_exp.deq.linearisation import Linearisation
from shine_exp.deq.packing import Packing
from shine_exp.deq.report import relative_residual
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.loop import Row
from shine_exp.randomness import generator
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.iterates import RootFunction
from shine_exp.training.images.image_classification import ImageClassification
from shine_exp.training.images.mdeq import MDEQ
from shine_exp.training.train import TOTALS, Train, TrainState
from shine_exp.types import AdjointSystem, Outer, Solution, Solver

EXACT = 1e-6
Values = dict[str, float | int | str]


@dataclass(frozen=True)
class NetworkInversion:
    """A network trained by `train`; then `n_batches` of test images, in float64 and evaluation
    mode.

    Estimates of J⁻¹ at each solver's own z*: "jf", the identity; "shine", from Broyden's method;
    "adjoint_broyden", and "opa", the same with an update along Hᵀ∇L every `opa` steps; all with
    `forward_steps`. Directions d: "prescribed", ∇L(z*), and "random". Each row is a sample: a =
    Hᵀd against b = J⁻ᵀd, solved to 1e-6, or NaN where that failed. `unsolved_inner` and
    `unsolved_backward` count, after the training, what missed its tolerance here.
    """

    train: Train
    forward_steps: PositiveInt
    opa: PositiveInt
    n_batches: PositiveInt
    batch_size: PositiveInt
    exact_steps: PositiveInt

    problem_type = ImageClassification
    needs_gradient = True
    changes_in_place = True
    keeps_state = True  # the trained network
    columns = (
        "sample",
        "estimate",
        "direction",
        "cosine",
        "norm_ratio",
        "forward_residual",
        *TOTALS,
    )

    def length(self, problem: ImageClassification) -> int:
        return self.train.length(problem) + self.n_batches

    def begin(self, problem: ImageClassification, seed: int) -> TrainState:
        return self.train.begin(problem, seed)

    def restore(self, problem: ImageClassification, saved: dict[str, Any]) -> TrainState:
        return self.train.restore(problem, saved)

    def advance(self, problem: ImageClassification, state: TrainState) -> TrainState:
        if state.step < self.train.length(problem):
            return self.train.advance(problem, state)
        state.step += 1
        state.rows = self._compare(problem, state)
        return state

    def diverged(self, state: TrainState) -> bool:
        return self.train.diverged(state)

    def progress(self, state: TrainState) -> dict[str, str]:
        return self.train.progress(state)

    def measure(self, problem: ImageClassification, state: TrainState) -> list[Row]:
        return [{"step": state.step, **row} for row in state.rows]

    def _compare(self, problem: ImageClassification, state: TrainState) -> list[Values]:
        """The rows of the batch of this step."""
        batch = state.step - self.train.length(problem) - 1
        place = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        pixels, labels = (
            part[place].to(problem.device)
            for part in (problem.images.test.pixels, problem.images.test.labels)
        )
        network = deepcopy(state.network).eval().double()
        cell = _Cell(network, problem.images.normalise(pixels).double(), labels)
        drawn = generator(state.seed, state.step)
        random = torch.randn(cell.start.shape, dtype=torch.float64, generator=drawn).to(
            problem.device
        )
        tol = problem.tol * math.sqrt(random.shape[-1])
        solves: list[tuple[tuple[str, ...], Solver[RootFunction], Outer | None]] = [
            (("jf", "shine"), Broyden(self.forward_steps), None),
            (("adjoint_broyden",), AdjointBroyden(self.forward_steps), None),
            (("opa",), AdjointBroyden(self.forward_steps), Outer(cell.loss_gradient, self.opa)),
        ]
        rows: list[Values] = []
        for names, solver, awareness in solves:
            solution = solver(cell.g, cell.start, tol, awareness=awareness)
            state.unsolved_inner = state.unsolved_inner + (~solution.converged).sum()
            rows += self._rows(cell, state, names, solution, random)
        return [row | {f"unsolved_{kind}": n for kind, n in state.unsolved.items()} for row in rows]

    def _rows(
        self,
        cell: "_Cell",
        state: TrainState,
        names: tuple[str, ...],
        solution: Solution,
        random: Tensor,
    ) -> list[Values]:
        """Of the estimates that are taken from one solution."""
        assert solution.estimate is not None
        at = Linearisation(cell.f, solution.z)
        directions = {"prescribed": cell.loss_gradient(solution.z), "random": random}
        exact = {direction: self._exact(at, d) for direction, d in directions.items()}
        residual = relative_residual(solution.residual, solution.z).tolist()
        for u in exact.values():
            state.unsolved_backward = state.unsolved_backward + u.isnan().any(dim=-1).sum()
        rows: list[Values] = []
        for name, (direction, d) in product(names, directions.items()):
            a, b = d if name == "jf" else solution.estimate.rmatvec(d), exact[direction]
            cosine, ratio = (
                torch.cosine_similarity(a, b, dim=-1).tolist(),
                (a.norm(dim=-1) / b.norm(dim=-1)).tolist(),
            )
            for i, values in enumerate(zip(cosine, ratio, residual, strict=True)):
                measured = dict(
                    zip(("cosine", "norm_ratio", "forward_residual"), values, strict=True)
                )
                rows.append({"estimate": name, "direction": direction, "sample": i, **measured})
        return rows

    def _exact(self, at: Linearisation, d: Tensor) -> Tensor:
        """J⁻ᵀd (batch, d), NaN for a sample that was not solved to EXACT."""
        system = AdjointSystem(lambda v: v - at.vjp(v), d, EXACT)
        u = BroydenSteps(self.exact_steps)(system).u
        error = (system.operator(u) - d).norm(dim=-1, keepdim=True)
        return torch.where(error <= 1.01 * EXACT * d.norm(dim=-1, keepdim=True), u, math.nan)


class _Cell:
    """g(z) = z − f(z) of a network on one batch, on packed vectors, and the gradient of each
    sample's loss.
    """

    def __init__(self, network: MDEQ, images: Tensor, labels: Tensor) -> None:
        with torch.no_grad():
            z0, inputs = network.start(images)
        packing = Packing.of(z0)
        self.start = packing.pack(z0)
        self.f = packing.lift(network.equilibrium.cell, *inputs)
        self.loss_gradient = packing.gradient(
            lambda z: cross_entropy(network.head(z), labels, reduction="sum")
        )

    def g(self, z: Tensor) -> Tensor:
        return z - self.f(z)
