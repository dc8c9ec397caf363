"""The inverse Hessian of L-BFGS as a linear operator."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import Any, Literal

import torch
from torch import Tensor

from shine_exp.types import PLAIN, InnerProduct

# Rows allotted before the first doubling, where the memory is unlimited.
INITIAL_CAPACITY = 32
# A pair is kept when sᵀy > CURVATURE ‖s‖‖y‖. H is positive definite for any sᵀy > 0, but with a
# smaller one it is rounding that H would be divided by.
CURVATURE = 1e-10


Initial = Literal["scaled", "identity"]


@dataclass(frozen=True)
class Projection:
    """S v and Y v (..., n_pairs), oldest pair first: all that H must know of its pairs for H v."""

    s: Tensor
    y: Tensor


class InverseHessian:
    """H ≈ (∇²G)⁻¹ from the `memory` latest secant pairs (s, y), in the compact form of BFGS.

        H = γI + Sᵀ[R⁻ᵀ(D + γ Y Yᵀ)R⁻¹]S − γ Sᵀ R⁻ᵀ Y − γ Yᵀ R⁻¹ S,
        R = triu(S Yᵀ),    D = diag(S Yᵀ),    γ = sᵀy / yᵀy, or 1

    γ is that of the newest pair that a step made. The pairs are the rows of S and Y (n_pairs, d),
    oldest first (Byrd, Nocedal & Schnabel 1994, eq. 2.6). The newest pair satisfies the secant
    equation H y = s. Products of vectors, such as S Yᵀ and the S v in H v, are those of
    `inner_product`.

    This differs from SciPy's `LbfgsInvHessProduct`:

    1. The compact form takes the place of the two-loop recursion. The operator is the same, but
       it costs two matrix products per history instead of 2 n_pairs dependent vector operations,
       and S Yᵀ and Y Yᵀ are ready when the next v comes.
    2. H₀ is γI and not I, unless `initial` is "identity".
    3. It takes further pairs, can be shifted to another Hessian, and can be saved to the bit.
    """

    def __init__(
        self,
        memory: int | None,
        initial: Initial = "scaled",
        inner_product: InnerProduct = PLAIN,
    ) -> None:
        self.memory = memory
        self.inner_product = inner_product
        self.scaled = initial == "scaled"
        self.gamma = 1.0
        self._count = 0
        self._oldest = 0
        # S and Y, each (capacity, d), are rings: a new pair overwrites the row of the oldest, where
        # to shift all rows by one would cost a pass over the history in every step. What is small,
        # the n_pairs numbers of a projection, is put in order instead.
        self._history: tuple[Tensor, Tensor] | None = None
        self._sy = self._yy = torch.empty(0, 0)  # triu(S Yᵀ) and Y Yᵀ, oldest pair first
        self._of_step: list[bool] = []  # whether a step made the pair, oldest first

    @classmethod
    def from_pairs(
        cls,
        s: Tensor,
        y: Tensor,
        memory: int | None,
        initial: Initial = "scaled",
    ) -> "InverseHessian":
        """The estimate of the pairs in the rows of s and y (n, d), oldest first.

        It takes two matrix products, not n appends. Of the last `memory` pairs those with clear
        positive curvature are kept.
        """
        estimate = cls(memory, initial)
        estimate._take(s, y, [True] * len(s))
        return estimate

    def __len__(self) -> int:
        return self._count

    def pairs(self) -> tuple[Tensor, Tensor]:
        """S and Y (n, d), oldest first."""
        if self._history is None:
            return torch.empty(0, 0), torch.empty(0, 0)
        s, y = (_unrolled(rows[: self._count], self._oldest) for rows in self._history)
        return s, y

    def project(self, v: Tensor) -> Projection:
        """One pass over the history: (..., d) → two (..., n_pairs), oldest first."""
        if self._history is None:
            empty = v.new_empty(*v.shape[:-1], 0)
            return Projection(empty, empty)
        order = self._order()
        right = self.inner_product.right(v)
        s, y = (
            (right @ self.inner_product.left(rows[: self._count]).T)[..., order]
            for rows in self._history
        )
        return Projection(s, y)

    def matvec(self, v: Tensor, projection: Projection | None = None) -> Tensor:
        """H v, (..., d) → (..., d); a projection of v that is known saves half of the work."""
        if self._history is None:
            return self.gamma * v
        known = projection or self.project(v)
        # H v = γ v + Sᵀc − γ Yᵀa with a = R⁻¹ S v and c = R⁻ᵀ(D a − γ (Y v − Y Yᵀ a)).
        a = _solve(self._sy, known.s, upper=True)
        b = a * self._sy.diagonal() - self.gamma * (known.y - a @ self._yy)
        c = _solve(self._sy.T, b, upper=False)
        age = self._age()
        s, y = (rows[: self._count] for rows in self._history)
        return (self.gamma * v).add_(c[..., age] @ s).sub_((self.gamma * a)[..., age] @ y)

    def rmatvec(self, v: Tensor) -> Tensor:
        """Hᵀ v = H v, (..., d) → (..., d)."""
        return self.matvec(v)

    def append(
        self, s: Tensor, y: Tensor, projection: Projection | None = None, *, of_step: bool = True
    ) -> bool:
        """Add the pair (s, y), each (d,), in place of the oldest one where the memory is full.

        `projection` is that of y, where it is known. A pair without clear positive curvature would
        make H indefinite: it is left out, and the answer is False. A pair that no step made leaves
        γ alone: OPA's e ∝ H∇F lies where the curvature is low, and its γ would make H far too large
        in all directions of which no pair knows.
        """
        sy, yy = self.inner_product(s, y), self.inner_product(y, y)
        if not sy > CURVATURE * torch.sqrt(self.inner_product(s, s) * yy):
            return False
        known = projection or self.project(y)
        kept = slice(1 if self._count == self.memory else 0, None)
        below = torch.zeros_like(known.s[kept])
        self._sy = _bordered(self._sy[kept, kept], below, known.s[kept], sy)
        self._yy = _bordered(self._yy[kept, kept], known.y[kept], known.y[kept], yy)
        self._of_step = [*self._of_step[kept], of_step]
        self._store(s, y)
        if self.scaled and of_step:
            self.gamma = float(sy / yy)
        return True

    def grow(self, at_most: int) -> None:
        """Make room for twice as many pairs, up to `at_most`; the present pairs stay."""
        if self.memory is not None and self.memory < at_most:
            self.memory = min(2 * self.memory, at_most)
            if self._history is not None:
                self._allot(self.memory)

    def copy(self) -> "InverseHessian":
        """The same estimate, to be changed on its own."""
        new = self._like()
        if self._history is not None:
            new._history = self._history
            new._count, new._oldest = self._count, self._oldest
            new._allot(len(self._history[0]))
        new.gamma = self.gamma
        # Never changed in place
        new._sy, new._yy, new._of_step = self._sy, self._yy, self._of_step
        return new

    def shifted(self, diagonal: Tensor) -> "InverseHessian":
        """The estimate of the pairs (s, y + diagonal ∘ s), diagonal (d,) or (1,).

        These are the pairs of the Hessian with diag(diagonal) added to it.
        """
        new = self.copy()
        if new._history is not None:
            s, y = (rows[: self._count] for rows in new._history)
            y.addcmul_(diagonal, s)
            new._measure()
        return new

    def remeasured(self, product: Callable[[Tensor], Tensor]) -> "InverseHessian":
        """The estimate of the pairs (s, product(s)), where `product` is v ↦ ∇²G v today."""
        s, _ = self.pairs()
        new = self._like()
        y = torch.stack([product(step) for step in s]) if len(s) else s
        new._take(s, y, self._of_step)
        return new

    def state_dict(self) -> dict[str, Any]:
        """The whole estimate, as numbers and tensors.

        Rows keep their place in the ring: in another order sums would round differently, and a
        resumed run would not repeat the interrupted one to the bit.
        """
        rows = self._history or ()
        return {
            "memory": self.memory,
            "scaled": self.scaled,
            "n_coefficients": self.inner_product.n_coefficients,
            "gamma": self.gamma,
            "oldest": self._oldest,
            "products": [self._sy, self._yy],
            "of_step": self._of_step,
            "history": [t[: self._count].clone() for t in rows],
        }

    @classmethod
    def from_state_dict(cls, saved: dict[str, Any]) -> "InverseHessian":
        """The estimate whose `state_dict` was saved."""
        inner_product = InnerProduct(saved["n_coefficients"])
        initial: Initial = "scaled" if saved["scaled"] else "identity"
        estimate = cls(saved["memory"], initial, inner_product)
        estimate.gamma = saved["gamma"]
        estimate._sy, estimate._yy = saved["products"]
        estimate._of_step = saved["of_step"]
        if saved["history"]:
            s, y = saved["history"]
            estimate._history = s, y
            estimate._count = len(s)
            estimate._oldest = saved["oldest"]
            estimate._allot(estimate.memory or max(INITIAL_CAPACITY, 2 * len(s)))
        return estimate

    def _like(self) -> "InverseHessian":
        """An empty estimate with the same memory and the same kind of H₀."""
        initial: Initial = "scaled" if self.scaled else "identity"
        return InverseHessian(self.memory, initial, self.inner_product)

    def _take(self, s: Tensor, y: Tensor, of_step: list[bool]) -> None:
        """Forget all pairs, and keep copies of the rows of s and y (n, d) instead."""
        if self.memory is not None:
            s, y, of_step = s[-self.memory :], y[-self.memory :], of_step[-self.memory :]
        self._history = None
        self._of_step = of_step
        self._count = len(s)
        self._oldest = 0
        if len(s):
            self._history = s, y
            self._allot(self.memory or max(INITIAL_CAPACITY, 2 * len(s)))
            self._measure()

    def _measure(self) -> None:
        """Compute S Yᵀ, Y Yᵀ and γ anew, and drop pairs without clear positive curvature."""
        assert self._history is not None
        s, y = (rows[: self._count] for rows in self._history)
        order = self._order()
        square = order[:, None], order
        right = self.inner_product.right(y).T
        sy, yy = ((self.inner_product.left(rows) @ right)[square] for rows in (s, y))
        lengths = self.inner_product.norm(s)[order] * yy.diagonal().sqrt()
        usable = sy.diagonal() > CURVATURE * lengths
        if not usable.all():
            s, y = self.pairs()
            of_step = list(compress(self._of_step, usable.tolist()))
            self._take(s[usable], y[usable], of_step)
            return
        self._sy, self._yy = torch.triu(sy), yy
        if self.scaled and True in self._of_step:
            newest = max(i for i, of_step in enumerate(self._of_step) if of_step)
            self.gamma = float(sy[newest, newest] / yy[newest, newest])

    def _store(self, s: Tensor, y: Tensor) -> None:
        if self._history is None:
            capacity = self.memory or INITIAL_CAPACITY
            self._history = s.new_empty(capacity, len(s)), y.new_empty(capacity, len(y))
        elif self.memory is None and self._count == len(self._history[0]):
            self._allot(2 * self._count)
        if self._count == self.memory:
            slot, self._oldest = self._oldest, (self._oldest + 1) % self._count
        else:
            slot, self._count = self._count, self._count + 1
        self._history[0][slot] = s
        self._history[1][slot] = y

    def _allot(self, capacity: int) -> None:
        """Copy the histories into new memory with `capacity` rows.

        A full ring stays as it is. One that has room left must begin with its oldest pair, since
        the next row that is written is the first free one.
        """
        assert self._history is not None
        oldest = self._oldest if capacity == self._count else 0
        known = [_unrolled(t[: self._count], self._oldest - oldest) for t in self._history]
        new = known[0].new_empty(2, capacity, known[0].shape[1])
        for rows, there in zip(new, known, strict=True):
            rows[: self._count] = there
        self._history, self._oldest = (new[0], new[1]), oldest

    def _order(self) -> Tensor:
        """The row of the ring that holds each pair, oldest pair first."""
        return (torch.arange(self._count) + self._oldest) % max(self._count, 1)

    def _age(self) -> Tensor:
        """The place of each row's pair, counted from the oldest: the inverse of `_order`."""
        return (torch.arange(self._count) - self._oldest) % max(self._count, 1)


def _unrolled(rows: Tensor, first: int) -> Tensor:
    """The rows of a ring, put in order from row `first` on."""
    return rows if first == 0 else torch.cat([rows[first:], rows[:first]])


def _solve(triangle: Tensor, rows: Tensor, upper: bool) -> Tensor:
    """x with triangle x = rows, over the last axis."""
    solution: Tensor = torch.linalg.solve_triangular(triangle, rows.unsqueeze(-1), upper=upper)
    return solution.squeeze(-1)


def _bordered(matrix: Tensor, row: Tensor, column: Tensor, corner: Tensor) -> Tensor:
    """The matrix (n, n) with one more row and column, (n + 1, n + 1)."""
    n = len(row)
    bordered = corner.new_empty(n + 1, n + 1)
    bordered[:n, :n] = matrix
    bordered[n, :n] = row
    bordered[:n, n] = column
    bordered[n, n] = corner
    return bordered
