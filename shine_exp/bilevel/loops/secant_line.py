"""A secant for one hyperparameter whose hypergradients have errors."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

# What a hypergradient weighs beside the next one.
FADING = 0.7
# A move of α by this share of the largest one says as much of L as all that is known of it.
CLEAR_MOVE = 0.1
# So many hypergradients of one sign in a row lead away from an earlier change of sign.
LEADS_AWAY = 6


@dataclass(frozen=True)
class SecantLine:
    """The line g ≈ ḡ + L (α − ᾱ) through hypergradients g seen so far.

    On the way to the zero, where all g have one sign, it goes through the last one, and L is the
    secant of the last two, within [½, 1.2] times its last value. Around the zero, a secant of two
    noisy g at a short distance says nothing, and one of them may have the wrong sign. After a
    change of sign, the line is therefore the least-squares fit

        L = Σ w (α − ᾱ)(g − ḡ) / Σ w (α − ᾱ)²,    w = FADING^age

    to all g since then, which averages their errors, and small moves hold L where it was.

    `alpha` and `gradient` are the last α and g. `weight` is Σ w, `mean_alpha` and `mean_gradient`
    are ᾱ and ḡ, and `square` and `product` the two sums in L, which is `curvature`. Where h is not
    `convex`, the line has no zero downhill. `n_same_sign` counts the last g with one sign.
    """

    alpha: float
    gradient: float
    curvature: float
    convex: bool = True
    bracketed: bool = False
    n_same_sign: int = 1
    weight: float = 1.0
    mean_alpha: float = 0.0
    mean_gradient: float = 0.0
    square: float = 0.0
    product: float = 0.0

    @staticmethod
    def through(alpha: float, gradient: float) -> "SecantLine":
        """The first line, which is as steep as if its zero lay at the distance 1."""
        curvature = abs(gradient) if abs(gradient) >= 1e-3 else 1.0
        return SecantLine(alpha, gradient, curvature).restarted()

    def restarted(self) -> "SecantLine":
        """The line of the same slope through the last point alone."""
        start = replace(self, bracketed=False, weight=1.0, square=0.0, product=0.0)
        return replace(start, mean_alpha=self.alpha, mean_gradient=self.gradient)

    def updated(self, alpha: float, gradient: float, max_move: float) -> "SecantLine":
        """The line with one more point; `max_move` is the longest move of α."""
        same = gradient * self.gradient > 0
        n_same_sign = self.n_same_sign + 1 if same else 1
        last = replace(self, alpha=alpha, gradient=gradient, n_same_sign=n_same_sign)
        if not same or (self.bracketed and n_same_sign < LEADS_AWAY):
            return last._fitted(max_move)
        move = alpha - self.alpha
        secant = (gradient - self.gradient) / move if move else self.curvature
        curvature = min(max(secant, 0.5 * self.curvature), 1.2 * self.curvature)
        return replace(last, curvature=curvature, convex=secant > 0).restarted()

    def _fitted(self, max_move: float) -> "SecantLine":
        """The fit to the last point too."""
        old = FADING * self.weight
        share = 1 / (old + 1)
        by_alpha, by_gradient = self.alpha - self.mean_alpha, self.gradient - self.mean_gradient
        square = FADING * self.square + old * share * by_alpha**2
        product = FADING * self.product + old * share * by_alpha * by_gradient
        held = (CLEAR_MOVE * max_move) ** 2
        curvature = (product + held * self.curvature) / (square + held)
        return replace(
            self,
            curvature=max(curvature, 0.5 * self.curvature),
            convex=True,
            bracketed=True,
            weight=old + 1,
            mean_alpha=self.mean_alpha + share * by_alpha,
            mean_gradient=self.mean_gradient + share * by_gradient,
            square=square,
            product=product,
        )

    @property
    def step(self) -> float:
        """The way from the last α to the zero, or downhill without end where h is not convex."""
        if not self.convex:
            return -math.copysign(math.inf, self.gradient)
        return self.mean_alpha - self.mean_gradient / self.curvature - self.alpha

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)
