"""The inverse estimate of Broyden's good method, in a form that stores only the steps."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from shine_exp.solvers.factor_count import FactorCount
from shine_exp.solvers.iterates import Iterates
from shine_exp.types import InverseEstimate

# Pairs allotted before the first doubling: a long memory costs nothing until it is used.
INITIAL_CAPACITY = 32


class BroydenEstimate:
    """H ≈ J⁻¹ from the directions p₀, p₁, … that the solver went along.

        z_{j+1} = z_j + t_j p_j,    p_j = −H_j g_j,    g_j = g(z_j)

    Broyden's update H + (s − H y) sᵀH / (sᵀH y) with s = t_j p_j and y = g_{j+1} − g_j multiplies
    H_j by one factor made of directions alone:

        w = −H_j g_{j+1},   κ = p_jᵀw / |p_j|²,   τ_j = 1 − t_j,
        p_{j+1} = (w − τ_j κ p_j) / (1 − κ),
        H_{j+1} = (I + (p_{j+1} − τ_j p_j) p_jᵀ / |p_j|²) H_j

    (since H_j y = p_j − w, by Sherman–Morrison; for unit steps Kelley 1995, section 7.3). With the
    rows p̂_j = p_j / |p_j| of P, the rows q_j = ρ_j p̂_{j+1} − τ_j p̂_j of Q and
    ρ_j = |p_{j+1}| / |p_j|, the product of all factors is

        H = (I + Qᵀ L⁻¹ P) H₀,   Hᵀ = H₀ᵀ (I + Pᵀ L⁻ᵀ Q),   L = I − tril(P Qᵀ, −1)

    Neither Q nor a second vector per pair is stored: the n + 1 directions (batch, n + 1, d) of n
    pairs are half of what rank-one factors a_j b_jᵀ take, and are read twice to apply H. Where the
    memory is full, running samples restart from H₀.
    """

    def __init__(self, initial: InverseEstimate, iterates: Iterates, memory: int) -> None:
        z = iterates.z
        self.initial = initial
        self._factors = FactorCount(len(z), memory, z.device)
        n = min(memory, INITIAL_CAPACITY)
        self._directions = z.new_zeros(len(z), n + 1, z.shape[-1])  # p̂_j
        self._length = z.new_zeros(len(z), 1)  # |p_j| of the latest direction
        self._rho = z.new_zeros(len(z), n)
        self._tau = z.new_zeros(len(z), n)
        self._triangle = z.new_zeros(len(z), n, n)  # L below its unit diagonal

    @property
    def count(self) -> Tensor:
        """The number of secant pairs in the H of each sample, (batch,)."""
        return self._factors.count

    def matvec(self, v: Tensor) -> Tensor:
        """H v, (..., d) → (..., d), in new memory whatever H₀ is."""
        x = self.initial.matvec(v).reshape(len(self._rho), -1)
        along = _row_product(x, self._directions[:, : self._factors.extent])
        return self._apply(x, along).reshape(v.shape)

    def _apply(self, x: Tensor, along_directions: Tensor) -> Tensor:
        """(I + Qᵀ L⁻¹ P) x (batch, d) from x and P x (batch, n)."""
        n = along_directions.shape[-1]
        c = torch.linalg.solve_triangular(
            self._triangle[:, :n, :n], along_directions[..., None], upper=False, unitriangular=True
        )
        # L is lower triangular, so factors that a sample does not own cannot reach those that it
        # does: they are masked after the solve.
        c = torch.where(self._factors.valid(), c[..., 0], 0.0)
        # Qᵀc as weights of the directions: q_j is made of p̂_j and p̂_{j+1}.
        weights = x.new_zeros(len(x), 1, n + 1)
        weights[:, 0, 1:] += self._rho[:, :n] * c
        weights[:, 0, :-1] -= self._tau[:, :n] * c
        return torch.baddbmm(x[:, None], weights, self._directions[:, : n + 1])[:, 0]

    def rmatvec(self, v: Tensor) -> Tensor:
        """Hᵀ v, (..., d) → (..., d)."""
        n = self._factors.extent
        x = v.reshape(len(self._rho), -1)
        c = self._along_updates(_row_product(x, self._directions[:, : n + 1]))
        # Solved with Lᵀ, the factors of a sample would see those after them: here the mask comes
        # first.
        c = torch.where(self._factors.valid(), c, 0.0)[:, None]
        c = torch.linalg.solve_triangular(
            self._triangle[:, :n, :n], c, upper=False, left=False, unitriangular=True
        )
        y = torch.baddbmm(x[:, None], c, self._directions[:, :n]).reshape(v.shape)
        return self.initial.rmatvec(y)

    def start(self, iterates: Iterates) -> Tensor:
        """The direction −H₀ g (batch, d) of the active samples, the first of a cycle."""
        p = -self.initial.matvec(iterates.g)
        self._append_direction(0, p, iterates.active)
        return p

    def update(self, iterates: Iterates, t: Tensor) -> Tensor:
        """Make the update of the step t p of the moved samples, t (batch, 1).

        The answer is the next direction (batch, d) of the active samples.
        """
        n = self._factors.next
        if self._factors.full:
            self._factors.restart(iterates.active)
            p = self.start(iterates)
        else:
            self._make_room(n)
            last, length = self._directions[:, n], self._length
            x = self.initial.matvec(iterates.g)
            extent = self._factors.extent
            rows = self._directions[:, : max(extent, n + 1)]
            # P x and P p̂_n together: one pass over the directions rather than two.
            along, row = torch.bmm(torch.stack([x, last], 1), rows.mT).unbind(1)
            p = self._apply(x, along[:, :extent])  # −w
            kappa = _row_product(p, last[:, None]) / -length
            # Where |1 − κ| ≤ √ε the update would make H singular to working precision: H is kept.
            regular = (1 - kappa).abs() > torch.finfo(p.dtype).eps ** 0.5
            scale = torch.where(regular, 1 / (1 - kappa), 1.0)
            backwards = torch.where(regular, (t - 1) * kappa * length * scale, 0.0)
            p.mul_(-scale).addcmul_(backwards, last)
            self._append_direction(n + 1, p, iterates.moved)
            rho = self._length / length
            self._append_factor(n, row[:, : n + 1], rho, 1 - t, regular, iterates.moved)
            self._factors.add(iterates.moved)
        self._factors.mark_best(iterates.improved)
        return p

    def at_best(self) -> "BroydenEstimate":
        """The estimate as it was at the best iterate of each sample: later pairs are dropped."""
        self._factors.roll_back()
        return self

    def _make_room(self, n: int) -> None:
        """Double the rows, as far as the memory goes, where none is left for pair n."""
        rows = self._rho.shape[1]
        if n == rows:
            more = min(rows, self._factors.capacity - rows)
            self._directions = pad(self._directions, (0, 0, 0, more))
            self._rho = pad(self._rho, (0, more))
            self._tau = pad(self._tau, (0, more))
            self._triangle = pad(self._triangle, (0, more, 0, more))

    def _append_factor(
        self, n: int, along: Tensor, rho: Tensor, tau: Tensor, regular: Tensor, updated: Tensor
    ) -> None:
        """Append ρ_n and τ_n, which are 0 where H is kept, and row n of L.

        The row follows from P p̂_n (batch, n + 1) and the ρ and τ of the older factors.
        """
        self._triangle[:, n, :n] = -self._along_updates(along)
        usable = regular & rho.isfinite()
        for column, value in ((self._rho[:, n], rho), (self._tau[:, n], tau)):
            column.copy_(torch.where(updated, torch.where(usable, value, 0.0)[:, 0], column))

    def _append_direction(self, n: int, p: Tensor, updated: Tensor) -> None:
        self._length = p.norm(dim=-1, keepdim=True)
        row = self._directions[:, n]
        unit = p / self._length.clamp_min(torch.finfo(p.dtype).tiny)
        torch.where(updated[:, None] & self._length.isfinite(), unit, row, out=row)

    def _along_updates(self, along_directions: Tensor) -> Tensor:
        """Q v (batch, n) from P v (batch, n + 1)."""
        n = along_directions.shape[-1] - 1
        here, next_one = along_directions[:, :-1], along_directions[:, 1:]
        return self._rho[:, :n] * next_one - self._tau[:, :n] * here


def _row_product(x: Tensor, rows: Tensor) -> Tensor:
    """The inner products (batch, n) of x (batch, d) with rows (batch, n, d).

    As a row times a matrix, which PyTorch's batched product does faster than a matrix times a
    column.
    """
    return torch.bmm(x[:, None], rows.transpose(1, 2))[:, 0]
