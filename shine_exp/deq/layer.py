"""A module as an equilibrium layer: solved forward, differentiated by any inverse method."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shine_exp.deq import advice
from shine_exp.deq.arguments import (
    check_count,
    check_parts,
    check_surroundings,
    check_tolerance,
)
from shine_exp.deq.backward import Backward, ImplicitGradient
from shine_exp.deq.cell_call import check_call
from shine_exp.deq.cell_state import CellState
from shine_exp.deq.flattening import Flattening
from shine_exp.deq.linearisation import Linearisation
from shine_exp.deq.precision import full_precision, in_present_precision
from shine_exp.deq.report import Report
from shine_exp.deq.unroll import unroll
from shine_exp.errors import UserError
from shine_exp.solvers.iterates import RootFunction
from shine_exp.solvers.looks import steps_are_fixed
from shine_exp.types import (
    Adjoint,
    InverseMethod,
    Outer,
    Solution,
    Solver,
    Status,
)

Loss = Callable[[Tensor | list[Tensor]], Tensor]  # of a state, a scalar


class DEQ(nn.Module):
    """z* = f(z*, x) for f = `cell`, and the gradient of a loss L by implicit differentiation,

        w̄ = (∂f/∂w)ᵀ u,   Jᵀu = ∇L(z*),   J = I − ∂f/∂z

    with z* from `solver` and u from `inverse` (Bai et al. 2019; Ramzi et al. 2022, section 2). The
    solver works on g(z) = z − f(z) to ‖g‖ ≤ tol √d for each sample of length d, without a graph.
    One more evaluation of f is recorded, which serves the products with Jᵀ and the parameter
    gradient: what memory grows with, forward and backward, are the vectors that a solver keeps.
    The output is that evaluation, f(z*), in training and under `torch.no_grad` alike.

    `cell(z, *inputs, **named)` maps a tensor, or a list of tensors, each (batch, …), to the like.
    It must be a function of each sample: the same dropout mask in every evaluation (pass it as an
    input), no batch statistics. Without `inverse` it can only be evaluated. A solver whose `opa`
    is set (`AdjointBroyden(opa=5)`) needs to be told L: call the layer with `loss=`.

    While `n_unrolled` is a number, nothing is solved: the cell is applied that many times and
    differentiated as it is, as in the first steps of a training.

    `last` reports on the solves of the last call, None where nothing was solved. A solve that
    misses its tolerance gives a `ConvergenceWarning` and a cell that is no function a
    `CellWarning`, once per layer and process, unless `warn` is False; where `warn_unsolved` is
    False, as for a caller that counts misses in `last`, there is no `ConvergenceWarning`. A
    tolerance of 0 asks for all steps and cannot be missed.
    Gradients of gradients, `torch.func` and forward-mode derivatives are errors. Where a model is
    compiled the layer runs as it is: compile the cell.

    Raises `UserError` for parts or arguments that make no sense or do not go together.
    """

    last: Report | None = None
    n_unrolled: int | None = None

    def __init__(
        self,
        cell: nn.Module,
        solver: Solver[RootFunction],
        inverse: InverseMethod | None,
        *,
        tol: float = 1e-5,
        adjoint_tol: float = 1e-6,
        warn: bool = True,
        warn_unsolved: bool = True,
    ) -> None:
        super().__init__()
        check_parts(cell, solver, inverse)
        check_tolerance("tol", tol)
        check_tolerance("adjoint_tol", adjoint_tol)
        self.cell, self.solver, self.inverse = cell, solver, inverse
        self.tol, self.adjoint_tol, self.warn = tol, adjoint_tol, warn
        self.warn_unsolved = warn_unsolved
        self._advice = advice.Advice(f"DEQ({type(cell).__name__})")

    def forward(
        self, z0: CellState, *inputs: Any, loss: Loss | None = None, **named: Any
    ) -> Tensor | list[Tensor]:
        """f(z*), in the structure of z0.

        `loss(z)` is L as a function of the equilibrium, a scalar, which OPA is to be aware of; an
        input of the cell that has this name is passed by its position.
        """
        if self.n_unrolled is not None:
            check_count("n_unrolled", self.n_unrolled)
            self.last = None
            start = z0 if isinstance(z0, Tensor) else list(z0)
            try:
                return unroll(self.cell, start, *inputs, n_steps=self.n_unrolled, **named)
            except TypeError as error:
                check_call(self.cell, inputs, named, error)
                raise
        if torch.compiler.is_compiling():
            # It would follow the solver's loop, and compile it anew for every number of steps.
            solve: Callable[..., Tensor | list[Tensor]] = torch.compiler.disable(self._forward)
            return solve(z0, inputs, named, loss)
        return self._forward(z0, inputs, named, loss)

    def _forward(
        self, z0: CellState, inputs: tuple[Any, ...], named: dict[str, Any], loss: Loss | None
    ) -> Tensor | list[Tensor]:
        check_surroundings(self.solver)
        training = torch.is_grad_enabled()
        if training and self.inverse is None:
            raise UserError(
                "a DEQ layer without an inverse method gives no gradient: call it under "
                "torch.no_grad()"
            )
        flattening = Flattening.of(z0)
        start = flattening.flatten(z0).detach()
        cell = flattening.on_vectors(self.cell, *inputs, **named)
        f = in_present_precision(cell, start.device.type)
        if self.warn:
            advice.on_cell(self.cell, self._advice)
        outer = self._outer(flattening, loss) if training else None
        solution = self._solve(f, start, outer)
        z, report = solution.z, Report.of(solution)
        # An estimate is as large as all steps of the solver: it goes where nothing will use it.
        uses_estimate = getattr(self.inverse, "uses_estimate", False)
        estimate = solution.estimate if uses_estimate else None
        self.last = report
        del start, solution  # before f is recorded
        if not training:
            image = f(z)
            self._judge(report, z, image)
            return flattening.unflatten(image)
        at = Linearisation(f, z)
        self._judge(report, z, at.image.detach())
        if not self._has_gradient(at):
            return flattening.unflatten(at.image.detach())
        assert self.inverse is not None
        tells = self._tells("backward solve", self.adjoint_tol)
        missed = self._missed_backward if tells else None
        fixed = steps_are_fixed()
        backward = Backward(self.inverse, self.adjoint_tol, at, estimate, report, missed, fixed)
        image = ImplicitGradient.apply(at.give_image(), backward)  # type: ignore[no-untyped-call]
        state = flattening.unflatten(image)
        # Copies, which may be changed in place: f may have saved f(z*) for its own gradient.
        return state.clone() if isinstance(state, Tensor) else [t.clone() for t in state]

    def _solve(self, f: Callable[[Tensor], Tensor], start: Tensor, outer: Outer | None) -> Solution:
        """z* (batch, d) from `start` (batch, d), without a graph."""
        if start.numel() == 0:  # of an empty batch every z is a solution
            return _nothing_to_solve(start)
        tol = self.tol * math.sqrt(start.shape[-1])
        with torch.no_grad(), parametrize.cached(), full_precision(start.device.type):
            self._fill_cache()
            return self.solver(lambda z: z - f(z), start, tol, outer=outer)

    def _fill_cache(self) -> None:
        """Evaluate parametrised weights once per solve, with a graph.

        A caller's own cache serves the recorded evaluation too, and a weight that was cached
        without a graph would lose its gradient there.
        """
        with torch.enable_grad():
            for module in self.cell.modules():
                if parametrize.is_parametrized(module):
                    for name in cast(nn.ModuleDict, module.parametrizations):
                        getattr(module, name)

    def _outer(self, flattening: Flattening, loss: Loss | None) -> Outer | None:
        """What a solver with OPA is told; None for one without."""
        opa = getattr(self.solver, "opa", None)
        if opa is None:
            return None
        if loss is None:
            raise UserError(
                f"the layer's solver has opa={opa} and needs the loss as a function of z: call the "
                "layer with loss=…"
            )
        return Outer(flattening.gradient(loss))

    def _has_gradient(self, at: Linearisation) -> bool:
        """Whether anything but z takes a gradient: a frozen cell is spared its backward solve."""
        on_z, on_more = at.depends()
        if not on_z:
            raise UserError(
                f"the cell {type(self.cell).__name__} does not use its state z, or detaches it"
            )
        # Parameters are asked too: a checkpointed cell hides its own from the graph.
        return on_more or any(parameter.requires_grad for parameter in self.cell.parameters())

    def _tells(self, about: str, tol: float) -> bool:
        """Whether a solve that misses its tolerance is to be told of, which waits for the device.

        Where steps are fixed nothing may wait, and once told it is not told again.
        """
        wanted = self.warn and self.warn_unsolved and tol > 0 and not steps_are_fixed()
        return wanted and not self._advice.was_given(about)

    def _judge(self, report: Report, z: Tensor, image: Tensor) -> None:
        """Warns where the forward solve missed its tolerance; `image` is f(z)."""
        about = "forward solve"
        if self._tells(about, self.tol) and report.status is not Status.CONVERGED:
            self._advice.give(
                about,
                advice.ConvergenceWarning,
                lambda: advice.of_forward_solve(
                    report, self.tol, type(self.solver).__name__, z, image
                ),
            )

    def _missed_backward(self, adjoint: Adjoint, residual: Callable[[], Tensor]) -> None:
        """Warns of a backward solve that missed its tolerance."""
        self._advice.give(
            "backward solve",
            advice.ConvergenceWarning,
            lambda: advice.of_backward_solve(
                adjoint, residual(), self.adjoint_tol, repr(self.inverse)
            ),
        )


def _nothing_to_solve(z: Tensor) -> Solution:
    residual = z.new_zeros(len(z))
    converged = torch.ones_like(residual, dtype=torch.bool)
    return Solution(z, None, residual, 0, 0, Status.CONVERGED, converged, ~converged)
