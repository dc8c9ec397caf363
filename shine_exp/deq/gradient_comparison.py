"""The table of `compare_gradients`, and the advice that follows from it."""

import math
from dataclasses import asdict, dataclass, fields

GOOD_COSINE = 0.95  # of a gradient that may stand for the solved one
SOLVED = "solved"  # the row of the solved backward pass


@dataclass(frozen=True)
class GradientQuality:
    """A method's gradient against the solved one, and what its backward pass took.

    With Jᵀu* = r solved, `cosine` and `relative_error` are medians over the samples of cos(u, u*)
    and ‖u − u*‖ / ‖u*‖; `parameter_cosine` and `parameter_error` the same of the batch's gradient
    (∂f/∂w)ᵀu with respect to the cell's parameters, NaN where a sample was not solved. `products`
    with Jᵀ and `milliseconds` are those of a backward pass; `mebibytes` is the most memory that it
    takes at a time, and that of the forward solver's estimate where it is used.
    """

    method: str
    cosine: float
    relative_error: float
    parameter_cosine: float
    parameter_error: float
    products: int
    milliseconds: float
    mebibytes: float


@dataclass(frozen=True)
class GradientComparison:
    """A row for each method, that of the solved backward pass last.

    `spectral_radius` is the median over the samples of ρ(∂f/∂z) at z*. Of the `n_samples`,
    `n_unsolved_forward` missed the layer's tolerance; `n_unsolved_backward` were not solved
    backward either, and are in no number of a row but its costs.
    """

    rows: tuple[GradientQuality, ...]
    spectral_radius: float
    n_samples: int
    n_unsolved_forward: int
    n_unsolved_backward: int

    @property
    def solved(self) -> GradientQuality:
        return self.rows[-1]

    @property
    def advised(self) -> GradientQuality:
        """Of the methods whose `cosine` is `GOOD_COSINE` or above one with fewest products.

        Of several of these the one with the largest cosine. The solved pass is always among them.
        The parameter gradient does not decide: where J of one sample is nearly singular, that
        sample alone may be the batch's exact gradient.
        """
        good = [row for row in self.rows if row.cosine >= GOOD_COSINE] or [self.solved]
        return min(good, key=lambda row: (row.products, -row.cosine))

    @property
    def advice(self) -> str:
        """What to take, and the numbers that say so, in one line."""
        if self.n_unsolved_backward == self.n_samples:
            return (
                f"No sample's backward pass was solved in {self.solved.products} products, so "
                f"that there is nothing to compare with{self._of_rho()}{self._of_forward()}."
            )
        best, solved = self.advised, self.solved
        if best is solved:
            others = self.rows[:-1]
            nearest = max(others, key=lambda row: row.cosine, default=solved)
            what = (
                f"Solve the backward pass, {solved.products} products: no other gradient has a "
                f"cosine of {GOOD_COSINE:g} with it, the nearest being {nearest.method} with "
                f"{nearest.cosine:.3f}"
            )
        else:
            what = (
                f"Take {best.method}: cosine {best.cosine:.3f} and error "
                f"{best.relative_error:.2g} for {best.products} products, where the solved pass "
                f"takes {solved.products}{_of_parameters(best)}"
            )
        return f"{what}{self._of_rho()}{self._of_forward()}."

    def _of_rho(self) -> str:
        rho = self.spectral_radius
        if rho < 1:
            return f"; ρ(∂f/∂z) = {rho:.2f}"
        return f"; ρ(∂f/∂z) = {rho:.2f}: Neumann's series and unrolling diverge"

    def _of_forward(self) -> str:
        if not self.n_unsolved_forward:
            return ""
        return (
            f"; but {self.n_unsolved_forward} of {self.n_samples} samples are at no equilibrium: "
            "the forward pass needs more steps first"
        )

    def table(self) -> list[dict[str, float | int | str]]:
        """The rows as dicts, ρ in each."""
        return [asdict(row) | {"spectral_radius": self.spectral_radius} for row in self.rows]

    def __str__(self) -> str:
        header = [field.name.replace("_", " ") for field in fields(GradientQuality)]
        lines = [header, *([_shown(value) for value in asdict(row).values()] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*padded, self.advice])


def _of_parameters(row: GradientQuality) -> str:
    if not row.parameter_cosine < GOOD_COSINE:
        return ""
    return (
        f"; but {row.parameter_cosine:.3f} is its cosine in the batch's parameter gradient, which "
        "samples with a nearly singular J outweigh"
    )


def _shown(value: float | int | str) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3g}"
    return str(value)
