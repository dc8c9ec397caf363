"""How the inner tolerance falls from one outer step to the next."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import PositiveFloat


@dataclass(frozen=True)
class Schedule:
    """The relative inner tolerance ε_t of the outer steps t = 1, 2, … (Pedregosa 2016, section 5).

    It falls as its `kind` says:

        exponential  ε_t = first · decrease^(t−1)
        quadratic    ε_t = first / t²
        cubic        ε_t = first / t³
        exact        ε_t = 1e-12
    """

    kind: Literal["exponential", "quadratic", "cubic", "exact"]
    first: PositiveFloat
    decrease: Annotated[float, Interval(gt=0, le=1)]

    def __call__(self, t: int) -> float:
        return {
            "exponential": self.first * self.decrease ** (t - 1),
            "quadratic": self.first / t**2,
            "cubic": self.first / t**3,
            "exact": 1e-12,
        }[self.kind]
