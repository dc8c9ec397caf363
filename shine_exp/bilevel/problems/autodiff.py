"""A bi-level problem from two functions of tensors; autograd makes the rest.

    ∇²_θθG v = ∇_θ(∇_θGᵀv),    ∇²_αθG u = ∇_α(∇_θGᵀu)    (Pearlmutter 1994)

The functions are G(α, θ) and F(α, θ), smooth scalars; α and θ are tensors, or dicts of tensors.
"""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from shine_exp.bilevel.problem import BilevelProblem, Moved
from shine_exp.bilevel.problems.structure import Structure, Tensors
from shine_exp.errors import UserError
from shine_exp.solvers.objective import Point, Smooth
from shine_exp.types import LinearOperator, SecantEstimate

PAIRS = ("keep", "drop", "measure")
# (α, θ) ↦ a scalar, with α and θ in the structure in which the user gave them.
Loss = Callable[[Any, Any], Tensor]


class AutodiffProblem(BilevelProblem):
    """The problem of `inner` = G and `outer` = F, with `alpha` = α₀ and `theta` = θ₀ for a start.

        min over α of F(α, θ*(α)),    θ*(α) = argmin over θ of G(α, θ)

    α and θ are tensors of any shape, or dicts of tensors, float32 or float64, on any device; G and
    F are called with the like. Both must be deterministic: what is random is drawn once, outside.
    `lower` and `upper` bound every entry of α; for another feasible set override `project`.

    `pairs` says what a move of α does to the solver's secant pairs (s, y): "keep" leaves them as
    they were measured, "drop" forgets them, and "measure" measures them again, at the cost of one
    Hessian product each. Where α enters ∇²_θθG by a diagonal alone, as with a quadratic penalty,
    `pairs` may be the function of α that gives this diagonal, in the structure of θ: each y is
    then shifted by the change of the diagonal times s, which is exact and costs no product.

    `evaluate(α, θ)` gives the columns of the trace; by default this is F, as `outer_loss`.

    Raises `UserError` where a start is no tensor, where a function does not take α and θ, and once
    they are called, where they do not return a scalar that depends on θ.
    """

    def __init__(
        self,
        inner: Loss,
        outer: Loss,
        alpha: Tensors,
        theta: Tensors,
        *,
        lower: float = -torch.inf,
        upper: float = torch.inf,
        pairs: Literal["keep", "drop", "measure"] | Callable[[Any], Tensors] = "keep",
        evaluate: Callable[[Any, Any], dict[str, float]] | None = None,
    ) -> None:
        _check_call("inner", inner, "alpha", "theta")
        _check_call("outer", outer, "alpha", "theta")
        if evaluate is not None:
            _check_call("evaluate", evaluate, "alpha", "theta")
        if callable(pairs):
            _check_call("pairs", pairs, "alpha")
        elif pairs not in PAIRS:
            raise UserError(
                f"AutodiffProblem: pairs={pairs!r}: take {', '.join(PAIRS)}, or a function of α"
            )
        self._inner = inner
        self._outer = outer
        self._evaluate = evaluate
        self.alpha_structure = Structure.of(alpha, "alpha")
        self.theta_structure = Structure.of(theta, "theta")
        # A single tensor keeps its shape; a dict of tensors becomes one vector.
        joined = alpha if isinstance(alpha, Tensor) else self.alpha_structure.flatten(alpha)
        self._alpha0 = joined.detach()
        self._theta0 = self.theta_structure.flatten(theta).detach()
        self.lower, self.upper = lower, upper
        self.pairs: Literal["keep", "drop", "measure"] | Callable[[Any], Tensors] = pairs
        self.device = str(self._theta0.device)
        self._checked = False

    def start(self) -> tuple[Tensor, Tensor]:
        """(α₀, θ₀) as they were given; a dict as one vector."""
        return self._alpha0.clone(), self._theta0.clone()

    def check(self) -> None:
        """Raises `UserError` where autograd sees that θ*(α) does not exist or stands still.

        That is where ∇_θG does not depend on θ, or not on α; or where `pairs` gives no diagonal.
        """
        if self._checked:
            return
        alpha, theta = (t.requires_grad_() for t in self.start())
        gradient = self.inner_gradient(alpha, theta)
        by_alpha = by_theta = None
        if gradient.requires_grad:
            by_alpha, by_theta = torch.autograd.grad(
                gradient, (alpha, theta), torch.ones_like(gradient), allow_unused=True
            )
        if by_theta is None:
            raise UserError(
                "the inner loss is linear in θ, so that it has no minimum: add a term that curves "
                "it, such as 0.5 * theta.square().sum()"
            )
        if by_alpha is None:
            raise UserError(
                "the gradient of the inner loss in θ does not depend on α, so that θ* is the same "
                "at every α: use α in G; AutodiffProblem(G, F, …) takes the inner loss G first, "
                "and then the outer loss F"
            )
        self.outer(alpha, theta).gradient  # noqa: B018
        if callable(self.pairs):
            self._diagonal(alpha.detach())
        self._checked = True

    def inner_loss(self, alpha: Tensor, theta: Tensor) -> Tensor:
        """G(α, θ), θ (d,)."""
        return self._called(self._inner, "inner", alpha, theta)

    def outer_loss(self, alpha: Tensor, theta: Tensor) -> Tensor:
        """F(α, θ), θ (d,)."""
        return self._called(self._outer, "outer", alpha, theta)

    def inner(self, alpha: Tensor, start: Point | None = None) -> Smooth:
        def value_and_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf = theta.detach().requires_grad_()
                value = self.inner_loss(alpha, leaf)
                gradient = self._derivative(value, leaf)
            return value.detach(), gradient

        return Smooth(value_and_gradient)

    def inner_gradient(self, alpha: Tensor, theta: Tensor) -> Tensor:
        with torch.enable_grad():
            theta = theta if theta.requires_grad else theta.detach().requires_grad_()
            value = self.inner_loss(alpha, theta)
            return self._derivative(value, theta, create_graph=True)

    def outer(self, alpha: Tensor, theta: Tensor) -> "AutodiffOuterValue":
        return AutodiffOuterValue(self, alpha, theta)

    def hessian(self, alpha: Tensor, point: Point) -> LinearOperator:
        """v ↦ ∇²_θθG(α, θ) v: one pass backwards per product, through ∇_θG recorded once."""
        return LinearOperator(_RecordedHessian(self, alpha, point.z), symmetric=True)

    def cross(self, alpha: Tensor, theta: Tensor, u: Tensor) -> Tensor:
        alpha = alpha.detach().requires_grad_()
        gradient = self.inner_gradient(alpha, theta.detach())
        (product,) = torch.autograd.grad(gradient, alpha, u, materialize_grads=True)
        return product

    def moved(self, estimate: SecantEstimate, old: Tensor, new: Tensor, theta: Tensor) -> Moved:
        if callable(self.pairs):
            return Moved(estimate.shifted(self._diagonal(new) - self._diagonal(old)))
        if self.pairs == "drop":
            return Moved(None)
        if self.pairs == "keep" or torch.equal(old, new):
            return Moved(estimate.copy())
        hessian = _RecordedHessian(self, new, theta)
        return Moved(estimate.remeasured(hessian), hessian.n_products)

    def as_given(self, alpha: Tensor, theta: Tensor) -> tuple[Tensors, Tensors]:
        """α and θ as G and F are called with them: tensors in their shapes, or dicts."""
        return self._tensors(alpha, theta)

    def evaluate(self, alpha: Tensor, theta: Tensor) -> dict[str, float]:
        if self._evaluate is None:
            return super().evaluate(alpha, theta)
        with torch.no_grad():
            return self._evaluate(*self._tensors(alpha, theta))

    @staticmethod
    def _derivative(value: Tensor, theta: Tensor, create_graph: bool = False) -> Tensor:
        """∇_θ value (d,).

        Raises `UserError` where autograd sees no dependence of the one on the other.
        """
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(
                value, theta, create_graph=create_graph, allow_unused=True
            )
            if gradient is not None:
                return gradient
        raise UserError("the inner loss does not depend on θ, or detaches it")

    def _diagonal(self, alpha: Tensor) -> Tensor:
        """What `pairs` gives at α, as a vector (d,)."""
        assert callable(self.pairs)
        one = self.alpha_structure.names is None
        diagonal = self.pairs(alpha if one else self.alpha_structure.unflatten(alpha))
        shapes = Structure.of(diagonal, "pairs(alpha)")
        if shapes != self.theta_structure:
            raise UserError("pairs(alpha) must have the shape of theta, for which it is a diagonal")
        return self.theta_structure.flatten(diagonal).detach()

    def _tensors(self, alpha: Tensor, theta: Tensor) -> tuple[Tensors, Tensors]:
        one = self.alpha_structure.names is None
        alphas = alpha if one else self.alpha_structure.unflatten(alpha)
        return alphas, self.theta_structure.unflatten(theta)

    def _called(self, loss: Loss, name: str, alpha: Tensor, theta: Tensor) -> Tensor:
        value: object = loss(*self._tensors(alpha, theta))
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"the {name} loss must return one number as a tensor, not {shape}")
        return value.reshape(())


def _check_call(name: str, function: Any, *parameters: str) -> None:
    """Raises `UserError` for what cannot be called with these parameters by position."""
    needed = f"{name}({', '.join(parameters)})"
    if not callable(function):
        kind = type(function).__name__
        raise UserError(f"AutodiffProblem: {name} is a {kind}: take a function {needed}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled, such as torch.exp: nobody knows its parameters
        return
    try:
        signature.bind(*parameters)
    except TypeError as error:
        its_name = getattr(function, "__name__", type(function).__name__)
        raise UserError(
            f"AutodiffProblem: {its_name}{signature} is called as {needed}: give it "
            f"{len(parameters)} parameter{'s' * (len(parameters) > 1)}"
        ) from error


class _RecordedHessian:
    """v ↦ ∇²_θθG(α, θ) v from one recorded gradient, (..., d) → (..., d)."""

    def __init__(self, problem: AutodiffProblem, alpha: Tensor, theta: Tensor) -> None:
        self._problem, self._alpha = problem, alpha.detach()
        self._theta = theta.detach().requires_grad_()
        self.n_products = 0

    @cached_property
    def _gradient(self) -> Tensor:
        return self._problem.inner_gradient(self._alpha, self._theta)

    def __call__(self, v: Tensor) -> Tensor:
        if v.ndim > 1:
            return torch.stack([self(row) for row in v])
        self.n_products += 1
        if not self._gradient.requires_grad:  # G is linear in θ
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(
            self._gradient, self._theta, v, retain_graph=True, materialize_grads=True
        )
        return product


class AutodiffOuterValue:
    """F at (α, θ); both derivatives come from one pass backwards, made when one is needed."""

    def __init__(self, problem: AutodiffProblem, alpha: Tensor, theta: Tensor) -> None:
        self._alpha, self._theta = (t.detach().requires_grad_() for t in (alpha, theta))
        with torch.enable_grad():
            self._value = problem.outer_loss(self._alpha, self._theta)

    @property
    def value(self) -> float:
        return float(self._value.detach())

    @property
    def gradient(self) -> Tensor:
        _, gradient = self._derivatives
        return torch.zeros_like(self._theta).detach() if gradient is None else gradient

    @property
    def direct(self) -> Tensor | None:
        direct, _ = self._derivatives
        return direct

    @cached_property
    def _derivatives(self) -> tuple[Tensor | None, Tensor | None]:
        if not self._value.requires_grad:
            raise UserError("the outer loss depends on neither α nor θ, as far as autograd sees")
        leaves = (self._alpha, self._theta)
        direct, gradient = torch.autograd.grad(
            self._value, leaves, retain_graph=True, allow_unused=True
        )
        return direct, gradient
