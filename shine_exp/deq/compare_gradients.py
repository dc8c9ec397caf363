"""Which backward pass for a cell: each method's gradient beside the solved one."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from shine_exp.deq.contractivity import spectral_radius
from shine_exp.deq.gradient_comparison import SOLVED, GradientComparison, GradientQuality
from shine_exp.deq.layer import DEQ, Loss
from shine_exp.deq.live_memory import LiveMemory
from shine_exp.errors import UserError
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.neumann import Neumann
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.types import Adjoint, AdjointSystem, InverseMethod

METHODS: dict[str, InverseMethod] = {
    "jf": JacobianFree(),
    "shine": Shine(),
    "neumann 5": Neumann(5, scale=1.0),
    "refine_jf 3": Refine(JacobianFree(), BroydenSteps(3)),
    "refine_jf 5": Refine(JacobianFree(), BroydenSteps(5)),
    "refine 3": Refine(Shine(), BroydenSteps(3)),
    "refine 5": Refine(Shine(), BroydenSteps(5)),
    "full 5": BroydenSteps(5),
    "full 10": BroydenSteps(10),
}
POWER_STEPS = 30  # of ρ(∂f/∂z)


def compare_gradients(
    layer: DEQ,
    inputs: Sequence[Any],
    loss: Loss,
    *,
    named: Mapping[str, Any] | None = None,
    methods: Mapping[str, InverseMethod] | None = None,
    exact_steps: int = 200,
) -> GradientComparison:
    """Each method's gradient of `loss` at the equilibrium of a batch, against the solved one.

    The layer is solved once, as in training, by its own solver from `inputs` = (z0, *inputs of the
    cell), and keyword inputs `named`. Then r = ∇L is taken to u ≈ J⁻ᵀr by each of `methods`, by
    default those of `METHODS`, of which a solver without an estimate lacks SHINE's; and to u* with
    Jᵀu* = r by Broyden's method in at most `exact_steps` steps, to a residual of ε^{2/3} ‖r‖, ε
    the rounding unit of z0's type: 4e-11 in float64, in which the comparison is sharpest.

    All methods together make no more products than ten solved backward passes, where one of these
    takes 14 or more. The layer, its `last` and all gradients are left as they were.

    Raises `UserError` where no parameter of the cell takes a gradient.
    """

    def value() -> Tensor:
        return loss(layer(*inputs, loss=loss, **(named or {})))

    return compare_backward_passes(layer, value, methods=methods, exact_steps=exact_steps)


def compare_backward_passes(
    layer: DEQ,
    value: Callable[[], Tensor],
    *,
    methods: Mapping[str, InverseMethod] | None = None,
    exact_steps: int = 200,
) -> GradientComparison:
    """The same of a layer within a network: `value()` is L, a scalar, and calls the layer once."""
    known = METHODS if methods is None else methods
    if not layer.solver.leaves_estimate:
        known = {name: one for name, one in known.items() if not _uses_estimate(one)}
    with _switched(layer) as switch:
        passes = _Passes(layer, switch, value)
        truth = passes.by(_Exact(exact_steps))
        others = {name: passes.by(method) for name, method in known.items()}
        return passes.compared(others, truth)


@dataclass
class _Switch:
    """An inverse method that is another one, `current`, and what that saw and answered last."""

    current: InverseMethod
    uses_estimate: bool
    system: AdjointSystem | None = None
    adjoint: Adjoint | None = None

    def __call__(self, system: AdjointSystem) -> Adjoint:
        self.system = system
        estimate = system.estimate if _uses_estimate(self.current) else None
        self.adjoint = self.current(replace(system, estimate=estimate))
        return self.adjoint


@contextmanager
def _switched(layer: DEQ) -> Iterator[_Switch]:
    """The layer with a method that can be changed; it solves for its equilibrium, and is silent."""
    before = {name: getattr(layer, name) for name in ("inverse", "warn", "n_unrolled", "last")}
    switch = _Switch(JacobianFree(), layer.solver.leaves_estimate)
    layer.inverse, layer.warn, layer.n_unrolled, layer.last = switch, False, None, None
    try:
        yield switch
    finally:
        for name, value in before.items():
            setattr(layer, name, value)


@dataclass(frozen=True)
class _Exact:
    """Broyden's method to a residual of ε^{2/3} ‖r‖, whatever the layer's tolerance."""

    max_steps: int

    def __call__(self, system: AdjointSystem) -> Adjoint:
        tol = torch.finfo(system.r.dtype).eps ** (2 / 3)
        return BroydenSteps(self.max_steps)(replace(system, tol=tol))


@dataclass(frozen=True)
class _Pass:
    """What a backward pass answered, u and (∂f/∂w)ᵀu as one vector, and what it took."""

    adjoint: Adjoint
    parameters: Tensor
    milliseconds: float
    mebibytes: float

    def against(self, truth: "_Pass", name: str, solved: Tensor) -> GradientQuality:
        """A row of the table; u is compared in the samples `solved` (batch,), bool."""
        u, exact = self.adjoint.u[solved], truth.adjoint.u[solved]
        parameters, all_solved = self.parameters, bool(solved.all())
        return GradientQuality(
            name,
            _median(_cosine(u, exact)),
            _median(_error(u, exact)),
            float(_cosine(parameters, truth.parameters)) if all_solved else math.nan,
            float(_error(parameters, truth.parameters)) if all_solved else math.nan,
            self.adjoint.n_products,
            self.milliseconds,
            self.mebibytes,
        )


class _Passes:
    """One recorded forward pass, and any number of backward passes through it."""

    def __init__(self, layer: DEQ, switch: _Switch, value: Callable[[], Tensor]) -> None:
        self.switch = switch
        self.weights = [w for w in layer.cell.parameters() if w.requires_grad]
        if not self.weights:
            raise UserError(
                f"the cell {type(layer.cell).__name__} has no parameter that takes a gradient: "
                "there is none to compare"
            )
        with torch.enable_grad():
            self.value = value()
        assert layer.last is not None, "value() does not call the layer"
        self.report = layer.last

    def by(self, method: InverseMethod) -> _Pass:
        """First with its memory counted, which slows it down, and then with its time taken."""
        self.switch.current = method
        with LiveMemory() as memory:
            self._gradient()
        start = _seconds(self.value.device)
        gradient = self._gradient()
        milliseconds = 1000 * (_seconds(self.value.device) - start)
        system, adjoint = self.switch.system, self.switch.adjoint
        assert system is not None
        assert adjoint is not None
        held = _bytes(system.estimate) if _uses_estimate(method) else 0
        parameters = torch.cat([part.flatten() for part in gradient])
        return _Pass(adjoint, parameters, milliseconds, (memory.peak + held) / 2**20)

    def _gradient(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            self.value, self.weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )

    def compared(self, passes: Mapping[str, _Pass], truth: _Pass) -> GradientComparison:
        system, solved = self.switch.system, truth.adjoint.converged
        assert system is not None
        assert solved is not None
        rho = spectral_radius(
            lambda v: v - system.operator(v),
            system.r,
            POWER_STEPS,
            torch.Generator().manual_seed(0),
        )
        rows = [one.against(truth, name, solved) for name, one in passes.items()]
        return GradientComparison(
            (*rows, truth.against(truth, SOLVED, solved)),
            float(rho.median()),
            len(solved),
            int((~self.report.converged).sum()),
            int((~solved).sum()),
        )


def _uses_estimate(method: InverseMethod) -> bool:
    return bool(getattr(method, "uses_estimate", False))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a, b, dim=-1)


def _error(a: Tensor, b: Tensor) -> Tensor:
    error: Tensor = (a - b).norm(dim=-1) / b.norm(dim=-1)
    return error


def _median(values: Tensor) -> float:
    return statistics.median(values.tolist()) if len(values) else math.nan


def _bytes(estimate: object) -> int:
    """Of the tensors that an estimate holds."""
    return sum(part.nbytes for part in vars(estimate).values() if isinstance(part, Tensor))


def _seconds(device: torch.device) -> float:
    """The time, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
