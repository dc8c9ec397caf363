"""Inversion quality in a DEQ: Hᵀd against the exact J⁻ᵀd (Ramzi et al. 2022, figure E2)."""

import math
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from shine_exp.deq.flattening import Flattening
from shine_exp.deq.linearisation import Linearisation
from shine_exp.deq.report import relative_residual
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.loop import Row
from shine_exp.randomness import generator
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.iterates import RootFunction
from shine_exp.training.images.image_classification import ImageClassification
from shine_exp.training.images.mdeq import MDEQ
from shine_exp.training.state import TrainState
from shine_exp.training.train import TOTALS, Train
from shine_exp.types import AdjointSystem, Outer, Solution, Solver

EXACT = 1e-6  # ‖Jᵀu − d‖ / ‖d‖ of what counts as the exact J⁻ᵀd
Values = dict[str, float | int | str]


@dataclass
class InversionState(TrainState):
    """That of the training, and the rows of the batch of this step."""

    rows: list[Values] = field(default_factory=list)


@dataclass(frozen=True)
class NetworkInversion(Train[ImageClassification]):
    """Trains a network as `Train` does; then compares on `n_batches` of `batch_size` test images.

    That is done in float64 and evaluation mode. The estimates H ≈ J⁻¹ at each solver's own z* are
    "jf", the identity; "shine", from Broyden's method; "adjoint_broyden", and "opa", the same with
    an update along Hᵀ∇L every `opa` steps; all with `forward_steps`. The directions d are
    "prescribed", ∇L(z*), and "random". Each row is a sample: a = Hᵀd against b = J⁻ᵀd, solved to
    1e-6 in at most `exact_steps`, or NaN where that failed. `unsolved_inner` and
    `unsolved_backward` count, after the training, what missed its tolerance here.
    """

    forward_steps: PositiveInt
    opa: PositiveInt
    n_batches: PositiveInt
    batch_size: PositiveInt
    exact_steps: PositiveInt

    problem_type: ClassVar[type] = ImageClassification

    def columns(self, task: ImageClassification) -> tuple[str, ...]:
        quality = ("cosine", "norm_ratio", "forward_residual")
        return ("sample", "estimate", "direction", *quality, *TOTALS)

    def length(self, task: ImageClassification) -> int:
        return super().length(task) + self.n_batches

    def init(self, task: ImageClassification, seed: int) -> InversionState:
        return InversionState(**vars(super().init(task, seed)))

    def step(self, task: ImageClassification, state: TrainState) -> TrainState:
        if state.step < super().length(task):
            return super().step(task, state)
        assert isinstance(state, InversionState)
        state.step += 1
        state.rows = self._compare(task, state)
        return state

    def measure(self, task: ImageClassification, state: TrainState) -> list[Row]:
        assert isinstance(state, InversionState)
        return [{"step": state.step, **row} for row in state.rows]

    def _compare(self, task: ImageClassification, state: InversionState) -> list[Values]:
        """The rows of the batch of this step."""
        batch = state.step - super().length(task) - 1
        place = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        pixels, labels = (
            part[place].to(task.device) for part in (task.data.test.pixels, task.data.test.labels)
        )
        network = deepcopy(state.network).eval().double()
        assert isinstance(network, MDEQ)
        cell = _Cell(network, task.data.normalise(pixels).double(), labels)
        drawn = generator(state.seed, state.step)
        random = torch.randn(cell.start.shape, dtype=torch.float64, generator=drawn)
        random = random.to(task.device)
        tol = self.tol * math.sqrt(random.shape[-1])
        with_opa = AdjointBroyden(self.forward_steps, opa=self.opa)
        solves: list[tuple[tuple[str, ...], Solver[RootFunction]]] = [
            (("jf", "shine"), Broyden(self.forward_steps)),
            (("adjoint_broyden",), AdjointBroyden(self.forward_steps)),
            (("opa",), with_opa),
        ]
        rows: list[Values] = []
        for names, solver in solves:
            solution = solver(cell.g, cell.start, tol, outer=Outer(cell.loss_gradient))
            state.count("inner", solution.converged)
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
        solved = {direction: exact(at, d, self.exact_steps) for direction, d in directions.items()}
        residual = relative_residual(solution.residual, solution.z).tolist()
        for u in solved.values():
            state.count("backward", ~u.isnan().any(dim=-1))
        rows: list[Values] = []
        for name, (direction, d) in product(names, directions.items()):
            a = d if name == "jf" else solution.estimate.rmatvec(d)
            b = solved[direction]
            cosine = torch.cosine_similarity(a, b, dim=-1).tolist()
            ratio = (a.norm(dim=-1) / b.norm(dim=-1)).tolist()
            for i in range(len(d)):
                quality: Values = {"cosine": cosine[i], "norm_ratio": ratio[i]}
                place: Values = {"estimate": name, "direction": direction, "sample": i}
                rows.append(place | quality | {"forward_residual": residual[i]})
        return rows


def exact(at: Linearisation, d: Tensor, max_steps: int) -> Tensor:
    """J⁻ᵀd (batch, d), NaN for a sample that was not solved to EXACT."""
    system = AdjointSystem(at.transposed_jacobian(), d, EXACT)
    u = BroydenSteps(max_steps)(system).u
    error = (system.operator(u) - d).norm(dim=-1, keepdim=True)
    return torch.where(error <= 1.01 * EXACT * d.norm(dim=-1, keepdim=True), u, math.nan)


class _Cell:
    """g(z) = z − f(z) of a network on one batch, on vectors, and each sample's ∇L(z)."""

    def __init__(self, network: MDEQ, images: Tensor, labels: Tensor) -> None:
        with torch.no_grad():
            z0, inputs = network.layer_arguments(images)
        flattening = Flattening.of(z0)
        self.start = flattening.flatten(z0)
        self.f = flattening.on_vectors(network.equilibrium.cell, *inputs)
        self.loss_gradient = flattening.gradient(
            lambda z: cross_entropy(network.head(z), labels, reduction="sum")
        )

    def g(self, z: Tensor) -> Tensor:
        return z - self.f(z)
