"""Strong Wolfe line search by bracketing and cubic interpolation.

    φ(t) = G(z + t d),    φ'(t) = ∇G(z + t d)ᵀd,    φ'(0) < 0

(Nocedal & Wright 2006, algorithms 3.5 and 3.6.)
"""

import math
from dataclasses import dataclass

from pydantic import PositiveInt

from shine_exp.solvers.objective import Ray

# A change of φ smaller than this times |φ(0)| may come from rounding alone: G is a sum of many
# terms. There the slope decides, which is still accurate ("approximate Wolfe", Hager & Zhang 2005).
ROUNDING = 1e-10


@dataclass(frozen=True)
class _Trial:
    """t, φ(t) and φ'(t)."""

    t: float
    value: float
    slope: float


@dataclass(frozen=True)
class StrongWolfe:
    """A step t with φ(t) ≤ φ(0) + c₁ t φ'(0) and |φ'(t)| ≤ c₂ |φ'(0)|.

    This differs from Nocedal & Wright:

    1. Near the minimum, where φ(0) − φ(t) drowns in rounding, the first condition reads
       φ'(t) ≤ (2c₁ − 1) φ'(0) instead. For a quadratic φ the two are the same.
    2. A trial where φ or φ' is not finite is a step that is too long, not an error.
    3. After `max_trials`, or where the bracket has shrunk to a point, the lowest trial is taken
       if it lies below φ(0).
    """

    c1: float = 1e-4
    c2: float = 0.9
    max_trials: PositiveInt = 25

    def __call__(self, ray: Ray, value: float, slope: float, t: float = 1.0) -> float | None:
        """The step t, or None where no step was found.

        `value` and `slope` are φ(0) and φ'(0) < 0, and `t` is the first trial.
        """
        zero = _Trial(0.0, value, slope)
        # `low` is the lowest trial that decreases φ enough; the minimum lies between it and `high`.
        low, high = zero, None
        for _ in range(self.max_trials):
            trial = _Trial(t, *ray(t))
            if not self._decreases(zero, trial) or (
                low.t > 0 and trial.value > low.value + self._noise(zero)
            ):
                high = trial
            elif abs(trial.slope) <= -self.c2 * slope:
                return t
            else:
                if high is None and trial.slope < 0:
                    low, t = trial, self._extrapolate(low, trial)
                    continue
                if trial.slope * ((high.t if high else math.inf) - low.t) >= 0:
                    high = low
                low = trial
            assert high is not None
            t = self._interpolate(low, high)
            if abs(high.t - low.t) <= 1e-12 * max(low.t, high.t):
                break
        return low.t if low.t > 0 and low.value < value else None

    def _noise(self, zero: _Trial) -> float:
        return ROUNDING * abs(zero.value)

    def _decreases(self, zero: _Trial, trial: _Trial) -> bool:
        if not (math.isfinite(trial.value) and math.isfinite(trial.slope)):
            return False
        if trial.value <= zero.value + self.c1 * trial.t * zero.slope:
            return True
        return (
            # approximate Wolfe
            trial.value <= zero.value + self._noise(zero)
            and trial.slope <= (2 * self.c1 - 1) * zero.slope
        )

    @staticmethod
    def _extrapolate(low: _Trial, trial: _Trial) -> float:
        """The next trial beyond the last one: the minimum of the cubic, within limits.

        It lies at least twice the last advance beyond the last trial, and at most at ten times it.
        """
        t = _cubic_minimum(low, trial)
        least = trial.t + 2 * (trial.t - low.t)
        return min(max(t, least), 10 * trial.t) if math.isfinite(t) else least

    @staticmethod
    def _interpolate(low: _Trial, high: _Trial) -> float:
        """The minimum of the cubic, or the middle of the interval where there is none.

        It is kept a tenth of the interval away from either end, so that the interval shrinks.
        """
        left, right = sorted((low.t, high.t))
        t = math.nan
        if math.isfinite(high.value) and math.isfinite(high.slope):
            t = _cubic_minimum(low, high)
        if not math.isfinite(t):
            return 0.5 * (left + right)
        margin = 0.1 * (right - left)
        return min(max(t, left + margin), right - margin)


def _cubic_minimum(a: _Trial, b: _Trial) -> float:
    """The minimiser of the cubic through both values and slopes; NaN where there is none.

    (Nocedal & Wright 2006, eq. 3.59.)
    """
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.t - a.t)
    denominator = b.slope - a.slope + 2 * d2
    if denominator == 0:
        return math.nan
    return b.t - (b.t - a.t) * (b.slope + d2 - d1) / denominator
